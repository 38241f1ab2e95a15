"""
What the engines' lists of steps share: a private machine to run in, images, commands with a deadline, checks, and
the search for what was left.

A *box* is this host with namespaces of its own for processes, mounts, network, ipc and cgroups: an engine inside sees an
empty network, an empty /run, the root of a cgroup tree of its own, and no other engine; whatever it leaves ends with
the box. What a list leaves while its box still stands is found by `Engine.leftovers`.
"""
import contextlib
import ctypes
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import traceback

import sandbox
from cases import Skip, expect, until  # noqa: F401 (for the lists)
from sandbox import Result, Timeout  # noqa: F401

# Short: it is in the names of sockets. In a box this is scratch space that belongs to it alone.
DIR = "/run/engines"
COMMAND_SECONDS = 30
STEP_SECONDS = 60
CGROUPS = "/sys/fs/cgroup"
CLONE_NEWCGROUP = 0x02000000
PR_SET_PDEATHSIG = 1


# The box ------------------------------------------------------------------------------------------

def cgroup_mounts():
    """(mount point, type, options) of each cgroup hierarchy."""
    found = []
    with open("/proc/self/mounts") as f:
        for line in f:
            _, point, kind, options = line.split()[:4]
            if kind in ("cgroup", "cgroup2") and point.startswith(CGROUPS):
                skip = ("rw", "ro", "relatime", "nosuid", "nodev", "noexec", "seclabel", "nsdelegate")
                found.append((point, kind, ",".join(o for o in options.split(",") if o not in skip)))
    return found


def cgroup_enter(name):
    """Makes cgroup `name` in each hierarchy and moves this process there."""
    for point, _, _ in cgroup_mounts():
        path = point + "/" + name
        os.makedirs(path, exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(path + "/" + file):
                with open(point + "/" + file) as source, open(path + "/" + file, "w") as target:
                    target.write(source.read())
        with open(path + "/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))


def cgroup_remove(name):
    """Removes what cgroup_enter made and everything below it; nothing may run there any more."""
    for point, _, _ in cgroup_mounts():
        for path, _, _ in os.walk(point + "/" + name, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def cgroup_exists(name):
    return any(os.path.exists(point + "/" + name) for point, _, _ in cgroup_mounts())


def die_with_parent():
    """In a child, before its exec."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def box_argv(argv):
    """`argv` in a box. A shell is its process 1, since that has to reap; it dies with this process."""
    return ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc",
            "sh", "-c", '"$@"; exit $?', "sh", *argv]


def box_set_up(scratch, group, hide_v2):
    """
    Inside of the new namespaces, before anything else runs: own /run, /etc (a copy-on-write one), loopback, and the cgroup
    tree below `group`.
    With `hide_v2` the version 2 tree looks as if it had no controller.
    """
    def sh(command):
        subprocess.run(["sh", "-ec", command], check=True)

    hierarchies = cgroup_mounts()
    # This process alone, since version 2 wants none beside cgroups that have controllers.
    cgroup_enter(group)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWCGROUP) != 0:
        raise OSError(ctypes.get_errno(), "unshare of the cgroup namespace")
    sh("mount --make-rprivate /; mount -t tmpfs -o mode=755 run /run; mkdir -p {0} /run/lock; mount --bind {1} {0}; "
       "ip link set lo up; hostname box".format(DIR, scratch))
    os.makedirs(DIR + "/etc/up")
    os.makedirs(DIR + "/etc/work")
    if subprocess.run(["mount", "-t", "overlay", "-o", "lowerdir=/etc,upperdir={0}/up,workdir={0}/work".format(DIR + "/etc"),
                       "etc", "/etc"], stderr=subprocess.DEVNULL).returncode != 0:
        # The scratch space lies on an overlay itself: use memory.
        sh("umount {0}; mount -t tmpfs -o mode=755 scratch {0}; mkdir -p {0}/etc/up {0}/etc/work; mount -t overlay -o "
           "lowerdir=/etc,upperdir={0}/etc/up,workdir={0}/etc/work etc /etc".format(DIR))
    sh("umount -R {0}; mount -t tmpfs -o mode=755 cgroup {0}".format(CGROUPS)
       if hierarchies and hierarchies[0][0] != CGROUPS else "umount -R " + CGROUPS)
    for point, kind, options in hierarchies:
        sh("mkdir -p {0}; mount -t {1} -o {2} cgroup {0}".format(point, kind, options or "rw"))
    cgroup_enter("harness")
    for point, kind, _ in hierarchies:
        if kind == "cgroup2":
            with open(point + "/cgroup.controllers") as f, open(point + "/cgroup.subtree_control", "w") as control:
                control.write(" ".join("+" + c for c in f.read().split()))
            if hide_v2:
                sh("mount --bind /dev/null {0}/cgroup.controllers".format(point))
    # Engines leave files where they were started.
    os.makedirs(DIR + "/tmp")
    os.chdir(DIR + "/tmp")
    os.environ["TMPDIR"] = DIR + "/tmp"
    with open("/etc/subuid", "w") as f:
        f.write("root:100000:65536\ncontainers:1000000:1048576\n")
    shutil.copy("/etc/subuid", "/etc/subgid")
    with open("/etc/resolv.conf", "w") as f:
        f.write("nameserver 127.0.0.1\n")


# Images -------------------------------------------------------------------------------------------

# Of the Debian root: what the steps do not need and makes it slow to unpack.
NOT_IN_IMAGE = ("usr/lib/gcc", "usr/lib/x86_64-linux-gnu/perl", "usr/share/perl", "usr/share/doc", "usr/share/locale",
                "usr/share/nodejs", "usr/share/i18n", "usr/share/man", "usr/include", "usr/lib/git-core", "usr/lib/llvm",
                "var/lib/apt/lists", "var/cache", "usr/share/gcc", "usr/share/git-core", "usr/share/pup")
BIG = 3 << 20


def image_archive(path, name, layer, config=None):
    """A docker-archive of one layer: every engine can load it without a network."""
    import hashlib
    with open(layer, "rb") as f:
        diff_id = hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(f.read()).hexdigest()
    config = json.dumps({
        "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"), "os": "linux",
        "config": {"Env": ["PATH=" + sandbox.PATH], "Cmd": ["/bin/sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff_id]}, "history": [{"created": "2024-01-01T00:00:00Z"}],
        "created": "2024-01-01T00:00:00Z"}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path + ".new", "w") as tar:
        for member, data in ((config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tar.add(layer, "layer.tar")
    os.rename(path + ".new", path)


def images_make(out, with_debian):
    """{short name: archive}, made once below the build directory; a Debian image only when asked for and possible."""
    import programs.roots as roots
    found = roots.prepare(out, with_debian)
    made = {"bb": out + "/engines/bb.tar"}
    os.makedirs(out + "/engines", exist_ok=True)
    jobs = [("bb", found.busybox, lambda i: None if i.name.split("/")[0] in ("t", "bench") or i.name == ".complete" else i)]
    if found.debian_path:
        made["deb"] = out + "/engines/deb.tar"
        jobs.append(("deb", found.debian_path, debian_member))
    for short, root, select in jobs:
        if os.path.exists(made[short]):
            continue
        layer = out + "/engines/layer-%s.tar" % short
        with tarfile.open(layer, "w") as tar:
            for name in sorted(os.listdir(root)):
                tar.add(root + "/" + name, name, filter=select)
        image_archive(made[short], "localhost/%s:1" % short, layer)
        os.unlink(layer)
    return made, found.why


def debian_member(info, left_out=set()):
    """A filter for tarfile; what is left out takes its hard links with it."""
    if info.islnk() and info.linkname in left_out:
        return None
    if info.isfile() and info.size > BIG and not any(word in info.name for word in ("python", "libc", "perl")):
        left_out.add(info.name)
        return None
    if info.name.startswith(NOT_IN_IMAGE) or info.name.split("/")[0] in ("proc", "sys", "dev", "bench") and "/" in info.name:
        return None
    return info


# Steps --------------------------------------------------------------------------------------------

class Steps:
    """
    A list of steps. @steps.step marks a function of an Engine; rows() adds steps that are one command each:
    (name, command, what Engine.__call__ is to expect of it).
    """

    def __init__(self):
        self.list = []

    def step(self, function):
        self.list.append((function.__name__.replace("_", "-"), function))
        return function

    def rows(self, table):
        for name, command, wanted in table:
            self.list.append((name, lambda e, command=command, wanted=wanted: e(command, **wanted)))


class Engine:
    """One engine with one runtime in a box. Lists call it like a command line: e("run --rm bb true")."""

    name = "?"
    steps = None
    # The list can be run with other runtimes.
    comparable = True
    # `top` lists the container's whole pid namespace on the host, with the sentry in it.
    top_shows_all = False
    # Inserted behind these sub-commands.
    options = {}

    def __init__(self, runtime, path, images):
        self.runtime, self.path, self.images = runtime, path, images
        self.daemons = []
        self.count = 0
        self.file_count = 0
        os.makedirs(DIR + "/files", exist_ok=True)

    def start(self):
        """Brings the engine up and loads the images."""

    def argv(self, words):
        """The command line for the words of a sub-command."""
        raise NotImplementedError

    def words(self, command):
        words = shlex.split(command) if isinstance(command, str) else list(command)
        # Image names are short in the lists.
        words = ["localhost/%s:1" % w if w in ("bb", "deb") else w for w in words]
        if "localhost/deb:1" in words and "deb" not in self.images:
            raise Skip("no Debian image")
        for count in (2, 1):
            extra = self.options.get(" ".join(words[:count]))
            if extra:
                return words[:count] + extra + words[count:]
        return words

    def __call__(self, command, status=0, timeout=None, stdin=None, **wanted):
        """Runs a command and checks it as `expect` does; status None: any."""
        return expect(sandbox.run(self.argv(self.words(command)), timeout or COMMAND_SECONDS, stdin=stdin), status, **wanted)

    def lines(self, command, **kwargs):
        return self(command, **kwargs).out.splitlines()

    def new_name(self, word="c"):
        self.count += 1
        return "%s%d" % (word, self.count)

    @contextlib.contextmanager
    def container(self, command, timeout=None, runs=True):
        """A container of `run -d` (or of create, when not `runs`) with these arguments; removed at the end."""
        name = self.new_name()
        try:
            words = shlex.split(command) if isinstance(command, str) else command
            self([*(["run", "-d"] if runs else ["create"]), "--name", name, *words], timeout=timeout)
            yield name
        finally:
            self(self.remove_command(name), status=None, timeout=60)

    def remove_command(self, name):
        return "rm -f -v %s" % name

    @contextlib.contextmanager
    def terminal(self, command):
        """A command on a terminal of its own."""
        from e2e.console import Terminal
        term = Terminal(self.argv(self.words(command)))
        try:
            yield term
        finally:
            if term.process.poll() is None:
                term.process.kill()
                term.process.wait()

    def file(self, text="", name=None, mode=0o644):
        """A file in the box with this text."""
        self.file_count += 1
        path = "%s/files/%s" % (DIR, name or "f%d" % self.file_count)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def directory(self):
        return tempfile.mkdtemp(dir=DIR + "/files")

    def daemon(self, argv, ready):
        """Starts a daemon of the engine; waits until `ready()` is true."""
        log = open(DIR + "/" + os.path.basename(argv[0]) + ".log", "w")
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.daemons.append(process)

        def up():
            if process.poll() is not None:
                with open(log.name) as f:
                    raise AssertionError("%s ended: %s" % (argv[0], f.read()[-300:]))
            return ready()
        until(up, 30, "start of " + argv[0])
        return process

    def reset(self):
        """Removes what a step left that did not come to its end."""

    def state_directories(self):
        """Where the engine has the runtime keep its state (--root): empty when no container is left."""
        return []

    def stop(self):
        """Ends the daemons."""
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def leftovers(self):
        """After all containers were removed: processes, runtime state, cgroups that are still there."""
        found = []
        ours = {os.getpid(), os.getppid(), 1} | {p.pid for p in self.daemons}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) not in ours:
                with contextlib.suppress(OSError):
                    with open("/proc/%s/stat" % entry) as f:
                        comm, rest = f.read().split("(", 1)[1].rsplit(")", 1)
                    with open("/proc/%s/cmdline" % entry) as f:
                        line = f.read().replace("\0", " ")
                    if rest.split()[0] != "Z" and comm not in self.may_stay and int(rest.split()[1]) not in \
                            {p.pid for p in self.daemons if p.args[0] != "containerd"}:
                        found.append("process %s (%s)" % (comm, line[:60].strip()))
        for directory in self.state_directories():
            if os.path.isdir(directory):
                found += ["state %s/%s" % (directory, n) for n in os.listdir(directory)]
        for point, _, _ in cgroup_mounts():
            for path, _, _ in os.walk(point):
                if re.fullmatch(self.cgroup_name, os.path.basename(path)):
                    found.append("cgroup " + path)
        for point in sandbox.mounts_below("/"):
            if "/merged" in point or point.endswith("/rootfs"):
                found.append("mount " + point)
        return found

    may_stay = ()
    # What the engine calls the cgroup of a container.
    cgroup_name = "[0-9a-f]{64}"


def memory_limits(word):
    """The limits of memory, in MiB, of all cgroups with `word` in their path."""
    found = []
    for top, _, files in os.walk(CGROUPS):
        for file in ("memory.limit_in_bytes", "memory.max"):
            if file in files and word in top:
                with open(top + "/" + file) as f:
                    found.append(int(f.read().replace("max", "-1")) >> 20)
    return found


# A sandbox is given more on the host than its guest may use: what the sentry itself takes.
SANDBOX_ROOM = 128


class HostServer:
    """A web server on the box's host side, on all addresses; it answers with the requester's address."""

    def __init__(self, port):
        import http.server
        import threading

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = ("host sees %s\n" % self.client_address[0]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def fetch(url, seconds=10):
    """The body, tried until it can be had."""
    import urllib.request
    error = [None]

    def attempt():
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                return answer.read().decode()
        except OSError as why:
            error[0] = why
            return None
    try:
        return until(attempt, seconds)
    except AssertionError:
        raise AssertionError("%s: %s" % (url, error[0])) from None


def run_steps(engine, only, report):
    """
    Runs the engine's list; report(step, result, seconds, note) after each. Results are PASS, FAIL, SKIP.
    """
    for name, function in engine.steps.list:
        if only and not any(o in name for o in only):
            continue
        begin = time.monotonic()
        result, note = "PASS", ""
        signal.alarm(STEP_SECONDS)
        try:
            function(engine)
        except Skip as why:
            result, note = "SKIP", str(why)
        except Timeout as why:
            result, note = "FAIL", "%s\n%s" % (why, why.output)
        except Exception as why:  # the step's own check
            result, note = "FAIL", str(why)
            if not note:
                where = traceback.extract_tb(why.__traceback__)[-1]
                note = "%s, line %d: %s" % (os.path.basename(where.filename), where.lineno, where.line)
            elif not isinstance(why, AssertionError):
                note = "%s: %s" % (type(why).__name__, note)
        finally:
            signal.alarm(0)
        if result == "FAIL":
            engine.reset()
        report(name, result, time.monotonic() - begin, note)
