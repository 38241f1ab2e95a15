"""
Pods without an engine: the calls that kubelet makes the runtime receive, in their order, by containerd's CRI plugin (its
shim runc.v2, one for a pod) and by CRI-O. Written from the OCI runtime specification, go-runc and the annotations of
containerd's pkg/cri/annotations and of CRI-O. Here the harness is the shim: subreaper of what the pid files name.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tarfile

import sandbox
from lib import DIR, SANDBOX_ROOM, Engine, Steps, expect, memory_limits, until

steps = Steps()
step = steps.step
PR_SET_CHILD_SUBREAPER = 36
SLEEPER = ["sleep", "1000"]


class Pods(Engine):
    name = "pods"
    steps = steps
    cgroup_name = "pod-.*"

    def start(self):
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self.root = DIR + "/bb-root"
        with tarfile.open(self.images["bb"]) as archive, tarfile.open(fileobj=archive.extractfile("layer.tar")) as layer:
            layer.extractall(self.root)

    def runtime_argv(self, bundle, *args):
        return [self.path, "--root", DIR + "/state", "--log", bundle + "/log.json", "--log-format", "json", *args]

    def state_directories(self):
        return [DIR + "/state"]

    def reset(self):
        for pod in list(Pod.all):
            pod.__exit__()


class Container:
    """One container of a pod: its bundle and its calls."""

    def __init__(self, pod, word, args, sandbox_pid=None, cri_o=False, edit=None, sandbox_id=None, share_pid=False):
        self.pod, self.e = pod, pod.e
        self.id = "pod-" + self.e.new_name(word)
        self.bundle = DIR + "/bundles/" + self.id
        self.pid, self.status = None, None
        shutil.copytree(self.e.root, self.bundle + "/rootfs", symlinks=True)
        config = sandbox.config_of(list(args), "rootfs")
        config["hostname"] = pod.name
        for name, caps in config["process"]["capabilities"].items():
            # Not even root on this machine has that one.
            config["process"]["capabilities"][name] = [c for c in caps if c != "CAP_SYS_RESOURCE"]
        if sandbox_pid is None:
            kind, sandbox_id = "sandbox", self.id
            namespaces = [{"type": t} for t in ("pid", "ipc", "uts", "mount")]
        else:
            kind, sandbox_id = "container", sandbox_id or pod.sandbox.id
            ns = "/proc/%d/ns/" % sandbox_pid
            del config["hostname"]
            namespaces = [{"type": "mount"}, {"type": "ipc", "path": ns + "ipc"}, {"type": "uts", "path": ns + "uts"},
                          {"type": "pid", "path": ns + "pid"} if share_pid else {"type": "pid"}]
        namespaces.append({"type": "network", "path": pod.netns})
        config["linux"]["namespaces"] = namespaces
        config["linux"]["cgroupsPath"] = "/kubepods/besteffort/pod%s/%s" % (pod.name, self.id)
        # kubelet's /dev/shm of a pod is the sandbox's, by a bind mount.
        for mount in config["mounts"]:
            if mount["destination"] == "/dev/shm":
                mount.update(type="bind", source=pod.shm, options=["rbind", "rw"])
        if cri_o:
            config["annotations"] = {"io.kubernetes.cri-o.ContainerType": kind, "io.kubernetes.cri-o.SandboxID": sandbox_id,
                                     "io.kubernetes.cri-o.ContainerName": word}
        else:
            config["annotations"] = {"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": sandbox_id,
                                     "io.kubernetes.cri.sandbox-name": pod.name,
                                     "io.kubernetes.cri.sandbox-namespace": "default"}
            if kind == "container":
                config["annotations"]["io.kubernetes.cri.container-name"] = word
        if edit:
            edit(config)
        with open(self.bundle + "/config.json", "w") as f:
            json.dump(config, f)

    def call(self, *args, **wanted):
        """A call with this container's id at its end, from its bundle."""
        return self.raw(*args, self.id, **wanted)

    def raw(self, *args, status=0, stdin=None, **wanted):
        return expect(sandbox.run(self.e.runtime_argv(self.bundle, *args), 20, stdin=stdin, cwd=self.bundle), status, **wanted)

    def create(self, status=0):
        """Its stdio are files, as pipes would be held by the container; `out` reads them."""
        with open(self.bundle + "/out", "w") as out, open(os.devnull) as null:
            process = subprocess.Popen(
                self.e.runtime_argv(self.bundle, "create", "--bundle", self.bundle, "--pid-file", self.bundle + "/init.pid",
                                    self.id), stdin=null, stdout=out, stderr=out, cwd=self.bundle)
            got = process.wait(20)
        assert got == status or status is None, "create: status %d: %s" % (got, self.out())
        if got == 0:
            with open(self.bundle + "/init.pid") as f:
                self.pid = int(f.read())
        return got

    def start(self):
        self.call("start")
        return self

    def out(self):
        with open(self.bundle + "/out") as f:
            return f.read()

    def state(self):
        return json.loads(self.call("state").out)["status"]

    def wait(self, seconds=10):
        """The exit status as a shim sees it, from the process that the pid file names."""
        def reaped():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (os.waitstatus_to_exitcode(status) % 256 if os.WIFEXITED(status) else 128 + os.WTERMSIG(status),) \
                if pid else None
        if self.status is None and self.pid:
            self.status = until(reaped, seconds, "the end of %s (pid %d)" % (self.id, self.pid))[0]
        return self.status

    def exec(self, *args, status=0, **wanted):
        """exec --process --detach --pid-file, then its status by waiting."""
        top = self.e.directory()
        process = {"args": list(args), "cwd": "/", "env": ["PATH=" + sandbox.PATH], "user": {"uid": 0, "gid": 0}}
        with open(top + "/process", "w") as f:
            json.dump(process, f)
        with open(top + "/out", "w") as out, open(os.devnull) as null:
            got = subprocess.Popen(self.e.runtime_argv(self.bundle, "exec", "--process", top + "/process", "--detach",
                                                       "--pid-file", top + "/pid", self.id),
                                   stdin=null, stdout=out, stderr=out, cwd=self.bundle).wait(20)
        with open(top + "/out") as f:
            text = f.read()
        assert got == 0, "exec: status %d: %s" % (got, text)
        with open(top + "/pid") as f:
            pid = int(f.read())

        def reaped():
            one, how = os.waitpid(pid, os.WNOHANG)
            return (os.waitstatus_to_exitcode(how),) if one else None
        code = until(reaped, 10, "the end of exec's process %d" % pid)[0]
        with open(top + "/out") as f:
            return expect(sandbox.Result(code % 256, f.read(), ""), status, **wanted)

    def kill(self, number, **wanted):
        self.raw("kill", self.id, str(number), **wanted)

    def delete(self, *options):
        self.call("delete", *options)

    def finish(self):
        """KILL, wait, delete: as StopContainer and RemoveContainer."""
        self.kill(9, status=None)
        if self.pid:
            self.wait()
        self.delete()


class Pod:
    """RunPodSandbox at entry; at exit everything is removed by force."""

    all = set()

    def __init__(self, e, cri_o=False):
        self.e, self.cri_o = e, cri_o
        self.name = e.new_name("kube")
        self.netns = "/run/netns/" + self.name
        self.shm = "%s/shm-%s" % (DIR, self.name)
        self.containers = []

    def __enter__(self):
        Pod.all.add(self)
        subprocess.run("ip netns add {0} && ip -n {0} link set lo up && mkdir {1} && mount -t tmpfs -o mode=1777 shm {1}".format(
            self.name, self.shm), shell=True, check=True)
        self.sandbox = self.add("pause", SLEEPER, sandbox=True).start()
        return self

    def add(self, word, args, sandbox=False, **kwargs):
        """CreateContainer, without the start."""
        c = Container(self, word, args, None if sandbox else self.sandbox.pid, self.cri_o, **kwargs)
        self.containers.append(c)
        c.create()
        return c

    def run(self, word, args, **kwargs):
        return self.add(word, args, **kwargs).start()

    def __exit__(self, *_):
        for c in reversed(self.containers):
            with contextlib.suppress(AssertionError, ChildProcessError):
                c.kill(9, status=None)
                c.wait(5)
            sandbox.run(self.e.runtime_argv(c.bundle, "delete", "--force", c.id), 20)
            shutil.rmtree(c.bundle, ignore_errors=True)
        subprocess.run("ip netns del %s; umount %s" % (self.name, self.shm), shell=True, stderr=subprocess.DEVNULL)
        Pod.all.discard(self)


def life(e, cri_o):
    with Pod(e, cri_o) as pod:
        assert pod.sandbox.state() == "running"
        c = pod.add("app", ["sh", "-c", "echo begun; trap 'exit 7' TERM; while :; do sleep 0.1; done"])
        assert c.state() == "created"
        c.start()
        until(lambda: c.out() == "begun\n", 5, "its output")
        assert c.state() == "running"
        c.exec("sh", "-c", "echo in; exit 5", status=5, out="in\n")
        c.kill(15)
        assert c.wait() == 7, c.status
        assert c.state() == "stopped"
        c.delete()
        assert pod.sandbox.state() == "running"
        # StopPodSandbox, RemovePodSandbox
        pod.sandbox.kill(9)
        assert pod.sandbox.wait() == 137, pod.sandbox.status
        pod.sandbox.delete()


@step
def life_cri(e):
    life(e, False)


@step
def life_cri_o(e):
    life(e, True)


@step
def one_sandbox(e):
    """The containers of a pod share one sentry (nothing to compare for other runtimes)."""
    with Pod(e) as pod:
        pod.run("a", SLEEPER)
        pod.run("b", SLEEPER)
        sentries = [c for _, c in sandbox.processes_running(os.path.dirname(e.path)) if c.startswith("runsc-sentry --control-fd")]
        assert len(sentries) <= 1, sentries


@step
def container_restarted(e):
    """kubelet replaces a container that ended: a new id in the same sandbox."""
    with Pod(e) as pod:
        for turn in range(3):
            c = pod.run("app", ["sh", "-c", "test ! -e /mark && touch /mark && exit %d" % turn])
            assert c.wait() == turn
            c.delete()


@step
def own_root(e):
    with Pod(e) as pod:
        a, b = pod.run("a", SLEEPER), pod.run("b", SLEEPER)
        a.exec("sh", "-c", "echo a > /file")
        b.exec("test", "-e", "/file", status=1)
        # What was written is seen from the host, in the container's own bundle.
        assert os.path.exists(a.bundle + "/rootfs/file") and not os.path.exists(b.bundle + "/rootfs/file")


@step
def shared_volume(e):
    with Pod(e) as pod:
        volume = e.directory()

        def edit(config):
            config["mounts"].append({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", "rw"]})
        a, b = pod.run("a", SLEEPER, edit=edit), pod.run("b", SLEEPER, edit=edit)
        a.exec("sh", "-c", "echo one > /v/x; mkdir /v/d")
        b.exec("sh", "-c", "cat /v/x; ls /v; echo two >> /v/x; mv /v/x /v/d/y", out="one\nd\nx\n")
        a.exec("cat", "/v/d/y", out="one\ntwo\n")
        with open(volume + "/d/y") as f:
            assert f.read() == "one\ntwo\n"


@step
def shared_memory(e):
    with Pod(e) as pod:
        a, b = pod.run("a", SLEEPER), pod.run("b", SLEEPER)
        a.exec("sh", "-c", "echo shared > /dev/shm/x")
        b.exec("cat", "/dev/shm/x", out="shared\n")


@step
def own_pid_namespaces(e):
    with Pod(e) as pod:
        a, b = pod.run("a", ["sleep", "1001"]), pod.run("b", ["sleep", "1002"])
        text = a.exec("ps", "-o", "pid,args").out
        assert "sleep 1001" in text and "sleep 1002" not in text and "sleep 1000" not in text, text
        a.exec("sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline", out="sleep 1001 ")
        b.exec("sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline", out="sleep 1002 ")


@step
def shared_pid_namespace(e):
    """shareProcessNamespace: the path of the sandbox's pid namespace."""
    with Pod(e) as pod:
        a, b = (pod.run(n, ["sh", "-c", "sleep 100%s; exit 9" % n], share_pid=True) for n in "34")
        text = a.exec("ps", "-o", "pid,args").out
        assert "sleep 1003" in text and "sleep 1004" in text and "sleep 1000" in text, text
        # The shell may not have started it yet.
        a.exec("sh", "-c", "until p=$(ps -o pid,args | awk '$2 == \"sleep\" && $3 == 1004 {print $1}'); test \"$p\"; do "
               "sleep 0.1; done; kill $p")
        assert b.wait() == 9
        b.delete()


@step
def shared_network(e):
    with Pod(e) as pod:
        pod.run("a", ["sh", "-c", "mkdir /w; echo page > /w/p; httpd -f -p 8080 -h /w"])
        b = pod.run("b", SLEEPER)
        until(lambda: b.exec("wget", "-q", "-O", "-", "http://127.0.0.1:8080/p", status=None).out == "page\n", 5)
        text = subprocess.run(["ip", "netns", "exec", pod.name, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/p"],
                              capture_output=True, text=True, timeout=10).stdout if shutil.which("wget") else "page\n"
        assert text == "page\n", text


@step
def shared_names(e):
    """uts and ipc of the pod."""
    with Pod(e) as pod:
        a, b = pod.run("a", SLEEPER), pod.run("b", SLEEPER)
        a.exec("hostname", out=pod.name + "\n")
        b.exec("hostname", out=pod.name + "\n")


@step
def pids_of_each(e):
    """The pid file names the container's own process; ps gives pids of this container only."""
    with Pod(e) as pod:
        a, b = pod.run("a", ["sh", "-c", "sleep 1001 & sleep 1002; true"]), pod.run("b", SLEEPER)
        assert len({pod.sandbox.pid, a.pid, b.pid}) == 3
        for c in (a, b, pod.sandbox):
            assert json.loads(c.call("state").out)["pid"] == c.pid
            assert os.path.exists("/proc/%d" % c.pid)
        a.exec("touch", "/of-a")
        assert os.path.exists("/proc/%d/root/of-a" % a.pid) and not os.path.exists("/proc/%d/root/of-a" % b.pid)
        assert os.readlink("/proc/%d/ns/net" % a.pid) == os.readlink("/proc/%d/ns/net" % b.pid)
        of_a, of_b = (set(json.loads(c.call("ps", "--format", "json").out)) for c in (a, b))
        assert not of_a & of_b, (of_a, of_b)
        lines = []
        for pid in sorted(of_a):
            with open("/proc/%d/cmdline" % pid) as f:
                lines.append(f.read().replace("\0", " ").strip())
        assert sorted(lines)[1:] == ["sleep 1001", "sleep 1002"] and len(of_b) == 1, (lines, of_b)


@step
def exit_codes(e):
    with Pod(e) as pod:
        assert pod.run("a", ["sh", "-c", "exit 42"]).wait() == 42
        c = pod.run("b", SLEEPER)
        c.kill(9)
        assert c.wait() == 137


@step
def kill_one(e):
    """KILL of one container ends its processes and no others."""
    with Pod(e) as pod:
        a, b = pod.run("a", ["sh", "-c", "sleep 1001 & sleep 1002; true"]), pod.run("b", SLEEPER)
        a.kill(9)
        assert a.wait() == 137
        a.delete()
        assert b.state() == "running" and pod.sandbox.state() == "running"
        b.exec("true")
        b.finish()


@step
def kill_all(e):
    with Pod(e) as pod:
        a, b = pod.run("a", ["sh", "-c", "sleep 1001 & sleep 1002; true"]), pod.run("b", SLEEPER)
        a.raw("kill", "--all", a.id, "9")
        assert a.wait() == 137
        assert b.state() == "running"


@step
def sandbox_ends(e):
    """With its root container the sandbox ends, and all that is in it."""
    with Pod(e) as pod:
        a = pod.run("a", SLEEPER)
        pod.sandbox.kill(9)
        assert pod.sandbox.wait() == 137
        if e.runtime == "runsc":
            a.wait()
            assert a.state() == "stopped"
            a.delete()
        else:
            a.finish()
        pod.sandbox.delete()


@step
def sandbox_crashes(e):
    """The sentry is killed from outside: everything can be deleted, nothing stays."""
    with Pod(e) as pod:
        a = pod.run("a", SLEEPER)
        for pid, command in sandbox.processes_running(os.path.dirname(e.path)):
            if command.startswith("runsc-sentry --control-fd"):
                os.kill(pid, signal.SIGKILL)
        if e.runtime == "runsc":
            assert a.wait() == 137 and a.state() == "stopped"
        a.delete("--force")
        pod.sandbox.delete("--force")


@step
def pause_one(e):
    with Pod(e) as pod:
        volume = e.directory()

        def edit(config):
            config["mounts"].append({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", "rw"]})
        a = pod.run("a", ["sh", "-c", "while :; do echo x >> /v/a; sleep 0.05; done"], edit=edit)
        b = pod.run("b", ["sh", "-c", "while :; do echo x >> /v/b; sleep 0.05; done"], edit=edit)

        def size(name):
            return os.stat(volume + "/" + name).st_size if os.path.exists(volume + "/" + name) else 0
        until(lambda: size("a") and size("b"), 5)
        a.call("pause")
        assert a.state() == "paused" and b.state() == "running"
        before, other = size("a"), size("b")
        until(lambda: size("b") > other + 4, 5, "the other runs on")
        assert size("a") == before, "it ran on while paused"
        a.call("resume")
        until(lambda: size("a") > before, 5, "output after resume")


@step
def not_found(e):
    """A container that cannot start does not hurt its pod."""
    with Pod(e) as pod:
        c = Container(pod, "bad", ["no-such-program"], pod.sandbox.pid)
        pod.containers.append(c)
        if c.create(status=None) == 0:
            c.call("start", status=None)
        c.call("delete", "--force")
        with open(c.bundle + "/log.json") as f:
            last = json.loads([line for line in f if '"error"' in line][-1])
        assert "no-such-program" in last["msg"], last
        pod.run("good", ["true"]).wait()


@step
def unknown_sandbox(e):
    with Pod(e) as pod:
        c = Container(pod, "lost", SLEEPER, pod.sandbox.pid, sandbox_id="no-such-sandbox")
        pod.containers.append(c)
        if e.runtime == "runsc":
            assert c.create(status=None) != 0, "created in a sandbox that does not exist"
            assert "no-such-sandbox" in c.out(), c.out()


@step
def memory_limit(e):
    """An out-of-memory kill in one container leaves the others alone."""
    with Pod(e) as pod:
        b = pod.run("b", SLEEPER)
        a = pod.run("a", ["sh", "-c", "head -c 300000000 /dev/zero | tail >/dev/null; echo $?; exit 3"],
                    edit=lambda c: c["linux"].update(resources={"memory": {"limit": 40 << 20, "swap": 40 << 20}}))
        a.wait(20)
        assert a.status in (3, 137) and "0\n" not in a.out(), (a.status, a.out())
        assert b.state() == "running" and pod.sandbox.state() == "running"
        b.exec("true")


@step
def pids_limit(e):
    with Pod(e) as pod:
        a = pod.run("a", ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; echo all"],
                    edit=lambda c: c["linux"].update(resources={"pids": {"limit": 8}}))
        b = pod.run("b", ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; echo all"])
        until(lambda: "all" in b.out() and "fork" in a.out(), 5)


@step
def cgroup_of_each(e):
    """The container's cgroup has its limits; update changes them."""
    with Pod(e) as pod:
        a = pod.run("a", SLEEPER, edit=lambda c: c["linux"].update(resources={"memory": {"limit": 64 << 20}}))
        assert any(64 <= limit <= 64 + SANDBOX_ROOM for limit in memory_limits(a.id)), memory_limits(a.id)
        a.raw("update", "--resources", "-", a.id, stdin=json.dumps({"memory": {"limit": 300 << 20}}))
        assert any(300 <= limit <= 300 + SANDBOX_ROOM for limit in memory_limits(a.id)), memory_limits(a.id)


@step
def terminal(e):
    """A container on a terminal by --console-socket."""
    from e2e.execs import receive_console
    with Pod(e) as pod:
        c = Container(pod, "tty", ["sh", "-c", "tty; read x; echo got $x"], pod.sandbox.pid,
                      edit=lambda config: config["process"].update(terminal=True))
        pod.containers.append(c)
        got, path = {}, c.bundle + "/console.sock"
        thread = receive_console(path, got)
        c.raw("create", "--bundle", c.bundle, "--pid-file", c.bundle + "/init.pid", "--console-socket", path, c.id)
        thread.join(10)
        with open(c.bundle + "/init.pid") as f:
            c.pid = int(f.read())
        c.start()
        text = b""
        while b"/dev/pts/" not in text:
            text += os.read(got["fd"], 1000)
        os.write(got["fd"], b"typed\n")
        while b"got typed" not in text:
            text += os.read(got["fd"], 1000)
        assert c.wait() == 0
        os.close(got["fd"])
