"""Containers that share a sandbox, called as containerd's CRI plugin, CRI-O and podman do."""
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import sandbox
from cases import check_clean, expect, expect_refused, until
from e2e import registry
from e2e.files import Look
from e2e.lifecycle import detached, status_of

case = registry.case

CRI = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")
CRIO = ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")
# Busybox's nc may end before it has sent anything, when the other's standard input has ended: again until it is there.
LISTEN = "while true; do nc -l -p 4000 >>/tmp/got; done"
SEND = "until grep -q %s /tmp/got; do echo %s | nc -w 1 127.0.0.1 4000; sleep 0.05; done"


def create(env, bundle, cid=None):
    """(id, host pid) of a created container."""
    cid = cid or env.new_id()
    pid_file = env.dir + "/pid-" + cid
    expect(detached(env, "create", "--bundle", bundle, "--pid-file", pid_file, cid))
    with open(pid_file) as f:
        return cid, int(f.read())


def pod_bundle(env, root, args, sandbox_id=None, keys=CRI, namespaces=None, edit=None):
    """A bundle with the annotations of a pod's sandbox, or of a container of sandbox_id."""
    def change(config):
        config["annotations"] = {keys[0]: "container" if sandbox_id else "sandbox"}
        if sandbox_id:
            config["annotations"][keys[1]] = sandbox_id
        for row in config["linux"]["namespaces"]:
            if namespaces and row["type"] in namespaces:
                row["path"] = namespaces[row["type"]]
        if "uts" in (namespaces or ()):
            config["hostname"] = ""
        if edit:
            edit(config)
    return env.bundle(args, root, edit=change)


def paths_of(pid, *types):
    return {t: "/proc/%d/ns/%s" % (pid, {"network": "net"}.get(t, t)) for t in types}


def pod(env, root, args="sleep 100", keys=CRI, **kwargs):
    """A pod's running sandbox: (id, host pid)."""
    cid, pid = create(env, pod_bundle(env, root, args, keys=keys, **kwargs))
    expect(env.runsc("start", cid))
    return cid, pid


def member(env, root, args, sandbox_id, pid, shared=("network", "ipc", "uts"), start=True, cid=None, **kwargs):
    """A container of the pod, with the namespaces that CRI plugins share by path: (id, host pid)."""
    cid, own = create(env, pod_bundle(env, root, args, sandbox_id, namespaces=paths_of(pid, *shared), **kwargs), cid)
    if start:
        expect(env.runsc("start", cid))
    return cid, own


def sandboxes(env):
    """Ids of the processes that are a sentry of this environment."""
    found = set()
    for cid in os.listdir(env.state):
        try:
            with open("%s/%s/state.json" % (env.state, cid)) as f:
                found.add(json.load(f)["sentry"]["pid"])
        except FileNotFoundError:
            pass  # it goes just now
    return found - {0}


def gone(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


class ExecLook(Look):
    """The guest program look.c by exec in a container."""

    def __init__(self, env, root, cid):
        if not os.path.exists(root + "/bin/look"):  # never over one that runs
            shutil.copy(env.out + "/tests/e2e/look", root + "/bin/look")
        self.process = subprocess.Popen(env.runsc_argv("exec", cid, "/bin/look"), text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, start_new_session=True)

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):  # the container was killed
            self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def descriptors(env):
    (sentry,) = sandboxes(env)
    return len(os.listdir("/proc/%d/fd" % sentry))


@case()
def containers_of_a_pod(env, root):
    """The order of kubelet and the CRI plugin: sandbox, containers one by one, exec, stop, delete; the sandbox last."""
    box, box_pid = pod(env, root)
    one, one_pid = member(env, root, "hostname pod-name; exec sleep 100", box, box_pid, start=False)
    assert status_of(env, one) == "created" and status_of(env, box) == "running"
    assert one_pid != box_pid and json.loads(env.runsc("state", one).out)["pid"] == one_pid
    assert os.readlink("/proc/%d/ns/net" % one_pid) == os.readlink("/proc/%d/ns/net" % box_pid)
    expect(env.runsc("start", one), 0, "", "")
    two, _ = member(env, root, "echo two >/tmp/mark; sleep 100; exit", box, box_pid)
    assert len(sandboxes(env)) == 1
    until(lambda: env.runsc("exec", one, "hostname").out == "pod-name\n", what="the name")
    expect(env.runsc("exec", two, "hostname"), 0, "pod-name\n")
    until(lambda: env.runsc("exec", two, "cat", "/tmp/mark").out == "two\n", what="the mark")
    expect(env.runsc("exec", one, "ls", "/tmp"), 0, "")
    # Each is alone in its pid namespace.
    for cid in (box, one, two):
        rows = expect(env.runsc("ps", cid)).out.strip().splitlines()[1:]
        assert rows[0].split()[1] == "1" and len(rows) == (2 if cid == two else 1), rows
    expect(env.runsc("kill", one, "KILL"))
    until(lambda: status_of(env, one) == "stopped", what="one stopped")
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 137
    expect(env.runsc("delete", one))
    assert status_of(env, two) == "running" and status_of(env, box) == "running"
    expect(env.runsc("exec", two, "true"))
    # The end of the sandbox is the end of all.
    expect(env.runsc("kill", box, "KILL"))
    until(lambda: status_of(env, two) == "stopped", what="two stopped")
    expect(env.runsc("delete", box))
    expect(env.runsc("delete", two))


@case()
def pod_of_cri_o(env, root):
    box, pid = pod(env, root, keys=CRIO)
    one, _ = member(env, root, "exit 5", box, pid, keys=CRIO)
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 5
    assert len(sandboxes(env)) == 1
    expect(env.runsc("delete", one))
    expect(env.runsc("delete", "--force", box))


@case()
def pod_without_sandbox(env, root):
    refused = env.runsc("create", "--bundle", pod_bundle(env, root, "true", "no-such"), env.new_id())
    expect_refused(refused, "no-such")
    # podman's pods without an infra container: there is none to join.
    cid, _ = create(env, pod_bundle(env, root, "sleep 100", "no-such", keys=CRIO))
    expect(env.runsc("delete", "--force", cid))
    box, _ = pod(env, root)
    expect(env.runsc("kill", box, "KILL"))
    expect_refused(env.runsc("create", "--bundle", pod_bundle(env, root, "true", box), env.new_id()), "stopped")
    expect(env.runsc("delete", box))


@case()
def annotations_of_another_pod(env, root):
    """The author of a pod can write annotations; they are no way into the sandbox of somebody else's."""
    box, pid = pod(env, root)
    # with a network of its own, as a pod's containers have
    refused = env.runsc("create", "--bundle", pod_bundle(env, root, "true", box), env.new_id())
    expect_refused(refused, "another network")
    # beside what the engine itself says

    def forge(config):
        config["annotations"].update({CRI[0]: "container", CRI[1]: box})
    same = pod_bundle(env, root, "true", keys=CRIO, namespaces=paths_of(pid, "network"), edit=forge)
    expect_refused(env.runsc("create", "--bundle", same, env.new_id()), "both container and sandbox")
    # podman's pods that share no network: not an error, and no way in either
    apart, _ = create(env, pod_bundle(env, root, "sleep 100", box, keys=CRIO))
    assert len(sandboxes(env)) == 2
    expect(env.runsc("delete", "--force", apart))
    other, other_pid = pod(env, root, keys=CRIO)
    both = pod_bundle(env, root, "true", other, keys=CRIO, namespaces=paths_of(other_pid, "network"), edit=forge)
    expect_refused(env.runsc("create", "--bundle", both, env.new_id()), "another network")
    for cid in (box, other):
        expect(env.runsc("delete", "--force", cid))


@case()
def failed_create_leaves_the_pod(env, root):
    box, pid = pod(env, root)
    cid, _ = member(env, root, "exit 3", box, pid)
    until(lambda: status_of(env, cid) == "stopped", what="its end")
    expect(env.runsc("delete", cid))
    before = descriptors(env)
    for _ in range(3):
        bundle = pod_bundle(env, root, ["/no/program"], box, namespaces=paths_of(pid, "network"))
        expect_refused(env.runsc("create", "--bundle", bundle, cid), "/no/program", 127)
    one, _ = member(env, root, "exit 3", box, pid, cid=cid)
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 3
    expect(env.runsc("delete", one))
    until(lambda: descriptors(env) <= before, what="descriptors of the sentry back to %d" % before)
    expect(env.runsc("delete", "--force", box))


@case()
def shared_pid_namespace(env, root):
    """shareProcessNamespace: the path of the sandbox's pid namespace."""
    box, pid = pod(env, root, "sleep 123")
    one, _ = member(env, root, "sleep 456", box, pid, ("network", "ipc", "uts", "pid"))
    until(lambda: "456" in env.runsc("exec", box, "ps").out, what="one's process")
    assert "123" in env.runsc("exec", one, "ps").out
    # Signals and listing stay the container's own.
    rows = expect(env.runsc("ps", one)).out
    assert "456" in rows and "123" not in rows, rows
    number = [r.split()[1] for r in env.runsc("ps", box).out.splitlines() if "123" in r][0]
    expect_refused(env.runsc("kill", "--pid", number, one, "KILL"), "no such process")
    left = subprocess.Popen(env.runsc_argv("exec", one, "sleep", "789"), stdin=subprocess.DEVNULL,
                            start_new_session=True)
    until(lambda: "789" in env.runsc("ps", one).out, what="the exec")
    expect(env.runsc("kill", one, "KILL"))
    assert left.wait(10) == 137
    until(lambda: "456" not in env.runsc("exec", box, "ps").out, what="the end of one's processes")
    expect(env.runsc("delete", one))
    expect(env.runsc("delete", "--force", box))


@case()
def namespaces_by_path(env, root):
    """--pid, --ipc, --uts=container:X: no annotation, a path of the container to join."""
    def bundle(pid, args, *types):
        def edit(config):
            for row in config["linux"]["namespaces"]:
                if row["type"] in types:
                    row["path"] = paths_of(pid, row["type"])[row["type"]]
        return env.bundle(args, root, edit=edit)
    box, pid = create(env, env.bundle("sleep 123", root))
    expect(env.runsc("start", box))
    one, one_pid = create(env, bundle(pid, "sleep 456", "pid", "network"))
    expect(env.runsc("start", one))
    until(lambda: "456" in env.runsc("exec", box, "ps").out, what="one's process")
    # by way of a container that joined itself
    two, _ = create(env, bundle(one_pid, "sleep 789", "pid", "ipc", "uts", "network"))
    expect(env.runsc("start", two))
    until(lambda: "789" in env.runsc("exec", box, "ps").out, what="two's process")
    expect(env.runsc("exec", one, "hostname", "other"))
    expect(env.runsc("exec", two, "hostname"), 0, "other\n")
    expect(env.runsc("exec", box, "hostname"), 0, "guest\n")
    assert len(sandboxes(env)) == 1
    # A network alone is no reason to share a sandbox.
    four, _ = create(env, bundle(pid, "sleep 100", "network"))
    assert len(sandboxes(env)) == 2
    refused = env.runsc("create", "--bundle", bundle(pid, "true", "pid", "network"), four)
    expect_refused(refused, "already exists")
    for cid in (four, one, two, box):
        expect(env.runsc("delete", "--force", cid))


@case()
def joined_with_another_network(env, root):
    """--pid=container:X alone: the processes are shared, the network is not; its sockets are of its own namespace."""
    def edit(config):
        for row in config["linux"]["namespaces"]:
            if row["type"] == "pid":
                row["path"] = "/proc/%d/ns/pid" % pid
    box, pid = create(env, env.bundle(LISTEN, root))
    expect(env.runsc("start", box))
    one, one_pid = create(env, env.bundle(LISTEN, root, edit=edit))
    expect(env.runsc("start", one))
    assert os.readlink("/proc/%d/ns/net" % one_pid) != os.readlink("/proc/%d/ns/net" % pid)
    assert os.readlink("/proc/%d/ns/pid" % one_pid) == os.readlink("/proc/%d/ns/pid" % pid)
    # the same port twice, each in its own loopback, seen from inside and on the host
    expect(env.runsc("exec", one, "sh", "-c", SEND % ("one", "one")))
    expect(env.runsc("exec", box, "cat", "/tmp/got"), 0, "")
    expect(env.runsc("exec", box, "sh", "-c", SEND % ("box", "box")))
    expect(env.runsc("exec", one, "grep", "box", "/tmp/got"), 1)
    expect(sandbox.run(["nsenter", "-t", str(pid), "-n", "sh", "-c", "sleep 0.2 | busybox nc -w 5 127.0.0.1 4000"]))
    assert env.runsc("exec", box, "ps").out.count("nc -l") >= 2
    expect(sandbox.run(["nsenter", "-t", str(one_pid), "-n", "ip", "link", "add", "seven", "type", "bridge"]))
    assert "seven" in env.runsc("exec", one, "ip", "link").out
    assert "seven" not in env.runsc("exec", box, "ip", "link").out
    # raw sockets are nobody's
    assert env.runsc("exec", one, "ping", "-c", "1", "-W", "2", "127.0.0.1").status == \
        env.runsc("exec", box, "ping", "-c", "1", "-W", "2", "127.0.0.1").status
    # as with pid namespaces of the host, one ends with the first process of the namespace
    expect(env.runsc("kill", box, "KILL"))
    until(lambda: status_of(env, one) == "stopped", what="the end of one")
    expect(env.runsc("delete", one, box))


@case()
def ipc_is_the_pods(env, root):
    """System V objects, loopback and unix sockets by abstract name are seen by all of a pod."""
    box, pid = pod(env, root)
    one, _ = member(env, root, LISTEN, box, pid)
    two, _ = member(env, root, "sleep 100", box, pid)
    expect(env.runsc("exec", two, "sh", "-c", "until echo hello | nc -w 1 127.0.0.1 4000; do sleep 0.05; done"))
    expect(env.runsc("exec", one, "sh", "-c", SEND % ("more", "more")))
    inode = [env.runsc("exec", c, "readlink", "/proc/self/ns/ipc").out for c in (box, one, two)]
    assert len(set(inode)) == 1, inode
    inode = [env.runsc("exec", c, "readlink", "/proc/self/ns/pid").out for c in (box, one, two)]
    assert len(set(inode)) == 3, inode
    for cid in (one, two, box):
        expect(env.runsc("delete", "--force", cid))


@case()
def shared_volume(env, root):
    """What one container writes to a volume the other sees at once."""
    os.mkdir(env.dir + "/volume")

    def edit(config):
        config["mounts"].append({"destination": "/data", "type": "bind", "source": env.dir + "/volume",
                                 "options": ["rbind", "rw"]})
    box, pid = pod(env, root)
    one, _ = member(env, root, "sleep 100", box, pid, edit=edit)
    two, _ = member(env, root, "sleep 100", box, pid, edit=edit)
    for n in range(10):
        writer, reader = (one, two) if n % 2 else (two, one)
        expect(env.runsc("exec", reader, "sh", "-c", "ls /data; cat /data/f 2>/dev/null; exit 0"))
        expect(env.runsc("exec", writer, "sh", "-c", "echo %d%s >/data/f; echo >/data/n%d" % (n, "x" * n, n)))
        expect(env.runsc("exec", reader, "cat", "/data/f"), 0, "%d%s\n" % (n, "x" * n))
        expect(env.runsc("exec", reader, "ls", "/data/n%d" % n), 0)
        expect(env.runsc("exec", writer, "rm", "/data/n%d" % n))
        assert env.runsc("exec", reader, "ls", "/data/n%d" % n).status != 0
    for cid in (one, two, box):
        expect(env.runsc("delete", "--force", cid))


@case()
def meeting_in_a_volume(env, root):
    """Locks, sockets and fifos of a volume are the same for the containers that mount it, and outlive either of them."""
    os.mkdir(env.dir + "/volume")

    def edit(config):
        config["mounts"].append({"destination": "/data", "type": "bind", "source": env.dir + "/volume",
                                 "options": ["rbind", "rw"]})
    box, pid = pod(env, root)
    one, _ = member(env, root, "sleep 100", box, pid, edit=edit)
    two, _ = member(env, root, "sleep 100", box, pid, edit=edit)

    with ExecLook(env, root, one) as a, ExecLook(env, root, two) as b:
        for look in (a, b):
            look.do("open 1 /data/lock rwc")
        a.do("flock 1 x", "setlk 1 5 w", "mknod /data/fifo p", "bind 2 /data/socket")
        assert b.say("flock 1 s") == "-EAGAIN" and b.say("setlk 1 5 r") == "-EAGAIN"
        b.do("setlk 1 6 w", "connect 3 /data/socket", "send 3 hello")
        a.do("accept 4 2")
        assert a.say("receive 4") == "hello"
        # mappings are the same pages, and their futex words one
        a.do("write 1 4000 end", "map 1 4096")
        b.do("map 1 4096")
        a.do("poke 1 100 shared")
        assert b.say("peek 1 100 6") == "shared"
        a.process.stdin.write("wait 1 200 20\n")
        a.process.stdin.flush()
        until(lambda: b.say("wake 1 200") == "1", what="a waiter")
        assert a.process.stdout.readline() == "\n"
        # a third that comes later finds all of it
        three, _ = member(env, root, "sleep 100", box, pid, edit=edit)
        with ExecLook(env, root, three) as c:
            c.do("open 1 /data/lock rw", "connect 3 /data/socket")
            assert c.say("flock 1 x") == "-EAGAIN" and c.say("setlk 1 6 r") == "-EAGAIN"
            # what the first held goes with its container
            expect(env.runsc("kill", one, "KILL"))
            until(lambda: status_of(env, one) == "stopped", what="the end of one")
            expect(env.runsc("delete", one))
            b.do("flock 1 s", "setlk 1 5 r")
            assert c.say("connect 3 /data/socket") == "-ECONNREFUSED"
            c.do("flock 1 s")
            assert c.say("flock 1 x") == "-EAGAIN"
        writer = subprocess.Popen(env.runsc_argv("exec", two, "sh", "-c", "exec >/data/fifo; echo first; sleep 0.5; echo second"),
                                  stdin=subprocess.DEVNULL, start_new_session=True)
        expect(env.runsc("exec", three, "cat", "/data/fifo"), 0, "first\nsecond\n")
        assert writer.wait(10) == 0
        b.do("flock 1 x")
    for cid in (two, three, box):
        expect(env.runsc("delete", "--force", cid))


@case()
def pause_one_of_a_pod(env, root):
    box, pid = pod(env, root)
    one, _ = member(env, root, "while true; do echo x >>/tmp/log; sleep 0.01; done", box, pid)
    two, _ = member(env, root, "sleep 100", box, pid)
    expect(env.runsc("pause", one))
    assert status_of(env, one) == "paused" and status_of(env, two) == "running"
    expect(env.runsc("exec", two, "true"))
    expect(env.runsc("exec", box, "true"))
    expect_refused(env.runsc("exec", one, "true"), "paused")
    expect(env.runsc("resume", one))
    expect(env.runsc("exec", one, "true"))
    expect(env.runsc("pause", one))
    expect(env.runsc("kill", one, "KILL"))
    until(lambda: status_of(env, one) == "stopped", what="one stopped")
    expect(env.runsc("delete", one))
    expect(env.runsc("pause", two))
    expect(env.runsc("delete", "--force", two))
    expect(env.runsc("exec", box, "true"))
    expect(env.runsc("delete", "--force", box))


@case()
def sandbox_ends_with_a_status(env, root):
    """Every container's stand-in ends, with 137, when the root container does; those that had ended keep their status."""
    box, pid = pod(env, root, "sleep 1; exit 7")
    one, one_pid = member(env, root, "sleep 100", box, pid)
    exec_pid = env.dir + "/exec.pid"
    execs = [subprocess.Popen(env.runsc_argv("exec", c, "sleep", "100"), stdin=subprocess.DEVNULL, start_new_session=True)
             for c in (box, one)]
    expect(detached(env, "exec", "--detach", "--pid-file", exec_pid, one, "sleep", "100"))
    until(lambda: status_of(env, box) == "stopped" and status_of(env, one) == "stopped", what="the end")
    assert [e.wait(10) for e in execs] == [137, 137]
    assert json.loads(env.runsc("wait", box).out)["exitStatus"] == 7
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 137
    until(lambda: gone(one_pid) and gone(int(open(exec_pid).read())), what="the processes on the host")
    expect(env.runsc("delete", box))
    expect(env.runsc("delete", one))


@case()
def stopped_all_at_once(env, root):
    """podman sends SIGTERM to all containers of a pod, its infra container too: the others finish what they do."""
    box, pid = pod(env, root, "trap 'exit 0' TERM; while true; do sleep 0.05; done")
    one, _ = member(env, root, "trap 'sleep 1.5; exit 11' TERM; while true; do sleep 0.05; done", box, pid)
    two, _ = member(env, root, "sleep 100", box, pid)
    time.sleep(0.2)
    expect(env.runsc("kill", box, "TERM"))
    expect(env.runsc("kill", one, "15"))
    until(lambda: status_of(env, box) == "stopped", what="the end", seconds=10)
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 11
    assert json.loads(env.runsc("wait", two).out)["exitStatus"] == 137
    assert json.loads(env.runsc("wait", box).out)["exitStatus"] == 0
    expect(env.runsc("delete", one, two, box))


@case()
def status_of_the_stand_ins(env, root):
    """Whoever started a container reaps the status of its init from the process in the pid file, as conmon does."""
    box, pid = pod(env, root)
    bundle = pod_bundle(env, root, "sleep 1; exit 9", box, namespaces=paths_of(pid, "network"))
    script = ("import ctypes, os, subprocess, sys\n"
              "ctypes.CDLL(None).prctl(36, 1)\n"  # PR_SET_CHILD_SUBREAPER
              "r, pid_file, cid = sys.argv[1:4]; argv = sys.argv[4:]\n"
              "subprocess.check_call(argv + ['create', '--bundle', r, '--pid-file', pid_file, cid])\n"
              "subprocess.check_call(argv + ['start', cid])\n"
              "subprocess.check_call(argv + ['exec', '--detach', '--pid-file', pid_file + '-exec', cid, 'sleep', '100'])\n"
              "for f in (pid_file, pid_file + '-exec'):\n"
              " print(os.waitstatus_to_exitcode(os.waitpid(int(open(f).read()), 0)[1]))\n")
    cid = env.new_id()
    result = sandbox.run(["python3", "-c", script, bundle, env.dir + "/pid", cid] + env.runsc_argv())
    expect(result, 0, "9\n137\n")
    expect(env.runsc("delete", cid))
    expect(env.runsc("delete", "--force", box))


@case()
def gofer_of_one_is_killed(env, root):
    box, pid = pod(env, root)
    one, one_pid = member(env, root, "sleep 100", box, pid)
    two, _ = member(env, root, "sleep 100", box, pid)
    os.kill(one_pid, signal.SIGKILL)
    until(lambda: status_of(env, one) == "stopped", what="one stopped")
    expect(env.runsc("exec", two, "true"))
    expect(env.runsc("delete", one))
    again, _ = member(env, root, "exit 4", box, pid, cid=one)
    assert json.loads(env.runsc("wait", again).out)["exitStatus"] == 4
    for cid in (again, two, box):
        expect(env.runsc("delete", "--force", cid))


@case(alone=True)
def sentry_does_not_answer(env, root):
    """delete --force and kill of one container come back although the sentry is stopped; the others are not touched."""
    box, pid = pod(env, root)
    one, one_pid = member(env, root, "sleep 100", box, pid)
    two, two_pid = member(env, root, "sleep 100", box, pid)
    (sentry,) = sandboxes(env)
    os.kill(sentry, signal.SIGSTOP)
    start = time.monotonic()
    expect(env.runsc("delete", "--force", one, timeout=25))
    expect(env.runsc("kill", two, "KILL", timeout=25))
    assert time.monotonic() - start < 25
    assert gone(one_pid)
    until(lambda: gone(two_pid) and status_of(env, two) == "stopped", what="two stopped")
    os.kill(sentry, signal.SIGCONT)
    expect(env.runsc("exec", box, "true"))
    expect(env.runsc("delete", two))
    one, _ = member(env, root, "exit 6", box, pid, cid=one)
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 6
    for cid in (one, box):
        expect(env.runsc("delete", "--force", cid))


@case()
def foreground_in_a_pod(env, root):
    box, pid = pod(env, root)
    bundle = pod_bundle(env, root, "echo out; exit 8", box, namespaces=paths_of(pid, "network"))
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 8, "out\n", "")
    bundle = pod_bundle(env, root, "echo up; sleep 100", box, namespaces=paths_of(pid, "network"))
    cid = env.new_id()
    run = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, cid), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, start_new_session=True)
    assert run.stdout.readline() == b"up\n"
    run.kill()
    run.wait()
    until(lambda: status_of(env, cid) == "stopped", what="stopped")
    expect(env.runsc("delete", cid))
    assert status_of(env, box) == "running"
    expect(env.runsc("delete", "--force", box))


@case()
def killed_creators(env, root):
    """SIGKILL of a create leaves the pod as it was and the id free."""
    box, pid = pod(env, root)
    cid = env.new_id()
    for n in range(12):
        bundle = pod_bundle(env, root, "sleep 100", box, namespaces=paths_of(pid, "network"))
        process = subprocess.Popen(env.runsc_argv("create", "--bundle", bundle, cid), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(0.003 * n)
        process.kill()
        process.wait()
        until(lambda: '"creating"' not in env.runsc("state", cid).out, what="its end")
        expect(env.runsc("delete", "--force", cid))
        expect(env.runsc("exec", box, "true"))
    one, _ = member(env, root, "exit 2", box, pid, cid=cid)
    assert json.loads(env.runsc("wait", one).out)["exitStatus"] == 2
    expect(env.runsc("delete", one))
    expect(env.runsc("delete", "--force", box))


@case()
def killed_at_any_point(env, root):
    """SIGKILL of any one process of a pod at any time: everything can be deleted, and nothing stays (see check_clean)."""
    script = ("i=0; while [ $i -lt 3 ]; do {0} create --bundle $1 one; {0} start one; {0} exec one true; {0} kill one KILL; "
              "{0} delete --force one; i=$((i+1)); done").format(" ".join(env.runsc_argv()))
    random.seed(7)
    killed = set()
    for turn in range(24):
        box, pid = pod(env, root)
        bundle = pod_bundle(env, root, "sleep 100", box, namespaces=paths_of(pid, "network", "ipc", "uts"))
        process = subprocess.Popen(["sh", "-c", script, "sh", bundle], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(random.random() * 0.3)
        ours = {p: c for p, c in env.processes() if p != process.pid}
        ours.update((p, "sentry") for p in sandboxes(env))
        victim = random.choice(sorted(ours))
        killed.add(ours[victim].split()[0])
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(60)
        expect(env.runsc("delete", "--force", "one", box, timeout=30))
        assert not os.listdir(env.state), os.listdir(env.state)
        check_clean(env)
    assert len(killed) >= 2, killed


@case()
def creations_at_once(env, root):
    box, pid = pod(env, root)
    ids = [env.new_id() for _ in range(8)]
    bundle = pod_bundle(env, root, "sleep 100", box, namespaces=paths_of(pid, "network"))
    processes = [subprocess.Popen(env.runsc_argv("create", "--bundle", bundle, i), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, start_new_session=True) for i in ids]
    assert [p.wait(30) for p in processes] == [0] * 8
    for i in ids:
        expect(env.runsc("start", i))
    expect(env.runsc("delete", "--force", *ids))
    expect(env.runsc("delete", "--force", box))


@case()
def users_and_limits_are_each_ones(env, root):
    def edit(config):
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 77, "soft": 77}]
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1000}]
        config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1000}]
    box, pid = pod(env, root)
    one, _ = member(env, root, "sleep 100", box, pid, edit=edit)
    expect(env.runsc("exec", one, "sh", "-c", "ulimit -n; awk '{print $3}' /proc/self/uid_map"), 0, "77\n1000\n")
    expect(env.runsc("exec", box, "sh", "-c", "ulimit -n; awk '{print $3}' /proc/self/uid_map"), 0, "1024\n4294967295\n")
    for cid in (one, box):
        expect(env.runsc("delete", "--force", cid))


@case()
def flat_after_many(env, root):
    """Containers that came and went leave no descriptor, thread or memory in the sentry."""
    box, pid = pod(env, root)
    (sentry,) = sandboxes(env)

    def round_of(count):
        for _ in range(count):
            cid, _ = member(env, root, "cat /etc/passwd >/dev/null", box, pid)
            until(lambda: status_of(env, cid) == "stopped", what="its end")
            expect(env.runsc("delete", cid))

    def threads():
        return len(os.listdir("/proc/%d/task" % sentry))

    def rss():
        with open("/proc/%d/statm" % sentry) as f:
            return int(f.read().split()[1]) * 4
    round_of(5)
    before = descriptors(env), threads(), rss()
    round_of(20)
    until(lambda: descriptors(env) <= before[0] and threads() <= before[1],
          what="%d descriptors, %d threads" % before[:2])
    assert rss() < before[2] + 1024, (before, rss())
    expect(env.runsc("delete", "--force", box))
