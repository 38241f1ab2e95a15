"""What engines expect around a container: descriptors, pid files, parents, signals, a sandbox that does not answer."""
import ctypes
import json
import os
import signal
import subprocess
import time
import traceback

from cases import expect, expect_refused, until
from e2e import registry
from e2e.lifecycle import created, detached, status_of

case = registry.case

PR_SET_CHILD_SUBREAPER = 36


def sentry_of(env, cid):
    with open(os.path.join(env.state, cid, "state.json")) as f:
        return json.load(f)["sentry"]["pid"]


@case()
def output_to_a_file_is_appended(env, root):
    bundle = env.bundle("echo B; echo C >&2; (echo D); sleep 0.1; echo E", root)
    for mode in ("wb", "ab"):
        with open(env.dir + "/out", mode) as out:
            for script in ("echo A", None, "echo F"):
                argv = ["sh", "-c", script] if script else env.runsc_argv("run", "--bundle", bundle, env.new_id())
                subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=30, check=True)
    with open(env.dir + "/out") as f:
        assert f.read().split() == list("ABCDEF") * 2


@case()
def input_from_a_file_is_shared(env, root):
    """What the program did not read is there for who comes next."""
    with open(env.dir + "/in", "w") as f:
        f.write("one\ntwo\nthree\n")
    bundle = env.bundle("read a; echo $a", root)
    script = "read x; \"$@\"; read y; echo $x $y"
    argv = ["sh", "-c", script, "sh", *env.runsc_argv("run", "--bundle", bundle, env.new_id())]
    with open(env.dir + "/in") as f:
        out = subprocess.run(argv, stdin=f, capture_output=True, text=True, timeout=30, check=True).stdout
    assert out == "two\none three\n", out


@case()
def pid_files(env, root):
    """Only digits, and never half of them: written beside and renamed."""
    cid, pid = created(env, root)
    expect(env.runsc("start", cid))
    with open(env.dir + "/pid-" + cid, "rb") as f:
        assert f.read() == b"%d" % pid
    assert json.loads(expect(env.runsc("state", cid)).out)["pid"] == pid
    expect(detached(env, "exec", "--detach", "--pid-file", env.dir + "/exec-pid", "--internal-pid-file",
                    env.dir + "/inner", cid, "/bin/sleep", "50"))
    with open(env.dir + "/exec-pid", "rb") as f:
        text = f.read()
    assert text.isdigit() and os.path.exists("/proc/%d" % int(text)), text
    with open(env.dir + "/inner", "rb") as f:
        assert f.read().isdigit()
    assert not [n for n in os.listdir(env.dir) if ".tmp" in n or n.startswith(".")]
    expect(env.runsc("delete", "--force", cid))


@case()
def an_unwritable_pid_file_leaves_nothing(env, root):
    bundle = env.bundle(["/bin/true"], root)
    result = detached(env, "create", "--bundle", bundle, "--pid-file", env.dir + "/no/such/dir", env.new_id())
    expect_refused(result, "pid file")
    assert not os.listdir(env.state)


def under_a_subreaper(function):
    """Runs function in a process that adopts orphans, as conmon and shims do."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            function()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "see the traceback in the output of the test run"


def reap(pid, seconds=10):
    """Exit code of a process that must be a child of ours."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    raise AssertionError("process %d has not ended" % pid)


@case()
def whoever_adopts_the_container_sees_its_status(env, root):
    def check():
        for script, code in (("exit 3", 3), ("kill -TERM $$ & wait", 0), ("sh -c 'kill -KILL $$'; exit $?", 137)):
            cid, pid = created(env, root, script)
            expect(env.runsc("start", cid))
            assert reap(pid) == code, script
            expect(env.runsc("delete", cid))
        cid, pid = created(env, root)
        expect(env.runsc("start", cid))
        expect(env.runsc("kill", cid, "9"))
        assert reap(pid) == 137
        expect(env.runsc("delete", cid))
    under_a_subreaper(check)


@case()
def whoever_adopts_an_exec_sees_its_status(env, root):
    def check():
        cid, pid = created(env, root)
        expect(env.runsc("start", cid))
        for script, code in (("exit 4", 4), ("kill -TERM $$", 143)):
            expect(detached(env, "exec", "--detach", "--pid-file", env.dir + "/p", cid, "/bin/sh", "-c", script))
            with open(env.dir + "/p") as f:
                assert reap(int(f.read())) == code
        # a signal to the process that stands for it reaches it
        expect(detached(env, "exec", "--detach", "--pid-file", env.dir + "/p", cid, "/bin/sleep", "50"))
        with open(env.dir + "/p") as f:
            child = int(f.read())
        os.kill(child, signal.SIGTERM)
        assert reap(child) == 143
        expect(env.runsc("delete", "--force", cid))
        assert reap(pid) in (137, -9)
    under_a_subreaper(check)


@case()
def signals_by_any_name(env, root):
    script = "trap 'echo got >> /tmp/x' USR1; touch /tmp/ready; while :; do sleep 0.02; done"
    cid, _ = created(env, root, script)
    expect(env.runsc("start", cid))

    def count(path):
        return len(env.runsc("exec", cid, "cat", path).out.splitlines())
    until(lambda: env.runsc("exec", cid, "ls", "/tmp/ready").status == 0, what="ready")
    for i, name in enumerate(("10", "USR1", "SIGUSR1", "sigusr1", "usr1"), 1):
        expect(env.runsc("kill", cid, name), 0, "", "")
        until(lambda wanted=i: count("/tmp/x") == wanted, what="signal " + name)
    expect_refused(env.runsc("kill", cid, "SIGNOSUCH"), "unknown signal")
    expect_refused(env.runsc("kill", cid, "65"), "unknown signal")
    expect(env.runsc("kill", "-a", cid, "KILL"))
    expect(env.runsc("wait", cid), has="137")
    expect(env.runsc("delete", cid))


@case()
def the_default_signal_is_term(env, root):
    cid, _ = created(env, root, "trap 'exit 5' TERM; touch /tmp/ready; while :; do sleep 0.02; done")
    expect(env.runsc("start", cid))
    until(lambda: env.runsc("exec", cid, "ls", "/tmp/ready").status == 0, what="ready")
    expect(env.runsc("kill", cid))
    expect(env.runsc("wait", cid), has="5")
    expect(env.runsc("delete", cid))


def stop(pid):
    os.kill(pid, signal.SIGSTOP)

    def is_stopped():
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T"
    until(is_stopped, what="the process to be stopped")


def timed(env, *args):
    began = time.monotonic()
    result = env.runsc(*args)
    return result, time.monotonic() - began


@case(alone=True)
def a_stopped_sentry_is_not_asked(env, root):
    for how in (("kill", "KILL"), ("kill", "--all", "9"), ("delete", "--force")):
        cid, _ = created(env, root)
        expect(env.runsc("start", cid))
        stop(sentry_of(env, cid))
        assert status_of(env, cid) == "running"
        for args in (["kill", cid, "TERM"], ["ps", cid], ["exec", cid, "true"], ["pause", cid]):
            result, seconds = timed(env, *args)
            expect_refused(result, "does not answer")
            assert seconds < 1, (args, seconds)
        args = ["kill", *[a for a in how[1:] if a.startswith("-")], cid, how[-1]] if how[0] == "kill" else [*how, cid]
        result, seconds = timed(env, *args)
        expect(result, 0, "", "")
        assert seconds < 1, (args, seconds)
        if how[0] == "kill":
            until(lambda name=cid: status_of(env, name) == "stopped", what="stopped")
            result, seconds = timed(env, "delete", cid)
            expect(result)
            assert seconds < 1, seconds


@case(alone=True)
def a_stopped_gofer_is_not_waited_for(env, root):
    cid, pid = created(env, root)
    expect(env.runsc("start", cid))
    stop(pid)
    result, seconds = timed(env, "delete", "--force", cid)
    expect(result, 0, "", "")
    assert seconds < 1, seconds


def passing(env, args, fds, extra_env=None):
    """Runs runsc with these descriptors under these numbers; its output."""
    def prepare():
        for number, fd in fds.items():
            os.dup2(fd, number)
        if extra_env:
            os.environ["LISTEN_PID"] = str(os.getpid())
    script = "exec \"$@\""
    if extra_env:
        script = "LISTEN_PID=$$ LISTEN_FDS=%d; export LISTEN_PID LISTEN_FDS; " % extra_env + script
    return subprocess.run(["sh", "-c", script, "sh", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=30, preexec_fn=prepare, pass_fds=list(fds), check=False)


@case()
def descriptors_are_passed(env, root):
    ends = {}
    for name in ("a", "b"):
        path = env.dir + "/" + name
        with open(path, "w") as f:
            f.write(name)
        ends[name] = os.open(path, os.O_RDONLY)
    # numbers that are out of the way of our own
    a, b = (os.dup2(ends[n], 40 + i) for i, n in enumerate("ab"))
    bundle = env.bundle("cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID", root)

    def run(*options, fds, listen=None):
        for fd in (a, b):
            os.lseek(fd, 0, os.SEEK_SET)
        return passing(env, env.runsc_argv("run", "--bundle", bundle, *options, env.new_id()), fds, listen)
    assert run("--preserve-fds", "2", fds={3: a, 4: b}).stdout == "ab\n"
    assert run("--pass-fd", "40:3", "--pass-fd", "41:4", fds={40: a, 41: b}).stdout == "ab\n"
    assert run("--pass-fd=41:3", "--pass-fd=40:4", fds={40: a, 41: b}).stdout == "ba\n"
    assert run("--preserve-fds=1", "--pass-fd=41:4", fds={3: a, 41: b}).stdout == "ab\n"
    assert run(fds={3: a, 4: b}, listen=2).stdout == "ab2 1\n"
    assert run("--preserve-fds=1", fds={3: a, 4: b}, listen=1).stdout == "ab1 1\n"
    for options, text in ((["--preserve-fds", "2"], "not open"), (["--pass-fd", "7:3"], "not open"),
                          (["--pass-fd", "40:5"], "the next is 3"), (["--pass-fd", "40"], "M:N"),
                          (["--preserve-fds", "1000"], "from 0 to 250")):
        result = run(*options, fds={40: a})
        assert result.returncode == 1 and text in result.stderr, (options, result)
    assert not os.listdir(env.state)
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    os.lseek(b, 0, os.SEEK_SET)
    out = passing(env, env.runsc_argv("exec", "--pass-fd", "41:3", cid, "/bin/sh", "-c", "cat <&3"), {41: b}).stdout
    assert out == "b", out
    expect(env.runsc("delete", "--force", cid))
    for fd in (a, b, *ends.values()):
        os.close(fd)


@case()
def a_config_beside_the_bundle(env, root):
    bundle = env.bundle(["/bin/echo", "of the bundle"], root)
    with open(bundle + "/config.json") as f:
        config = json.load(f)
    config["process"]["args"][1] = "another"
    with open(env.dir + "/other.json", "w") as f:
        json.dump(config, f)
    expect(env.runsc("run", "--bundle", bundle, "--config", env.dir + "/other.json", env.new_id()), 0, "another\n")
    expect(env.runsc("run", "-b", bundle, "-f", env.dir + "/other.json", env.new_id()), 0, "another\n")
    expect_refused(env.runsc("run", "-b", bundle, "-f", env.dir + "/none.json", env.new_id()), "none.json")


def annotated(**annotations):
    def edit(config):
        config["annotations"] = {"dev.gvisor.flag." + k.replace("_", "-"): v for k, v in annotations.items()}
    return edit


@case()
def annotations_set_options(env, root):
    """What a container's author may choose alone, and what only with the administrator's leave."""
    bundle = env.bundle("echo x > /work/annotated", root, edit=annotated(strace="true", overlay2="root:memory"))
    result = expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "")
    assert "openat" in result.err and not os.path.exists(root + "/work/annotated"), result
    for name, value in (("overlay2", "none"), ("overlay2", "root:dir=/tmp"), ("host_uds", "open"), ("network", "host"),
                        ("platform", "ptrace"), ("root", "/tmp"), ("oci_seccomp", "false"), ("no_such", "1")):
        bundle = env.bundle(["/bin/true"], root, edit=annotated(**{name: value}))
        expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "--allow-flag-override")
    bundle = env.bundle("grep -c : /proc/net/dev", root, edit=annotated(network="none", file_access="shared"))
    expect(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--allow-flag-override"]), 0, "1\n")
    for name, value, text in (("no_such", "1", "not defined"), ("network", "moon", "use one of")):
        bundle = env.bundle(["/bin/true"], root, edit=annotated(**{name: value}))
        expect_refused(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--allow-flag-override"]), text)
    bundle = env.bundle(["/bin/true"], root, edit=annotated(overlay2="root:memory,size=x"))
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "overlay2")


@case()
def features_are_true(env, root):
    features = json.loads(expect(env.runsc("features")).out)

    def try_seccomp(action="SCMP_ACT_ERRNO", op="SCMP_CMP_EQ", arch="SCMP_ARCH_X86_64", flag=None):
        def edit(config):
            rule = {"names": ["acct"], "action": action, "args": [{"index": 0, "value": 1, "op": op}]}
            config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch],
                                          "syscalls": [rule], **({"flags": [flag]} if flag else {})}
        return env.runsc("run", "--bundle", env.bundle(["/bin/true"], root, edit=edit), env.new_id())
    seccomp = features["linux"]["seccomp"]
    for key, values, other in (("action", seccomp["actions"], "SCMP_ACT_NOTIFY"),
                               ("op", seccomp["operators"], "SCMP_CMP_NOT"),
                               ("flag", seccomp["supportedFlags"], "SECCOMP_FILTER_FLAG_NEW_LISTENER")):
        for value in values:
            expect(try_seccomp(**{key: value}))
        expect_refused(try_seccomp(**{key: other}), "seccomp")
    for arch in seccomp["archs"]:
        expect(try_seccomp(arch=arch))
    assert len(features["linux"]["capabilities"]) == 41 and "rbind" in features["mountOptions"]
    assert features["mountOptions"] == sorted(set(features["mountOptions"]))
    assert len(features["mountOptions"]) > 40 and "tmpcopyup" in features["mountOptions"]
    assert features["potentiallyUnsafeConfigAnnotations"] == ["dev.gvisor.flag.", "org.systemd.property."]


@case()
def ports_are_forwarded(env, root):
    """Into a network namespace that nothing else leads to."""
    import socket
    cid, _ = created(env, root, "nc -l -p 8000 -e /bin/cat & nc -l -p 8001 -e /bin/cat & wait")
    expect(env.runsc("start", cid))
    until(lambda: env.runsc("exec", cid, "sh", "-c", "netstat -ltn | grep -c 800[01]").out == "2\n", what="two listeners")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    forward = subprocess.Popen(env.runsc_argv("port-forward", cid, "%d:8000" % port), stdin=subprocess.DEVNULL)
    try:
        def connect():
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=5)
            except ConnectionRefusedError:
                return None
        with until(connect, what="the forwarded port") as client:
            data = os.urandom(1 << 20)
            client.settimeout(20)
            import threading
            sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
            sender.start()
            seen = b""
            while len(seen) < len(data):
                part = client.recv(1 << 16)
                if not part:
                    break
                seen += part
            sender.join()
            assert seen == data, len(seen)
        path = env.dir + "/s"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            stream = subprocess.Popen(env.runsc_argv("port-forward", "--stream", path, cid, "8001"))
            server.settimeout(10)
            with server.accept()[0] as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b"hello" and client.recv(100) == b""
            assert stream.wait(10) == 0
        for port_word in ("x", "0", "1:70000", "1:2:3"):
            expect_refused(env.runsc("port-forward", cid, port_word), "[LOCAL:]PORT")
        expect(env.runsc("delete", "--force", cid))
        assert forward.wait(10) == 0, "it ends with the container"
    finally:
        forward.kill()
        forward.wait()


@case()
def do_maps_ids(env, root):
    maps = ["--uid-map", "0 100000 1000", "--gid-map", "0 200000 1000"]
    out = expect(env.runsc("do", "--root", root, *maps, "--", "/bin/cat", "/proc/self/uid_map", "/proc/self/gid_map")).out
    assert [line.split() for line in out.splitlines()] == [["0", "100000", "1000"], ["0", "200000", "1000"]], out
    expect_refused(env.runsc("do", "--uid-map", "0 1", "--gid-map", "0 1 2", "--", "true"), "CONTAINER HOST SIZE")
    expect_refused(env.runsc("do", "--uid-map", "0 1 2", "--", "true"), "--gid-map")


@case()
def logs_of_some_commands(env, root):
    """--debug-command, %CID%, --debug-log-fd, --panic-log."""
    bundle = env.bundle(["/bin/true"], root)
    logs = env.dir + "/logs/"

    def run(*flags, **kwargs):
        return env.runsc("run", "--bundle", bundle, env.new_id("log"), flags=flags, **kwargs)
    for commands, wanted in (("boot", {"boot"}), ("!boot", {"run", "gofer"}), ("run,gofer", {"run", "gofer"}),
                             ("create", set()), ("", {"run", "boot", "gofer"})):
        expect(run("--debug-log", logs + "%COMMAND%.%CID%", "--debug-command", commands), 0, "", "")
        names = os.listdir(logs) if os.path.isdir(logs) else []
        assert {n.split(".")[0] for n in names} == wanted and all(".log-" in n for n in names), (commands, names)
        for name in names:
            os.unlink(logs + name)
    fd = os.open(env.dir + "/by-fd", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.set_inheritable(fd, True)
    argv = env.runsc_argv("run", "--bundle", bundle, env.new_id(), flags=["--debug-log-fd", str(fd), "--debug-log-format",
                                                                          "json"])
    subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=30, check=True, pass_fds=[fd])
    os.close(fd)
    with open(env.dir + "/by-fd") as f:
        messages = [json.loads(line)["msg"] for line in f]
    assert any("sentry and gofer are ready" in m for m in messages) and any("boot 13" in m for m in messages), messages
    expect_refused(run("--log-fd", "77"), "no open descriptor")
    expect(run("--panic-log", logs + "panic"), 0, "", "")
    with open(logs + "panic") as f:
        assert f.read() == "", "nothing went wrong"
    os.unlink(logs + "panic")
    cid = env.new_id()
    expect(detached(env, "run", "--detach", "--bundle", env.bundle("sleep 100", root), cid,
                    flags=["--panic-log", logs + "panic.%COMMAND%"]))
    os.kill(sentry_of(env, cid), signal.SIGABRT)

    def told():
        with open(logs + "panic.boot") as f:
            return "crash: signal 6" in f.read()
    until(told, what="a report of the crash")
    expect(env.runsc("delete", "--force", cid))
