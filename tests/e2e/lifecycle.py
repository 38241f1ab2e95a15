"""create, start, run, state, list, wait, kill, delete, pause, resume."""
import json
import os
import signal
import subprocess
import time

from cases import expect, expect_refused, until
from e2e import registry

case = registry.case


def status_of(env, cid):
    return json.loads(expect(env.runsc("state", cid)).out)["status"]


def created(env, root, args="sleep 100", **changes):
    """A created container: (id, pid of its init on the host)."""
    cid = env.new_id()
    bundle = env.bundle(args, root, **changes)
    pid_file = env.dir + "/pid-" + cid
    expect(detached(env, "create", "--bundle", bundle, "--pid-file", pid_file, cid))
    with open(pid_file) as f:
        return cid, int(f.read())


def detached(env, *args, flags=(), **kwargs):
    """A command that leaves a container behind: its output goes to a file, not to a pipe of ours."""
    with open(env.dir + "/out", "ab") as out:
        process = subprocess.Popen(env.runsc_argv(*args, flags=flags), stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=out, start_new_session=True, **kwargs)
    try:
        status = process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("no end: " + " ".join(map(str, args))) from None
    import sandbox
    with open(env.dir + "/out", "rb") as f:
        text = sandbox.text(f.read())
    return sandbox.Result(status, text, text)


@case()
def run_prints_and_exits(env, root):
    bundle = env.bundle("echo out; echo err >&2; exit 3", root)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 3, "out\n", "err\n")


@case()
def run_exit_statuses(env, root):
    for script, status in (("true", 0), ("exit 255", 255), ("kill -TERM $$", 143),
                           ("kill -KILL $$", 137), ("kill -SEGV $$", 139)):
        # The shell is pid 1 there and so deaf to plain signals: its child is not.
        bundle = env.bundle("sh -c '%s'; exit $?" % script, root)
        expect(env.runsc("run", "--bundle", bundle, env.new_id()), status)


@case()
def run_reads_stdin(env, root):
    bundle = env.bundle(["/bin/cat"], root)
    text = "line\n" * 20000
    expect(env.runsc("run", "--bundle", bundle, env.new_id(), stdin=text), 0, text)


@case()
def run_environment_cwd_user(env, root):
    bundle = env.bundle(["/bin/sh", "-c", "pwd; id -u; id -g; echo $A; umask"], root, cwd="/home/user",
                        user={"uid": 1000, "gid": 1000, "umask": 0o77}, env=["PATH=/bin", "A=b c"])
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "/home/user\n1000\n1000\nb c\n0077\n")


@case()
def run_hostname_and_rootfs(env, root):
    bundle = env.bundle("hostname; ls -d /bin /nothing 2>/dev/null; cat /etc/hostname", root)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "guest\n/bin\nguest\n")


@case()
def readonly_root(env, root):
    def edit(config):
        config["root"]["readonly"] = True
    bundle = env.bundle("echo x >/written", root, edit=edit)
    result = env.runsc("run", "--bundle", bundle, env.new_id())
    expect(result, 1, err_has="Read-only file system")


@case()
def bind_mounts(env, root):
    os.mkdir(env.dir + "/shared")
    with open(env.dir + "/shared/in", "w") as f:
        f.write("from host\n")

    def edit(config):
        config["mounts"] += [
            {"destination": "/data", "type": "bind", "source": env.dir + "/shared",
             "options": ["rbind", "rw"]},
            {"destination": "/mnt/ro", "type": "bind", "source": env.dir + "/shared",
             "options": ["rbind", "ro"]},
            {"destination": "/etc/one", "type": "bind", "source": env.dir + "/shared/in",
             "options": ["bind", "ro"]}]
    bundle = env.bundle("cat /data/in /etc/one; echo from guest >/data/out; echo x >/mnt/ro/y; "
                        "echo x >/etc/one; exit 0", root, edit=edit)
    result = env.runsc("run", "--bundle", bundle, env.new_id())
    expect(result, 0, "from host\nfrom host\n")
    with open(env.dir + "/shared/out") as f:
        assert f.read() == "from guest\n"
    assert not os.path.exists(env.dir + "/shared/y")
    with open(env.dir + "/shared/in") as f:
        assert f.read() == "from host\n"


@case()
def create_start_state_delete(env, root):
    cid, pid = created(env, root)
    assert status_of(env, cid) == "created"
    state = json.loads(env.runsc("state", cid).out)
    assert state["id"] == cid and state["pid"] == pid and state["ociVersion"], state
    assert os.path.isdir(state["bundle"])
    os.kill(pid, 0)
    expect(env.runsc("start", cid), 0, "", "")
    assert status_of(env, cid) == "running"
    expect(env.runsc("kill", cid, "KILL"), 0, "", "")
    until(lambda: status_of(env, cid) == "stopped", what="stopped")
    expect(env.runsc("delete", cid), 0, "", "")
    expect_refused(env.runsc("state", cid), "does not exist")


@case()
def list_and_ps(env, root):
    expect(env.runsc("list", "-q"), 0, "")
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    expect(env.runsc("list", "-q"), 0, cid + "\n")
    rows = json.loads(expect(env.runsc("list", "--format", "json")).out)
    assert rows[0]["id"] == cid and rows[0]["status"] == "running", rows
    expect(env.runsc("list"), 0, has="running")
    until(lambda: "sleep 100" in env.runsc("ps", cid).out, what="sleep in ps")
    pids = json.loads(expect(env.runsc("ps", "--format", "json", cid)).out)
    assert pids and all(isinstance(p, int) for p in pids), pids
    expect(env.runsc("delete", "--force", cid))


@case()
def wait_gives_exit_status(env, root):
    cid, _ = created(env, root, "sleep 0.3; exit 9")
    expect(env.runsc("start", cid))
    result = expect(env.runsc("wait", cid), None)
    assert "9" in result.out, result
    expect(env.runsc("delete", cid))


@case()
def kill_delivers_signals(env, root):
    cid, _ = created(env, root, "trap 'echo got usr1' USR1; trap 'echo got term; exit 4' TERM; "
                     "echo ready; while :; do sleep 0.1; done")
    expect(env.runsc("start", cid))

    def output():
        with open(env.dir + "/out") as f:
            return f.read()
    until(lambda: "ready" in output(), what="ready")
    for name in ("USR1", "SIGUSR1", "10"):
        count = output().count("got usr1")
        expect(env.runsc("kill", cid, name))
        until(lambda: output().count("got usr1") == count + 1, what="signal " + name)
    expect(env.runsc("kill", cid))
    until(lambda: status_of(env, cid) == "stopped", what="stopped")
    assert "got term" in output()
    expect_refused(env.runsc("kill", cid, "KILL"))
    expect(env.runsc("delete", cid))


@case()
def kill_bad_signal(env, root):
    cid, _ = created(env, root)
    expect_refused(env.runsc("kill", cid, "NOSUCH"))
    expect_refused(env.runsc("kill", cid, "99"))
    expect(env.runsc("delete", "--force", cid))


@case()
def wrong_state_messages(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    expect_refused(env.runsc("delete", cid), "not stopped")
    expect_refused(env.runsc("start", cid), "cannot start an already running container")
    expect_refused(env.runsc("resume", cid), "not paused")
    expect(env.runsc("kill", cid, "KILL"))
    until(lambda: status_of(env, cid) == "stopped", what="stopped")
    expect_refused(env.runsc("start", cid), "cannot start a container that has stopped")
    expect_refused(env.runsc("exec", cid, "true"), "cannot exec in a stopped container")
    expect_refused(env.runsc("pause", cid), "not running")
    expect_refused(env.runsc("kill", cid), "not running")
    expect(env.runsc("delete", cid))


@case()
def delete_force_running(env, root):
    cid, pid = created(env, root)
    expect(env.runsc("start", cid))
    start = time.monotonic()
    expect(env.runsc("delete", "--force", cid), 0, "", "")
    assert time.monotonic() - start < 3
    expect(env.runsc("delete", "--force", "never-there"), 0)


@case()
def pause_and_resume(env, root):
    cid, _ = created(env, root, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
    expect(env.runsc("start", cid))
    size = lambda: os.stat(env.dir + "/out").st_size  # noqa: E731
    until(lambda: size() > 20, what="output")
    expect(env.runsc("pause", cid), 0, "", "")
    assert status_of(env, cid) == "paused"
    before = size()
    time.sleep(0.2)
    assert size() == before, "wrote while paused"
    expect_refused(env.runsc("exec", cid, "true"), "paused")
    expect(env.runsc("resume", cid), 0, "", "")
    until(lambda: size() > before, what="output after resume")
    expect(env.runsc("delete", "--force", cid))


@case()
def kill_while_paused(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    expect(env.runsc("pause", cid))
    expect(env.runsc("kill", cid, "KILL"))
    expect(env.runsc("delete", "--force", cid))


@case()
def run_detached_appends_to_stdout(env, root):
    with open(env.dir + "/out", "w") as f:
        f.write("before\n")
    cid = env.new_id()
    bundle = env.bundle("echo inside; sleep 0.2; echo later", root)
    expect(detached(env, "run", "--detach", "--bundle", bundle, "--pid-file", env.dir + "/pid", cid))
    until(lambda: status_of(env, cid) == "stopped", what="stopped")
    with open(env.dir + "/out") as f:
        assert f.read() == "before\ninside\nlater\n"
    expect(env.runsc("delete", cid))


@case()
def abbreviated_ids(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("state", cid[:-2]), 0, has=cid)
    other, _ = created(env, root)
    expect_refused(env.runsc("state", cid[:-2]))
    expect(env.runsc("delete", "--force", cid, other))


@case()
def signals_are_forwarded(env, root):
    bundle = env.bundle("trap 'echo got int; exit 5' INT; echo ready; while :; do sleep 0.05; done", root)
    process = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, env.new_id()),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert out == b"got int\n", out
    assert process.returncode == 5, process.returncode


@case()
def closed_stdin_and_output(env, root):
    bundle = env.bundle("yes", root)
    process = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, env.new_id()),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    # `yes` dies by SIGPIPE or by the write error; either way everything ends.
    assert process.wait(10) != 0


@case()
def rlimits_reach_the_program(env, root):
    def edit(config):
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99},
                                        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    bundle = env.bundle("ulimit -S -n; ulimit -H -n; ulimit -c", root, edit=edit)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "77\n99\n0\n")


@case()
def capabilities_reach_the_program(env, root):
    def edit(config):
        caps = ["CAP_KILL", "CAP_AUDIT_WRITE"]
        config["process"]["capabilities"] = {k: caps for k in ("bounding", "effective", "permitted")}
    bundle = env.bundle("grep CapEff /proc/self/status; grep NoNew /proc/self/status; "
                        "chown 5 /bin/busybox 2>&1 | grep -o 'not permitted'", root, edit=edit,
                        noNewPrivileges=True)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0,
           "CapEff:\t0000000020000020\nNoNewPrivs:\t1\nnot permitted\n")


@case()
def masked_and_readonly_paths(env, root):
    def edit(config):
        config["linux"]["maskedPaths"] = ["/proc/version", "/home"]
        config["linux"]["readonlyPaths"] = ["/etc"]
    bundle = env.bundle("cat /proc/version; ls /home; echo x >/etc/new", root, edit=edit)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 1, "", err_has="Read-only")


@case()
def thirty_containers(env, root):
    for n in range(30):
        bundle = env.bundle(["/bin/echo", str(n)], root)
        expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "%d\n" % n)


@case()
def parallel_containers(env, root):
    running = []
    for n in range(6):
        bundle = env.bundle("sleep 0.3; echo %d" % n, root)
        running.append(subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, env.new_id()),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        start_new_session=True))
    for n, process in enumerate(running):
        out, _ = process.communicate(timeout=30)
        assert (out, process.returncode) == (b"%d\n" % n, 0), (out, process.returncode)
