"""Calls for one container or one state directory at once, as engines make them."""
import json
import os
import subprocess
import threading

from cases import expect, until
from e2e import registry
from e2e.lifecycle import created, detached

case = registry.case


def together(count, function):
    """Results of `function(i)` on threads that begin at once; an exception is raised again here."""
    results, gate = [None] * count, threading.Barrier(count)

    def body(i):
        gate.wait()
        try:
            results[i] = function(i)
        except BaseException as e:  # pylint: disable=broad-except
            results[i] = e
    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@case(alone=True)
def one_create_of_an_id_wins(env, root):
    bundle = env.bundle("sleep 100", root)
    for _ in range(3):
        cid = env.new_id()

        def create(_):
            with open(env.dir + "/out-%d" % threading.get_ident(), "wb") as out:
                return subprocess.run(env.runsc_argv("create", "--bundle", bundle, cid), stdin=subprocess.DEVNULL,
                                      stdout=out, stderr=out, timeout=60, check=False).returncode
        assert sorted(together(4, create)) == [0, 1, 1, 1]
        assert json.loads(expect(env.runsc("state", cid)).out)["status"] == "created"
        expect(env.runsc("delete", "--force", cid))


@case(alone=True)
def one_start_and_one_delete_win(env, root):
    for _ in range(3):
        cid, _ = created(env, root)
        results = together(4, lambda i, c=cid: env.runsc("start", c))
        assert sorted(r.status for r in results) == [0, 1, 1, 1], results
        assert all("cannot start an already running container" in r.err for r in results if r.status), results
        expect(env.runsc("kill", cid, "KILL"))
        expect(env.runsc("wait", cid), has="137")
        results = together(4, lambda i, c=cid: env.runsc("delete", c))
        assert 0 in [r.status for r in results], results
        assert all("container does not exist" in r.err for r in results if r.status), results
        results = together(4, lambda i, c=cid: env.runsc("delete", "--force", c))
        assert [r.status for r in results] == [0] * 4, results


@case(alone=True)
def forced_deletes_of_a_running_container(env, root):
    for _ in range(3):
        cid, _ = created(env, root)
        expect(env.runsc("start", cid))
        results = together(4, lambda i, c=cid: env.runsc("delete", "--force", c))
        assert [r.status for r in results] == [0] * 4, results
        assert not os.listdir(env.state)


@case(alone=True)
def a_delete_during_create_and_start(env, root):
    """Whoever comes first: no hang, no half of a container."""
    bundle = env.bundle("sleep 100", root)
    for n in range(6):
        cid = env.new_id()
        creation = subprocess.Popen(env.runsc_argv("create", "--bundle", bundle, cid), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda c=cid: os.path.exists(env.state + "/" + c), what="its directory")
        if n % 2:
            start = env.runsc("start", cid)
            assert start.status in (0, 1), start
        expect(env.runsc("delete", "--force", cid))
        assert creation.wait(30) in (0, 1)
        expect(env.runsc("delete", "--force", cid))
        assert cid not in os.listdir(env.state)


@case(alone=True)
def whole_lives_beside_each_other(env, root):
    """Eight at once, while others look: every answer is a whole one."""
    bundle = env.bundle("exit 3", root)
    end = threading.Event()

    def look(command):
        count = 0
        while not end.is_set():
            out = expect(env.runsc(*command), 0, err="").out
            if "json" in command:
                rows = json.loads(out) or []
                assert all(row["status"] in ("creating", "created", "running", "stopped") for row in rows), rows
            count += 1
        return count

    def live(i):
        for _ in range(3):
            cid = "%s-%d-%d" % (env.new_id("p"), i, threading.get_ident() % 9999)
            pid_file = env.dir + "/pid-" + cid
            expect(detached(env, "create", "--bundle", bundle, "--pid-file", pid_file, cid))
            assert json.loads(expect(env.runsc("state", cid)).out)["status"] == "created"
            expect(env.runsc("start", cid))
            expect(env.runsc("wait", cid), has='"exitStatus":3')
            expect(env.runsc("delete", cid))
        return 3

    watchers = []
    for command in (["list", "-f", "json"], ["list", "-q"]):
        watchers.append(threading.Thread(target=lambda c=command: counts.append(look(c))))
    counts = []
    for watcher in watchers:
        watcher.start()
    try:
        assert together(8, live) == [3] * 8
    finally:
        end.set()
        for watcher in watchers:
            watcher.join()
    assert len(counts) == 2 and min(counts) > 3, "a list failed, see above"
    assert not os.listdir(env.state)
