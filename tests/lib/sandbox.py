"""What the test groups share: bundles, running runsc, finding what was left behind."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP").split()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Timeout(Exception):
    """The command did not end in time; it was killed. `output` is what it had printed."""

    def __init__(self, argv, seconds, output):
        super().__init__("no end within %g s: %s" % (seconds, " ".join(argv)))
        self.output = output


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return "status %d\nstdout: %s\nstderr: %s" % (self.status, self.out, self.err)


def run(argv, timeout=30, stdin=None, env=None, cwd=None, merge=False):
    """Runs a command in a session of its own; at the time limit the whole group is killed."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        start_new_session=True, env=env, cwd=cwd)
    if isinstance(stdin, str):
        stdin = stdin.encode()
    try:
        out, err = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired as left:
            # Something that left the group holds the pipes open.
            out, err = left.output, left.stderr
            process.stdout.close()
            if process.stderr:
                process.stderr.close()
        raise Timeout(argv, timeout, text(out) + text(err)) from None
    return Result(process.returncode, text(out), text(err))


def text(data):
    return (data or b"").decode(errors="replace")


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Env:
    """One scratch directory, with a state directory and bundles, for one job; `close` cleans up."""

    def __init__(self, out, platform="auto"):
        self.out = os.path.abspath(out)
        self.platform = platform
        os.makedirs(self.out + "/tmp", exist_ok=True)
        self.dir = tempfile.mkdtemp(prefix="t", dir=self.out + "/tmp")
        self.state = self.dir + "/state"
        self.count = 0

    @property
    def runsc_path(self):
        return self.out + "/runsc"

    def runsc_argv(self, *args, flags=()):
        return [self.runsc_path, "--root", self.state, "--platform", self.platform,
                *flags, *map(str, args)]

    def runsc(self, *args, flags=(), **kwargs):
        return run(self.runsc_argv(*args, flags=flags), **kwargs)

    def new_id(self, name="c"):
        self.count += 1
        return "%s-%s-%d" % (name, os.path.basename(self.dir), self.count)

    def bundle(self, args, rootfs, **changes):
        """A bundle directory; `changes` is applied by edit(config) when given, else by key."""
        path = tempfile.mkdtemp(prefix="bundle", dir=self.dir)
        config = config_of(args, rootfs)
        edit = changes.pop("edit", None)
        config["process"].update(changes)
        if edit:
            edit(config)
        with open(path + "/config.json", "w") as f:
            json.dump(config, f, indent=1)
        return path

    def kill_all(self):
        """Ends what runs from this state directory, by runsc's own means and then by force."""
        if os.path.isdir(self.state):
            for name in os.listdir(self.state):
                if os.path.isdir(os.path.join(self.state, name)):
                    try:
                        self.runsc("delete", "--force", name, timeout=10)
                    except (Timeout, OSError):
                        pass
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def processes(self):
        """Our processes that belong to this environment: its directory is named in their argv or
        environment, or an ancestor's."""
        return processes_naming(self.dir)

    def close(self):
        self.kill_all()
        for point in mounts_below(self.dir):
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


def config_of(args, rootfs):
    caps = ["CAP_" + c for c in CAPABILITIES]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args if isinstance(args, list) else ["/bin/sh", "-c", args],
            "env": ["PATH=" + PATH, "HOME=/root", "TERM=xterm", "LC_ALL=C.UTF-8"],
            "cwd": "/",
            "capabilities": {k: caps for k in
                             ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}],
        },
        "root": {"path": rootfs, "readonly": False},
        "hostname": "guest",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
             "options": ["nodev", "mode=1777"]},
        ],
        "linux": {"namespaces": [{"type": t} for t in
                                 ("pid", "network", "ipc", "uts", "mount")]},
    }


def processes_naming(path):
    """(pid, command line) of each process with `path` in its command line, and their descendants."""
    parents, found = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % entry) as f:
                fields = f.read().rsplit(")", 1)[1].split()
            with open("/proc/%s/cmdline" % entry, "rb") as f:
                command = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        pid = int(entry)
        if pid == os.getpid() or fields[0] == "Z":
            continue
        parents[pid] = int(fields[1])
        if path in command:
            found[pid] = command
    changed = True
    while changed:
        changed = False
        for pid, parent in parents.items():
            if parent in found and pid not in found:
                found[pid] = "child of %d" % parent
                changed = True
    return sorted(found.items())


def privileges_below(path):
    """What the processes found by processes_naming(path) are: sorted (executable, fields of status that say what
    they may do), without their number."""
    found = []
    for pid, _ in processes_naming(path):
        try:
            with open("/proc/%d/status" % pid) as f:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
            exe = os.readlink("/proc/%d/exe" % pid)
        except OSError:
            continue
        found.append((os.path.basename(exe), *(fields.get(name, "") for name in (
            "Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"))))
    return sorted(found)


def until_same(look, wanted, seconds=10):
    """What look() gives, when it is `wanted` or the time is over."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen == wanted or time.monotonic() > end:
            return seen
        time.sleep(0.1)


def processes_running(directory):
    """(pid, command line) of each process whose executable lies in `directory`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                exe = os.readlink("/proc/%s/exe" % entry)
                with open("/proc/%s/cmdline" % entry, "rb") as f:
                    command = f.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if exe.startswith(directory + "/") and int(entry) != os.getpid():
                found.append((int(entry), command or exe))
    return found


def mounts_below(path):
    """Mount points below `path`, the deepest first."""
    with open("/proc/self/mounts") as f:
        points = [line.split()[1].replace("\\040", " ") for line in f]
    return sorted((p for p in points if p == path or p.startswith(path + "/")), reverse=True)


GUEST_ROOT_LOCK = threading.Lock()


def private_root(env, out, programs=True):
    """A copy of guest_root that the guest may write to; with the guest programs if wanted."""
    shared, root = guest_root(out), tempfile.mkdtemp(prefix="root", dir=env.dir)
    names = [shared + "/" + name for name in os.listdir(shared) if name != "t"]
    subprocess.run(["cp", "-a", *names, root], check=True)
    os.chmod(root, 0o755)
    if programs:
        # Links, since nobody writes to these.
        subprocess.run(["cp", "-al", shared + "/t", root], check=True)
    return root


def guest_root(out):
    """The root that private_root copies: made once, never written to by tests. Any thread."""
    with GUEST_ROOT_LOCK:
        return make_guest_root(out)


def make_guest_root(out):
    root = os.path.join(os.path.abspath(out), "guest-root")
    if not os.path.exists(root + "/.complete"):
        shutil.rmtree(root, ignore_errors=True)
        for name in ("bin", "etc", "root", "tmp", "proc", "sys", "dev", "data", "work", "t", "bench",
                     "var/log", "usr/bin", "home/user", "run"):
            os.makedirs(root + "/" + name)
        shutil.copy("/bin/busybox", root + "/bin/busybox")
        applets = subprocess.run([root + "/bin/busybox", "--list"], capture_output=True,
                                 text=True, check=True).stdout.split()
        for applet in applets:
            if applet != "busybox":
                os.symlink("busybox", root + "/bin/" + applet)
        files = {
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
            "etc/group": "root:x:0:\nuser:x:1000:\nextra:x:1001:user\n",
            "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
            "etc/hostname": "guest\n",
        }
        for name, content in files.items():
            with open(root + "/" + name, "w") as f:
                f.write(content)
        os.chown(root + "/home/user", 1000, 1000)
        os.chmod(root + "/tmp", 0o1777)
        with open(root + "/.complete", "w"):
            pass
    programs = os.path.join(os.path.abspath(out), "tests", "guest")
    if os.path.isdir(programs):
        for name in os.listdir(programs):
            source, target = programs + "/" + name, root + "/t/" + name
            if not os.path.exists(target) or os.stat(source).st_mtime > os.stat(target).st_mtime:
                if os.path.exists(target):
                    os.unlink(target)
                shutil.copy2(source, target)
    return root
