"""podman with conmon and netavark."""
import json
import os

import cli
import sandbox
from cli import SLEEP, state
from lib import DIR, Engine, Steps, fetch, until

steps = Steps()
steps.list += cli.steps.list
step = steps.step


class Podman(Engine):
    name = "podman"
    steps = steps
    build_options = "--isolation oci --network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000"
    # Those of pods, without the prefix, are podman's own and stay with version 1.
    cgroup_name = "libpod-[0-9a-f]{64}"
    exec_not_found = 127
    top_shows_all = True
    may_stay = ("aardvark-dns",)

    def start(self):
        # Without low limits podman asks for some that need CAP_SYS_RESOURCE; `play kube` of 4.3 swaps soft and hard.
        conf = self.file("""
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "{0}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{1}"
image_copy_tmp_dir = "{0}"
[engine.runtimes]
{1} = ["{2}"]
""".format(DIR, self.runtime, self.path), name="containers.conf")
        os.makedirs(DIR + "/networks", exist_ok=True)
        os.environ["CONTAINERS_CONF"] = conf
        for archive in self.images.values():
            self("load -q -i " + archive, timeout=120)

    def argv(self, words):
        return ["podman", "--root", DIR + "/root", "--runroot", DIR + "/runroot", "--storage-driver", "overlay",
                *(["--runtime", self.path] if words[0] == "build" else []), *words]

    def remove_command(self, name):
        return "rm -f -v -t 0 " + name

    def reset(self):
        self("rm -f -a -v -t 0", status=None, timeout=60)
        self("pod rm -f -a -t 0", status=None, timeout=60)

    def health(self, c, wanted):
        """No systemd that would run the timers: by hand."""
        self("healthcheck run " + c, status=0 if wanted == "healthy" else 1)
        assert state(self, c, "Health.Status") == wanted

    def state_directories(self):
        return ["/run/" + self.runtime]


@step
def info(e):
    got = json.loads(e("info --format json").out)["host"]["ociRuntime"]
    assert got["path"] == e.path and e.runtime.split("-")[0] in got["version"], got


@step
def preserve_fds(e):
    """One more descriptor than three is handed down."""
    argv = e.argv(e.words(["run", "--rm", "--preserve-fds", "1", "bb", "sh", "-c", "cat <&3"]))
    result = sandbox.run(["sh", "-c", 'exec "$@" 3<%s' % e.file("by descriptor\n"), "sh", *argv])
    assert (result.status, result.out) == (0, "by descriptor\n"), result


@step
def userns_auto(e):
    e("run --rm --userns auto bb sh -c 'id -u; cat /proc/self/uid_map; touch /mine'", has="0\n")
    with e.container("--userns auto:size=2000 " + SLEEP) as c:
        pid = state(e, c, "Pid")
        with open("/proc/%s/uid_map" % pid) as f:
            assert f.read().split()[1] != "0"
        e("exec %s sh -c 'touch /made; stat -c %%u /made'" % c, out="0\n")


@step
def userns_map(e):
    top = e.directory()
    os.chmod(top, 0o777)
    e(["run", "--rm", "--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000", "-v", top + ":/v", "bb", "sh", "-c",
       "touch /v/x; cat /proc/self/uid_map"], has="200000")
    assert os.stat(top + "/x").st_uid == 200000


@step
def userns_keep_id(e):
    e("run --rm --userns keep-id bb id -u")


@step
def volume_chown(e):
    top = e.directory()
    e(["run", "--rm", "--user", "1000", "-v", top + ":/v:U", "bb", "touch", "/v/x"])
    assert os.stat(top).st_uid == 1000


@step
def unmask(e):
    e("run --rm --security-opt unmask=/proc/sys bb sh -c 'test -w /proc/sys/kernel/shmmax'")
    e("run --rm --security-opt mask=/etc bb ls /etc", out="")


@step
def umask_timezone(e):
    e("run --rm --umask 0077 bb sh -c 'touch /x; stat -c %a /x'", out="600\n")


@step
def init_reaps(e):
    with e.container("--init bb sh -c 'sleep 1000'") as c:
        e("exec %s sh -c 'sleep 0.1 & exit 0'" % c)
        until(lambda: "Z" not in e("exec %s ps -o stat" % c).out, 5, "no zombie")


@step
def rootfs_overlay(e):
    """A root file system without an image."""
    top = e.directory()
    e("run --rm --rootfs %s:O /bin/true" % top, status=127)


@step
def secret(e):
    e("secret create %s %s" % ("sec", e.file("hidden")))
    e("run --rm --secret sec bb cat /run/secrets/sec", out="hidden")
    e("secret rm sec")


@step
def checkpoint_refused(e):
    """Until there is a checkpoint: one clear sentence, and the container lives on."""
    with e.container(SLEEP) as c:
        result = e("container checkpoint " + c, status=None)
        assert result.status == 0 or len(result.err.strip().splitlines()) == 1, result
        assert state(e, c, "Running") == "true"


# Pods: containers that share a network, names and signals -------------------------------------------

@step
def pod_life(e):
    pod = e.new_name("pod")
    e("pod create --name %s -p 18085:80" % pod)
    try:
        with e.container("--pod %s bb sh -c 'mkdir /w; echo page > /w/p; httpd -f -h /w'" % pod) as c:
            e("run --rm --pod %s bb wget -q -O - http://127.0.0.1/p" % pod, out="page\n")
            assert fetch("http://127.0.0.1:18085/p") == "page\n"
            e("pod stop -t 0 " + pod)
            assert state(e, c, "Running") == "false"
            e("pod start " + pod)
            until(lambda: state(e, c, "Running") == "true", 5)
            assert fetch("http://127.0.0.1:18085/p") == "page\n"
            e("pod pause " + pod)
            e("pod unpause " + pod)
            e("pod top " + pod, has="httpd")
    finally:
        e("pod rm -f -t 0 " + pod)


@step
def pod_shared_pid(e):
    pod = e.new_name("pod")
    e("pod create --name %s --share net,ipc,uts,pid" % pod)
    try:
        with e.container("--pod %s bb sleep 4321" % pod):
            e("run --rm --pod %s bb ps" % pod, has="sleep 4321")
    finally:
        e("pod rm -f -t 0 " + pod)


@step
def pod_without_infra(e):
    pod = e.new_name("pod")
    e("pod create --infra=false --name " + pod)
    try:
        e("run --rm --pod %s bb echo in" % pod, out="in\n")
    finally:
        e("pod rm -f -t 0 " + pod)


KUBE = """
apiVersion: v1
kind: Pod
metadata:
  name: %s
spec:
  volumes:
  - name: shared
    emptyDir: {}
  containers:
  - name: server
    image: localhost/bb:1
    imagePullPolicy: Never
    command: ["sh", "-c", "echo page > /w/p; exec httpd -f -h /w"]
    volumeMounts: [{name: shared, mountPath: /w}]
  - name: other
    image: localhost/bb:1
    imagePullPolicy: Never
    command: ["sleep", "1000"]
    volumeMounts: [{name: shared, mountPath: /seen}]
"""


@step
def play_kube(e):
    pod = e.new_name("kube")
    path = e.file(KUBE % pod, name=pod + ".yaml")
    try:
        e("play kube " + path)
        until(lambda: e("exec %s-other cat /seen/p" % pod, status=None).out == "page\n", 10, "the shared volume")
        e("exec %s-other wget -q -O - http://127.0.0.1/p" % pod, out="page\n")
        e("generate kube " + pod, has="kind: Pod")
    finally:
        e("play kube --down " + path, timeout=60)
