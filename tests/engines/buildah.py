"""buildah: images built by running commands with the runtime (--isolation oci)."""
import os

from lib import DIR, Engine, Steps

steps = Steps()
step = steps.step


class Buildah(Engine):
    name = "buildah"
    steps = steps
    cgroup_name = "buildah-.*"

    def start(self):
        os.environ["CONTAINERS_CONF"] = self.file('[network]\nnetwork_backend = "netavark"\n', name="containers.conf")
        isolation = ["--isolation", "oci", "--runtime", self.path]
        # Limits: see podman.py.
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
        self.options = {"bud": [*isolation, *limits], "from": [*isolation[:2], *limits], "run": isolation}
        for archive in self.images.values():
            self(["pull", "-q", "docker-archive:" + archive], timeout=120)

    def argv(self, words):
        return ["buildah", "--root", DIR + "/root", "--runroot", DIR + "/runroot", "--storage-driver", "overlay", *words]

    def reset(self):
        self("rm -a", status=None)

    def bud(self, text, *options, status=0):
        """Builds a Dockerfile; returns what was printed, and the image's name."""
        top, image = self.directory(), "localhost/" + self.new_name("built")
        with open(top + "/Dockerfile", "w") as f:
            f.write("FROM localhost/bb:1\n" + text)
        with open(top + "/file", "w") as f:
            f.write("copied\n")
        os.chmod(top + "/file", 0o644)
        return self(["bud", "--network", "none", *options, "-t", image, top], status=status, timeout=55), image

    def working(self, image="bb"):
        return self(["from", "--pull-never", image]).out.strip()


@step
def bud_run_copy_user(e):
    result, image = e.bud("""RUN echo one > /one && mkdir /d && chown user /d
COPY file /d/file
USER user
WORKDIR /d
ENV A=b
RUN id -un > mine && cat /one file > both && stat -c %U mine
RUN test "$A" = b && ! touch /not-mine
""")
    assert "user" in result.out, result
    c = e.working(image)
    e(["run", c, "sh", "-c", "cat both mine; ls -l mine | cut -c1-10"], out="one\ncopied\nuser\n-rw-r--r--\n")
    e("rm " + c)
    e("rmi " + image)


@step
def bud_layers(e):
    """Each step an image of its own: additions, changes, removals are all seen."""
    _, image = e.bud("RUN echo 1 > /a; echo 2 > /b\nRUN rm /a; echo 3 >> /b; ln -s b /l; mkdir -p /d/e; chmod 700 /d\n"
                     "RUN test ! -e /a && cat /b /l && stat -c %a /d\n", "--layers")
    c = e.working(image)
    e(["run", c, "sh", "-c", "cat /b; stat -c %a /d; test ! -e /a"], out="2\n3\n700\n")
    e("rm " + c)
    e("rmi " + image)


@step
def bud_fails(e):
    result, _ = e.bud("RUN exit 9\n", status=None)
    assert result.status != 0 and "9" in result.out + result.err, result


@step
def bud_not_found(e):
    result, _ = e.bud('RUN ["no-such-program"]\n', status=None)
    assert result.status != 0 and "no-such-program" in result.out + result.err, result


@step
def bud_output(e):
    result, image = e.bud("RUN echo to-out; echo to-err >&2\n")
    assert "to-out" in result.out and "to-err" in result.out + result.err, result
    e("rmi " + image)


@step
def bud_debian(e):
    if "deb" not in e.images:
        return e("run deb true")
    top, image = e.directory(), "localhost/" + e.new_name("built")
    with open(top + "/Dockerfile", "w") as f:
        f.write("FROM localhost/deb:1\nRUN useradd -m someone && python3 -c 'print(6 * 7)'\nUSER someone\nRUN cd && touch x && id\n")
    result = e(["bud", "--network", "none", "-t", image, top], timeout=55)
    assert "42" in result.out and "someone" in result.out, result
    e("rmi " + image)


@step
def run(e):
    c = e.working()
    try:
        e(["run", c, "sh", "-c", "echo in; echo kept > /kept; exit 0"], out="in\n")
        e("run %s cat /kept" % c, out="kept\n")
        e("run %s sh -c 'exit 3'" % c, status=None, err_has="3")
        e("run --user user --hostname inside %s sh -c 'id -un; hostname'" % c, out="user\ninside\n")
    finally:
        e("rm " + c)


@step
def run_terminal(e):
    c = e.working()
    try:
        with e.terminal("run -t %s sh" % c) as term:
            term.say("tty; echo 'ready'now\n")
            term.until("/dev/pts/")
            term.until("readynow")
            term.say("exit\n")
            assert term.end() == 0
    finally:
        e("rm " + c)


@step
def run_volume(e):
    c, top = e.working(), e.directory()
    try:
        e(["run", "-v", top + ":/v", c, "sh", "-c", "echo back > /v/back"])
        with open(top + "/back") as f:
            assert f.read() == "back\n"
    finally:
        e("rm " + c)


@step
def commit(e):
    c, image = e.working(), "localhost/" + e.new_name("made")
    try:
        e(["run", c, "sh", "-c", "echo made > /made"])
        e("config --cmd 'cat /made' " + c)
        e("commit -q %s %s" % (c, image))
    finally:
        e("rm " + c)
    c = e.working(image)
    e("run %s cat /made" % c, out="made\n")
    e("rm " + c)
    e("rmi " + image)
