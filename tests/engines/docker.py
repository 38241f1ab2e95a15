"""dockerd with its containerd, by the docker command line."""
import json
import os
import subprocess

import cli
from cli import SLEEP, state
from lib import DIR, Engine, HostServer, Steps, until

steps = Steps()
steps.list += cli.steps.list
step = steps.step


class Docker(Engine):
    name = "docker"
    steps = steps
    exec_not_found = 126
    build_options = "--network none"
    cgroup_name = "(?!buildkit)[0-9a-f]{64}"

    def start(self):
        # The default runtime, so that `docker build` takes it too. Limits: see podman.py.
        config = self.file(json.dumps({
            "runtimes": {self.runtime: {"path": self.path}} if self.runtime != "runc" else {},
            "default-runtime": self.runtime,
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}}}), name="daemon.json")
        self.daemon(["dockerd", "--config-file", config, "--data-root", DIR + "/data", "--exec-root", DIR + "/exec",
                     "--pidfile", DIR + "/dockerd.pid", "-H", "unix://" + DIR + "/docker.sock"],
                    lambda: subprocess.run(self.argv(["version"]), capture_output=True).returncode == 0)
        for archive in self.images.values():
            self("load -q -i " + archive, timeout=120)

    def argv(self, words):
        return ["/usr/bin/docker", "-H", "unix://" + DIR + "/docker.sock", *words]

    def reset(self):
        names = self("ps -a -q").out.split()
        if names:
            self(["rm", "-f", "-v", *names], status=None, timeout=60)

    def health(self, c, wanted):
        until(lambda: state(self, c, "Health.Status") == wanted, 15, wanted)

    def state_directories(self):
        return [DIR + "/exec/runtime-%s/moby" % self.runtime, DIR + "/exec/runtime-runc/moby"]

    may_stay = ("containerd",)


@step
def runtime_option(e):
    """--runtime by name, beside others."""
    e("run --rm --runtime %s bb echo named" % e.runtime, out="named\n")
    assert e.runtime in e("info --format '{{json .Runtimes}}'").out


@step
def workdir_made(e):
    e("run --rm --workdir /made/here bb pwd", out="/made/here\n")


@step
def name_server(e):
    """Of a network that a user made: 127.0.0.11 in each container."""
    net = e.new_name("net")
    e("network create " + net)
    try:
        e("run --rm --network %s bb cat /etc/resolv.conf" % net, has="nameserver 127.0.0.11")
        with e.container("--network %s --network-alias other %s" % (net, SLEEP)) as c:
            own = e("exec %s hostname -i" % c).out.strip()
            e("run --rm --network %s bb nslookup -type=a %s" % (net, c), has=own)
            e("run --rm --network %s deb getent hosts other" % net, has=own)
    finally:
        e("network rm " + net)


@step
def host_gateway(e):
    with HostServer(8090):
        e("run --rm --add-host host:host-gateway bb wget -q -O - http://host:8090/", has="host sees 172.")


@step
def restart_always(e):
    with e.container("--restart always bb sh -c 'echo begun; sleep 0.3; exit 2'") as c:
        until(lambda: e("logs " + c).out.count("begun") >= 3, 15, "three starts")


@step
def events(e):
    with e.container("bb true") as c:
        e("wait " + c)
        words = ["events", "--since", "1h", "--until", "0s", "--filter", "container=" + c, "--format", "{{.Action}}"]
        until(lambda: [w for w in e(words).out.split() if w in ("create", "start", "die")] == ["create", "start", "die"], 5)


@step
def update_pids(e):
    with e.container(SLEEP) as c:
        e("update --pids-limit 20 --cpus 0.5 --memory 200m --memory-swap 200m " + c)


@step
def live_restore_kill(e):
    """Killing the shim ends the container for docker, and nothing of it stays."""
    with e.container(SLEEP) as c:
        pid = state(e, c, "Pid")
        with open("/proc/%s/stat" % pid) as f:
            shim = int(f.read().rsplit(")", 1)[1].split()[1])
        os.kill(shim, 9)
        until(lambda: state(e, c, "Running") == "false", 10, "docker knows")
        until(lambda: not os.path.exists("/proc/%s/root/bin" % pid), 10, "the end of the container's process")
