"""containerd's runc.v2 shim, by ctr. What engines add (networks, volumes) is not there."""
import os
import signal
import subprocess
import time

from cli import SIZE
from lib import DIR, SANDBOX_ROOM, Engine, HostServer, Steps, memory_limits, until

steps = Steps()
step = steps.step


class Containerd(Engine):
    name = "containerd"
    steps = steps
    cgroup_name = "ctr-.*"

    def start(self):
        config = self.file("""version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{0}/c.sock"
""".format(DIR), name="config.toml")
        self.daemon(["containerd", "-c", config],
                    lambda: subprocess.run(self.argv(["version"]), capture_output=True).returncode == 0)
        for archive in self.images.values():
            self("images import " + archive, timeout=120)
        run = ["--runtime", "io.containerd.runc.v2", "--runc-binary", self.path]
        self.options = {"run": run}

    def argv(self, words):
        return ["ctr", "-a", DIR + "/c.sock", *words]

    def reset(self):
        for line in self.lines("task ls")[1:]:
            self("task kill -s KILL " + line.split()[0], status=None)
            self("task rm -f " + line.split()[0], status=None)
        for line in self.lines("containers ls -q"):
            self("containers rm " + line, status=None)

    def state_directories(self):
        return ["/run/containerd/runc/default"]

    def id(self):
        return "ctr-" + self.new_name()

    def task(self, command, *options):
        """`run -d` of a container: a context manager that gives its id."""
        return Task(self, command, options)

    def state_of(self, c):
        for line in self.lines("task ls")[1:]:
            if line.split()[0] == c:
                return line.split()[2]
        return None

    def pid_of(self, c):
        return next(int(line.split()[1]) for line in self.lines("task ls") if line.split()[0] == c)


class Task:
    def __init__(self, engine, command, options):
        self.engine, self.command, self.options = engine, command, options
        self.id = engine.id()

    def __enter__(self):
        self.engine(["run", "-d", *self.options, "bb", self.id, *self.command])
        return self.id

    def __exit__(self, *_):
        e = self.engine
        e("task kill -s KILL " + self.id, status=None)
        until(lambda: e.state_of(self.id) in ("STOPPED", None), 10, "the end of " + self.id)
        e("task rm -f " + self.id, status=None)
        e("container rm " + self.id, status=None)


SLEEPER = ["sleep", "1000"]


@step
def run_status(e):
    e("run --rm bb %s true" % e.id())
    e("run --rm bb %s sh -c 'echo out; echo err >&2; exit 3'" % e.id(), status=3, out="out\n", err="err\n")


@step
def run_not_found(e):
    c = e.id()
    e("run --rm bb %s no-such-program" % c, status=1, err_has="no-such-program")
    assert e.state_of(c) is None


@step
def run_stdin(e):
    """ctr itself never says that its input ended."""
    e("run --rm bb %s head -n 1" % e.id(), stdin="typed\n", out="typed\n")


@step
def run_terminal(e):
    with e.terminal("run --rm -t bb %s sh" % e.id()) as term:
        term.say("tty; %s; echo 'ready'now\n" % SIZE)
        term.until("/dev/pts/0")
        term.until("readynow")
        term.say("exit 5\n")
        assert term.end() == 5


@step
def exec_(e):
    with e.task(SLEEPER) as c:
        e("task exec --exec-id x1 %s sh -c 'echo in; exit 5'" % c, status=5, out="in\n")
        e("task exec --exec-id x2 --cwd /tmp --user 1000 %s sh -c 'pwd; id -u'" % c, out="/tmp\n1000\n")
        e("task exec --exec-id x3 %s no-such-program" % c, status=1, err_has="no-such-program")


@step
def exec_terminal(e):
    with e.task(SLEEPER) as c:
        with e.terminal("task exec -t --exec-id x1 %s sh" % c) as term:
            term.say("tty; %s; echo 'ready'now\n" % SIZE)
            term.until("/dev/pts/")
            term.until("readynow")
            term.say("exit 5\n")
            assert term.end() == 5


@step
def processes(e):
    """Host pids, of this container only."""
    with e.task(["sh", "-c", "sleep 1234 & sleep 1235; true"]) as c, e.task(SLEEPER):
        def pids():
            return [int(line.split()[0]) for line in e.lines("task ps " + c)[1:]]
        until(lambda: len(pids()) == 3, 5, "three processes")
        lines = []
        for pid in pids():
            with open("/proc/%d/cmdline" % pid) as f:
                lines.append(f.read().replace("\0", " ").strip())
        assert sorted(lines)[1:] == ["sleep 1234", "sleep 1235"] and lines[0].startswith("sh -c sleep 1234"), lines


@step
def pid_namespaces(e):
    with e.task(SLEEPER) as c:
        pid = e.pid_of(c)
        for name in ("pid", "net", "mnt", "ipc", "uts"):
            assert os.readlink("/proc/%d/ns/%s" % (pid, name)) != os.readlink("/proc/self/ns/" + name), name
        assert os.path.exists("/proc/%d/root/bin/busybox" % pid)


@step
def metrics(e):
    with e.task(["sh", "-c", "while :; do :; done"], "--memory-limit", str(100 << 20)) as c:
        def values():
            return {line.split()[0]: line.split()[-1] for line in e.lines("task metrics " + c) if len(line.split()) > 1}
        got = until(lambda: int(values().get("cpuacct.usage", values().get("cpu.usage_usec", "0"))) > 10 ** 6 and values(), 10,
                    "processor time")
        assert int(got.get("memory.usage_in_bytes", got.get("memory.usage", "0"))) > 0, got
        assert any(100 <= limit <= 100 + SANDBOX_ROOM for limit in memory_limits(c)), memory_limits(c)
        assert int(got.get("pids.current", "1")) >= 1


@step
def pause_resume(e):
    path = e.directory()
    with e.task(["sh", "-c", "while :; do echo x >> /v/log; sleep 0.05; done"], "--mount",
                "type=bind,src=%s,dst=/v,options=rbind:rw" % path) as c:
        until(lambda: os.path.exists(path + "/log"), 5)
        e("task pause " + c)
        assert e.state_of(c) == "PAUSED"
        size = os.stat(path + "/log").st_size
        time.sleep(0.4)
        assert os.stat(path + "/log").st_size == size
        e("task resume " + c)
        until(lambda: os.stat(path + "/log").st_size > size, 5, "output after resume")


@step
def kill_handled(e):
    path = e.directory()
    with e.task(["sh", "-c", "trap 'echo got > /v/got; exit 7' TERM; echo > /v/ready; while :; do sleep 0.1; done"], "--mount",
                "type=bind,src=%s,dst=/v,options=rbind:rw" % path) as c:
        until(lambda: os.path.exists(path + "/ready"), 5)
        e("task kill -s TERM " + c)
        until(lambda: e.state_of(c) == "STOPPED", 10)
        assert os.path.exists(path + "/got")
        e("task rm " + c, err_has="exit code 7")


@step
def kill_all(e):
    with e.task(["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001; true"]) as c:
        until(lambda: len(e.lines("task ps " + c)) == 4, 5)
        e("task kill -a -s KILL " + c)
        until(lambda: e.state_of(c) == "STOPPED", 10)
        e("task rm " + c, err_has="exit code 137")


@step
def kill_exec(e):
    with e.task(SLEEPER) as c:
        process = subprocess.Popen(e.argv(["task", "exec", "--exec-id", "x1", c, "sleep", "1002"]))
        try:
            until(lambda: len(e.lines("task ps " + c)) == 3, 5)
            e("task kill -s KILL --exec-id x1 " + c)
            assert process.wait(10) == 137
        finally:
            process.kill()
        assert e.state_of(c) == "RUNNING"


@step
def kill_after_end(e):
    with e.task(["true"]) as c:
        until(lambda: e.state_of(c) == "STOPPED", 10)
        e("task kill " + c, status=1, err_has="not found")


@step
def shim_killed(e):
    """containerd cleans up by `shim delete`, which calls delete --force."""
    c = e.id()
    e(["run", "-d", "bb", c, *SLEEPER])
    pid = e.pid_of(c)
    with open("/proc/%d/stat" % pid) as f:
        shim = int(f.read().rsplit(")", 1)[1].split()[1])
    with open("/proc/%d/cmdline" % shim) as f:
        assert "containerd-shim" in f.read(), "the container's process is not the shim's child"
    os.kill(shim, signal.SIGKILL)
    until(lambda: e.state_of(c) is None, 10, "task is gone")
    until(lambda: not os.path.exists("/proc/%d/root/bin" % pid), 10, "the process is gone")
    e("containers rm " + c)


@step
def null_io(e):
    c = e.id()
    e("run -d --null-io bb %s true" % c)
    until(lambda: e.state_of(c) == "STOPPED", 10)
    e("task rm " + c)
    e("containers rm " + c)


@step
def network_host(e):
    with HostServer(8177):
        e("run --rm --net-host bb %s wget -q -O - http://127.0.0.1:8177/" % e.id(), out="host sees 127.0.0.1\n")


@step
def privileged(e):
    e("run --rm --privileged bb %s sh -c 'mkdir /m; mount -t tmpfs x /m && echo mounted'" % e.id(), out="mounted\n")


@step
def read_only(e):
    e("run --rm --read-only bb %s touch /x" % e.id(), status=1, err_has="Read-only file system")


@step
def checkpoint_refused(e):
    with e.task(SLEEPER) as c:
        result = e("task checkpoint %s" % c, status=None)
        assert result.status == 0 or len(result.err.strip().splitlines()) == 1, result
        assert e.state_of(c) == "RUNNING", e.state_of(c)
