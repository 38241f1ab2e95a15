"""
Pods of Kubernetes: the calls of a kubelet to containerd's CRI plugin (runtime.v1, k8s.io/cri-api), with its network by CNI.
The few messages are encoded by hand: {field number: value}.
"""
import contextlib
import json
import os
import subprocess
import tarfile

from lib import DIR, Engine, HostServer, Skip, Steps, fetch, image_archive, until

steps = Steps()
step = steps.step
SLEEPER = ["sleep", "1000"]
RUNNING, EXITED = 1, 2
POD, CONTAINER, NODE = 0, 1, 2


def encode(message):
    """A protobuf message: numbers are varints, text and bytes and messages have a length, lists repeat."""
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])
    data = b""
    for field, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                data += varint(field << 3) + varint(one)
            else:
                one = encode(one) if isinstance(one, dict) else one.encode() if isinstance(one, str) else one
                data += varint(field << 3 | 2) + varint(len(one)) + one
    return data


def decode(data):
    """{field number: last value}; messages stay bytes."""
    def varint(at):
        n = shift = 0
        while True:
            n |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 128:
                return n, at
    found, at = {}, 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            found[key >> 3], at = varint(at)
        elif key & 7 == 2:
            size, at = varint(at)
            found[key >> 3], at = data[at:at + size], at + size
        else:
            at += {1: 8, 5: 4}[key & 7]
    return found


class Refused(AssertionError):
    """The answer to a call was an error."""


class Cri(Engine):
    name = "cri"
    steps = steps

    def start(self):
        self.pods = []
        os.makedirs(DIR + "/cni")
        with open(DIR + "/cni/10-net.conflist", "w") as f:
            json.dump({"cniVersion": "0.4.0", "name": "pods", "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "promiscMode": False,
                 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.99.0.0/16"}]], "dataDir": DIR + "/ipam",
                          "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]}, f)
        config = self.file("""version = 2
root = "{0}/root"
state = "{0}/state"
[grpc]
  address = "{0}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{0}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "{1}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{1}]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{1}.options]
      BinaryName = "{2}"
""".format(DIR, self.runtime, self.path), name="config.toml")
        self.connect(DIR + "/c.sock")

        def ready():
            with contextlib.suppress(Refused):
                return self.call("Version", {1: "v1"})
        self.daemon(["containerd", "-c", config], ready)
        with tarfile.open(self.images["bb"]) as archive:
            archive.extract("layer.tar", DIR)
        image_archive(DIR + "/pause.tar", "localhost/pause:1", DIR + "/layer.tar", {"Cmd": ["/bin/sleep", "1000000"]})
        for archive in [DIR + "/pause.tar", *self.images.values()]:
            subprocess.run(["ctr", "-a", DIR + "/c.sock", "-n", "k8s.io", "images", "import", archive], check=True, timeout=120,
                           stdout=subprocess.DEVNULL)
        # {1: ImageSpec} until the plugin has seen it
        until(lambda: 1 in self.call("ImageStatus", {1: {1: "localhost/bb:1"}}, service="ImageService"), 10, "the image")

    def connect(self, path):
        try:
            import grpc
        except ImportError:
            raise Skip("python3-grpcio is not installed") from None
        self.channel, self.error = grpc.insecure_channel("unix://" + path), grpc.RpcError

    def call(self, method, message, service="RuntimeService", timeout=30):
        call = self.channel.unary_unary("/runtime.v1.%s/%s" % (service, method))
        try:
            return decode(call(encode(message), timeout=timeout))
        except self.error as why:
            raise Refused("%s: %s" % (method, why.details())) from None

    def refused(self, method, message):
        """The error of a call that must fail."""
        try:
            self.call(method, message)
        except Refused as why:
            return str(why)
        raise AssertionError(method + " did not fail")

    def state_directories(self):
        return ["/run/containerd/runc/k8s.io"]

    may_stay = ("containerd",)

    def reset(self):
        for pod in list(self.pods):
            pod.__exit__()


class Pod:
    """RunPodSandbox; at exit StopPodSandbox and RemovePodSandbox, which remove its containers too."""

    def __init__(self, e, network=POD, pid=CONTAINER, config=None):
        self.e, self.name = e, e.new_name("pod")
        self.options = {1: network, 2: pid, 3: POD}
        self.logs = e.directory()
        self.config = {1: {1: self.name, 2: self.name + "-uid", 3: "default", 4: 0}, 2: self.name, 3: self.logs,
                       8: {1: "/kubepods/besteffort/pod" + self.name, 2: {1: self.options}}, **(config or {})}
        if network == NODE:
            del self.config[2]
        self.id = None

    def __enter__(self):
        self.e.pods.append(self)
        self.id = self.e.call("RunPodSandbox", {1: self.config, 2: self.e.runtime})[1].decode()
        return self

    def __exit__(self, *_):
        self.e.pods.remove(self)
        if self.id:
            self.e.call("StopPodSandbox", {1: self.id})
            self.e.call("RemovePodSandbox", {1: self.id})

    def state(self):
        """0: ready."""
        return decode(self.e.call("PodSandboxStatus", {1: self.id})[1]).get(3, 0)

    def address(self):
        return decode(decode(self.e.call("PodSandboxStatus", {1: self.id})[1])[5])[1].decode()

    def create(self, command, mounts=(), resources=None, security=None, image="bb", more=None):
        name = self.e.new_name()
        config = {1: {1: name}, 2: {1: image if "/" in image else "localhost/%s:1" % image}, 3: command, 7: [{1: there, 2: here} for here, there in mounts],
                  11: name + ".log", 15: {1: resources or {}, 2: {3: self.options, **(security or {})}}, **(more or {})}
        got = self.e.call("CreateContainer", {1: self.id, 2: config, 3: self.config})
        return Container(self, got[1].decode(), name)

    def run(self, command, **kwargs):
        c = self.create(command, **kwargs)
        self.e.call("StartContainer", {1: c.id})
        return c


class Container:
    def __init__(self, pod, cid, name):
        self.pod, self.e, self.id, self.name = pod, pod.e, cid, name

    def status(self):
        return decode(self.e.call("ContainerStatus", {1: self.id})[1])

    def state(self):
        return self.status().get(3, 0)

    def wait(self, seconds=10):
        """Its exit code."""
        until(lambda: self.state() == EXITED, seconds, "the end of " + self.name)
        return self.status().get(7, 0)

    def exec(self, *command, status=0):
        got = self.e.call("ExecSync", {1: self.id, 2: list(command), 3: 10})
        out, err = (got.get(i, b"").decode() for i in (1, 2))
        assert got.get(3, 0) == status, (got.get(3, 0), out, err)
        return out

    def stop(self, seconds=0):
        self.e.call("StopContainer", {1: self.id, 2: seconds})

    def remove(self):
        self.e.call("RemoveContainer", {1: self.id})

    def log(self):
        """What kubectl logs shows; a line has time, stream, tag, text."""
        with open(self.pod.logs + "/" + self.name + ".log") as f:
            return "".join(line.split(" ", 3)[3] for line in f)


@step
def pod_life(e):
    with Pod(e) as pod:
        assert pod.state() == 0
        c = pod.create(["sh", "-c", "echo begun; trap 'echo TERM; exit 7' TERM; while :; do sleep 0.1; done"])
        assert c.state() == 0
        e.call("StartContainer", {1: c.id})
        assert c.state() == RUNNING
        until(lambda: c.log() == "begun\n", 5, "its log")
        assert c.exec("sh", "-c", "echo in; exit 5", status=5) == "in\n"
        c.stop(10)
        assert c.wait() == 7 and c.log() == "begun\nTERM\n"
        c.remove()
        e.call("StopPodSandbox", {1: pod.id})
        assert pod.state() == 1


@step
def exit_codes(e):
    with Pod(e) as pod:
        assert pod.run(["sh", "-c", "exit 42"]).wait() == 42
        c = pod.run(SLEEPER)
        c.stop(0)
        assert c.wait() == 137


@step
def not_found(e):
    with Pod(e) as pod:
        c = pod.create(["no-such-program"])
        assert "no-such-program" in e.refused("StartContainer", {1: c.id})
        c.remove()
        pod.run(["true"]).wait()


@step
def restarts(e):
    with Pod(e) as pod:
        for turn in range(3):
            c = pod.run(["sh", "-c", "exit %d" % turn])
            assert c.wait() == turn
            c.remove()
        assert pod.state() == 0


@step
def two_containers(e):
    """One network, own processes, own roots, a shared volume."""
    with Pod(e) as pod:
        volume = e.directory()
        a = pod.run(["sh", "-c", "echo page > /v/p; exec httpd -f -p 8080 -h /v"], mounts=[(volume, "/v")])
        b = pod.run(SLEEPER, mounts=[(volume, "/w")])
        until(lambda: os.path.exists(volume + "/p"), 5)
        assert b.exec("cat", "/w/p") == "page\n"
        assert b.exec("wget", "-q", "-O", "-", "http://127.0.0.1:8080/p") == "page\n"
        assert "httpd" not in b.exec("ps", "-o", "args") and "sleep" not in a.exec("ps", "-o", "args")
        a.exec("touch", "/of-a")
        b.exec("test", "-e", "/of-a", status=1)
        a.stop(0)
        a.wait()
        assert b.state() == RUNNING
        assert b.exec("hostname") == pod.name + "\n"


@step
def one_sandbox(e):
    """Containers of a pod run in one sandbox (nothing to compare for other runtimes)."""
    import sandbox
    with Pod(e) as pod:
        pod.run(SLEEPER)
        pod.run(SLEEPER)
        sentries = [c for _, c in sandbox.processes_running(os.path.dirname(e.path)) if c.startswith("runsc-sentry --control-fd")]
        assert len(sentries) <= 1, sentries


@step
def shared_processes(e):
    """shareProcessNamespace"""
    with Pod(e, pid=POD) as pod:
        pod.run(["sleep", "1001"])
        assert "sleep 1001" in pod.run(SLEEPER).exec("ps", "-o", "args")


@step
def shared_memory(e):
    with Pod(e) as pod:
        pod.run(SLEEPER).exec("sh", "-c", "echo x > /dev/shm/x")
        assert pod.run(SLEEPER).exec("cat", "/dev/shm/x") == "x\n"


@step
def network_in_and_out(e):
    with HostServer(8079), Pod(e) as pod:
        c = pod.run(["sh", "-c", "mkdir /w; echo page > /w/p; exec httpd -f -h /w"])
        assert fetch("http://%s/p" % pod.address()) == "page\n"
        assert c.exec("wget", "-q", "-O", "-", "http://10.99.0.1:8079/") == "host sees %s\n" % pod.address()


@step
def host_port(e):
    port = {1: 0, 2: 80, 3: 18099}
    with Pod(e, config={5: [port]}) as pod:
        pod.run(["sh", "-c", "mkdir /w; echo page > /w/p; exec httpd -f -h /w"])
        assert fetch("http://10.99.0.1:18099/p") == "page\n"


@step
def pods_talk(e):
    with Pod(e) as one, Pod(e) as two:
        one.run(["sh", "-c", "mkdir /w; echo page > /w/p; exec httpd -f -h /w"])
        c = two.run(SLEEPER)
        url = "http://%s/p" % one.address()
        assert fetch(url) == c.exec("wget", "-q", "-O", "-", url) == "page\n"


@step
def host_network(e):
    with HostServer(8078), Pod(e, network=NODE) as pod:
        assert pod.run(SLEEPER).exec("wget", "-q", "-O", "-", "http://127.0.0.1:8078/") == "host sees 127.0.0.1\n"


@step
def memory_limit(e):
    """The container is reported as OOMKilled by the kubelet's rule: 137; its neighbours live."""
    with Pod(e) as pod:
        b = pod.run(SLEEPER)
        a = pod.run(["sh", "-c", "exec tail /dev/zero"], resources={4: 40 << 20})
        assert a.wait(20) == 137
        assert b.state() == RUNNING
        b.exec("true")


@step
def memory_reason(e):
    with Pod(e) as pod:
        a = pod.run(["sh", "-c", "exec tail /dev/zero"], resources={4: 40 << 20})
        a.wait(20)
        until(lambda: a.status().get(10) == b"OOMKilled", 5, "OOMKilled")


@step
def update(e):
    """In-place resize."""
    with Pod(e) as pod:
        c = pod.run(SLEEPER, resources={4: 64 << 20, 3: 100})
        e.call("UpdateContainerResources", {1: c.id, 2: {4: 96 << 20, 3: 200}})
        groups = []
        for top, _, files in os.walk("/sys/fs/cgroup"):
            groups += [top + "/" + f for f in files if f in ("cpu.shares", "cpu.weight") and c.id in top]
        with open(groups[0]) as f:
            assert f.read().strip() in ("200", "8"), groups


@step
def statistics(e):
    with Pod(e) as pod:
        c = pod.run(["sh", "-c", "while :; do :; done"])

        def used():
            stats = decode(e.call("ContainerStats", {1: c.id})[1])
            cpu, memory = decode(stats.get(2, b"")), decode(stats.get(3, b""))
            return decode(cpu.get(2, b"")).get(1, 0) > 10 ** 8 and decode(memory.get(2, b"")).get(1, 0) > 0
        until(used, 10, "processor time and memory")


@step
def security(e):
    with Pod(e) as pod:
        c = pod.run(SLEEPER, security={5: {1: 1000}, 12: {1: 1000}, 7: 1, 11: 1})
        assert c.exec("id", "-u") == "1000\n"
        assert "Read-only" in c.exec("sh", "-c", "touch /tmp/x 2>&1; true")
        assert "1" in c.exec("grep", "NoNewPrivs", "/proc/self/status")
        assert "0000000000000000" in c.exec("grep", "CapEff", "/proc/self/status")


@step
def pod_sysctl(e):
    """sysctls of a pod are its sandbox's; net.* are seen in each container, which shares the network."""
    linux = {1: "/kubepods/besteffort/sysctl", 2: {1: {1: POD, 2: CONTAINER, 3: POD}},
             3: [{1: "net.ipv4.ip_unprivileged_port_start", 2: "77"}]}
    with Pod(e, config={8: linux}) as pod:
        assert pod.run(SLEEPER).exec("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "77\n"


@step
def debian(e):
    if "deb" not in e.images:
        raise Skip("no Debian image")
    with Pod(e) as pod:
        c = pod.run(["sleep", "1000"], image="deb")
        assert c.exec("python3", "-c", "print(6 * 7)") == "42\n"
