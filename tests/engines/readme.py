"""The commands and files of README.md's pages for engines, as they stand there."""
import json
import os
import re
import subprocess
import tarfile
import tempfile

import cri
import sandbox
from lib import DIR, Engine, Steps, expect, image_archive

steps = Steps()
step = steps.step
TOP = sandbox.TOP


def blocks(title):
    """The indented blocks of a section of README.md."""
    with open(TOP + "/README.md") as f:
        section = re.search(r"^##+ %s\n(.*?)(?=^## |^### |\Z)" % re.escape(title), f.read(), re.M | re.S)[1]
    return [re.sub(r"^    ", "", b, flags=re.M) for b in re.findall(r"(?:^(?:    .*)?\n)+", section, re.M) if b.strip()]


# What the pages take as given: sudo, systemd, and what a registry would send. The programs are built already.
GIVEN = """
set -e
sudo() { "$@"; }
make() { test $# = 0 || command make -s --no-print-directory -C %(top)s OUT=%(out)s -o all "$@"; }
systemctl() {
	case $2 in
	docker) dockerd >%(dir)s/dockerd.log 2>&1 & up="docker version" ;;
	containerd) containerd >%(dir)s/containerd.log 2>&1 & up="ctr version" ;;
	esac
	for i in $(seq 100); do $up >/dev/null 2>&1 && break; sleep 0.1; done
}
"""
# Of the engines, where they keep things unless told: the box has its own.
PLACES = ("/usr/local", "/var/lib/containers", "/var/lib/containerd", "/var/lib/docker", "/var/lib/cni")
# Root of this machine may lack CAP_SYS_RESOURCE, and no systemd runs.
PODMAN_CONF = """[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
"""
BUSYBOX, PAUSE = "docker.io/library/busybox:latest", "registry.k8s.io/pause:3.6"


class Readme(Engine):
    name = "readme"
    steps = steps
    comparable = False
    may_stay = ("dockerd", "containerd", "docker-proxy")

    def start(self):
        for place in PLACES:
            if os.path.isdir(place):
                os.makedirs(DIR + place)
                subprocess.run(["mount", "--bind", DIR + place, place], check=True)
        self.given = GIVEN % {"top": TOP, "out": os.path.dirname(self.path), "dir": DIR}
        with tarfile.open(self.images["bb"]) as archive:
            archive.extract("layer.tar", DIR)
        image_archive(DIR + "/busybox.tar", BUSYBOX, DIR + "/layer.tar")
        image_archive(DIR + "/pause.tar", PAUSE, DIR + "/layer.tar", {"Cmd": ["/bin/sleep", "1000000"]})
        self.sh(blocks("With a container engine")[0])

    def sh(self, text, timeout=60, **wanted):
        """Runs a script of a page in an empty directory, not over pipes, which a daemon would hold open."""
        environ = {"PATH": "/usr/local/bin:" + sandbox.PATH, "HOME": DIR + "/home"}
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(["bash", "-c", self.given + text], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       cwd=self.directory(), env=environ)
            status = process.wait(timeout)
            out.seek(0)
            return expect(sandbox.Result(status, out.read(), ""), **wanted)


@step
def install(e):
    for name in ("bin/runsc", "libexec/runsc/runsc-sentry", "libexec/runsc/runsc-gofer"):
        assert os.access("/usr/local/" + name, os.X_OK), name
    e.sh("runsc --version", has="runsc version")


@step
def podman(e):
    once, conf, build = blocks("podman")
    os.makedirs("/etc/containers", exist_ok=True)
    with open("/etc/containers/containers.conf", "w") as f:
        f.write(PODMAN_CONF)
    e.sh("podman load -q -i %s/busybox.tar" % DIR)
    e.sh(once, has="Linux")
    e.sh(build, has="COMMIT")
    with open("/etc/containers/containers.conf", "a") as f:
        f.write(conf)
    e.sh("podman info --format '{{.Host.OCIRuntime.Path}}'", out="/usr/local/bin/runsc\n")
    e.sh("podman run --rm docker.io/library/busybox uname -a; podman --runtime-flag debug --runtime-flag debug-log=%s/log/ run --rm "
         "docker.io/library/busybox true" % DIR, has="Linux")
    assert os.listdir(DIR + "/log"), "no debug log"


@step
def docker(e):
    (page,) = blocks("docker")
    install, restart, run = page.strip().split("\n")
    e.sh(install)
    e.sh(restart + "; docker load -q -i %s/busybox.tar" % DIR)
    e.sh(run, has="Linux")
    e.sh("runsc install --runtime=runsc-debug -- --debug --debug-log=/tmp/runsc/; grep runsc-debug /etc/docker/daemon.json; runsc uninstall")
    with open("/etc/docker/daemon.json") as f:
        assert list(json.load(f)["runtimes"]) == ["runsc-debug"]


@step
def containerd(e):
    with open("/etc/containerd/config.toml", "w") as f:
        f.write(blocks("Kubernetes")[0])
    e.sh("systemctl restart containerd; for i in busybox pause; do ctr -n k8s.io images import %s/$i.tar; done; "
         "ctr images import %s/busybox.tar" % (DIR, DIR))
    e.sh(blocks("containerd")[0], has="Linux")


@step
def kubernetes(e):
    """The handler that the page makes, by the calls of a kubelet. Needs the step before."""
    e.sh("ctr plugins ls | grep 'cri .*ok'")
    kubelet = cri.Cri("runsc", e.path, e.images)
    kubelet.pods = []
    kubelet.connect("/run/containerd/containerd.sock")
    with cri.Pod(kubelet, network=cri.NODE) as pod:
        c = pod.run(["uname", "-a"], image=BUSYBOX)
        assert c.wait() == 0 and "Linux" in c.log(), c.log()
