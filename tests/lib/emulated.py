"""A machine emulated by QEMU with a Debian kernel and AMD's virtualisation: what tests the kvm platform
where no hardware does it, and everything else on an older kernel.

The kernel package is fetched with apt and unpacked, not installed, into OUT/emulated. The machine has no
disk and no network; it boots an initramfs with our programs and a list of jobs, and reports on a serial
port."""
import glob
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import time

import sandbox

QEMU = "qemu-system-x86_64"
# QEMU before 9.1 does the memory accesses of a user's iret and far call at supervisor privilege: with SMAP
# every iret of the systrap stub would fault. A fault in a far call is an oops still, which ends its process.
CPU = "max,+svm,-smap"
# One thread of QEMU's for both processors. With a thread for each, storms of processes soon made a virtual machine's processor stop
# with a triple fault although its page tables were intact, or Linux 6.1 found the end of a kernel stack overwritten;
# ../../platform/kvm/README.md, "Under emulation".
ACCELERATOR = "tcg,thread=single"
MODULES = ("irqbypass", "ccp", "kvm", "kvm-amd")
MEMORY_MB = 3072


class Unavailable(Exception):
    """Says in a few words why there is no emulated machine here."""


NOT_STARTED = "not started"


class Job:
    """A shell command for the machine; `done(output, status)` is called with its result, or with None as
    status when the machine stopped first, or NOT_STARTED when its time was over before it came to the job."""

    def __init__(self, name, command, timeout, done, config=None):
        self.name, self.command, self.timeout, self.done, self.config = name, command, timeout, done, config


def kernel(out):
    """(path of the kernel image, directory of its modules)"""
    top = os.path.join(os.path.abspath(out), "emulated")
    if not os.path.exists(top + "/.complete"):
        shutil.rmtree(top, ignore_errors=True)
        os.makedirs(top)
        fetch_kernel(top)
        with open(top + "/.complete", "w"):
            pass
    return glob.glob(top + "/boot/vmlinuz-*")[0], glob.glob(top + "/lib/modules/*")[0]


def fetch_kernel(top):
    def command(*argv):
        result = sandbox.run(argv, 300, cwd=top, merge=True)
        if result.status != 0:
            raise Unavailable("%s: %s" % (" ".join(argv[:3]), result.out.strip().split("\n")[-1]))
        return result.out

    try:
        names = re.findall(r"Depends: (linux-image-\S+)", command("apt-cache", "depends", "linux-image-amd64"))
        if not names:
            raise Unavailable("apt knows no linux-image-amd64")
        command("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", names[0])
        package = glob.glob(top + "/*.deb")[0]
        command("dpkg", "-x", package, top)
        os.unlink(package)
    except (OSError, sandbox.Timeout) as error:
        raise Unavailable("no kernel image: %s" % error) from None


def stage_programs(out, tree, modules):
    """All that does not depend on the jobs: tools, modules, our programs and their libraries, the guest's root."""
    for name in ("bin", "m", "sandbox", "root", "t", "b", "lib64"):
        os.makedirs(tree + "/" + name)
    shutil.copy("/bin/busybox", tree + "/bin/busybox")
    for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True,
                                 check=True).stdout.split():
        if applet != "busybox":
            os.symlink("busybox", tree + "/bin/" + applet)
    for name in MODULES:
        found = glob.glob(modules + "/kernel/**/" + name + ".ko*", recursive=True)
        if found:
            shutil.copy(found[0], tree + "/m/" + name + ".ko")
    for name in ("runsc", "runsc-sentry", "runsc-gofer"):
        program = os.path.join(out, name)
        strip(program, tree + "/sandbox/" + name)
        bring_libraries(program, tree)
    guest = sandbox.guest_root(out)
    for base, dirs, names in os.walk(guest):
        inside = tree + "/root" + base[len(guest):]
        os.makedirs(inside, exist_ok=True)
        for name in dirs + names:
            path = base + "/" + name
            if os.path.islink(path):
                os.symlink(os.readlink(path), inside + "/" + name)
            elif name in names:
                (strip if base == guest + "/t" else shutil.copy2)(path, inside + "/" + name)
        shutil.copymode(base, inside)
    os.chown(tree + "/root/home/user", 1000, 1000)


def strip(source, target):
    subprocess.run(["strip", "-o", target, source], check=True)


def bring_libraries(program, tree):
    result = subprocess.run(["ldd", program], capture_output=True, text=True)
    for path in re.findall(r"(/\S+) \(0x", result.stdout):
        target = tree + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            shutil.copy(os.path.realpath(path), target)


def archive(tree, path):
    """The tree as an uncompressed cpio: unpacking is cheaper than decompressing under emulation."""
    names = []
    for base, dirs, files in os.walk(tree):
        names += [os.path.relpath(base + "/" + n, tree) for n in dirs + files]
    with open(path, "wb") as f:
        number = 0
        for name in sorted(names) + ["TRAILER!!!"]:
            number += 1
            data, mode, uid = b"", 0, 0
            if name != "TRAILER!!!":
                info = os.lstat(tree + "/" + name)
                mode, uid = info.st_mode, info.st_uid if info.st_uid == 1000 else 0
                if stat.S_ISLNK(mode):
                    data = os.readlink(tree + "/" + name).encode()
                elif stat.S_ISREG(mode):
                    with open(tree + "/" + name, "rb") as source:
                        data = source.read()
            encoded = name.encode() + b"\0"
            f.write(b"070701" + b"".join(b"%08x" % n for n in (
                number, mode, uid, uid, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)))
            f.write(encoded + b"\0" * (-(110 + len(encoded)) % 4))
            f.write(data + b"\0" * (-len(data) % 4))
        f.write(b"\0" * 512)


class Machine:
    def __init__(self, out, scratch, log_path):
        self.out, self.log_path = os.path.abspath(out), log_path
        self.tree, self.image = scratch + "/tree", scratch + "/initramfs"
        if not shutil.which(QEMU):
            raise Unavailable("%s is not installed" % QEMU)
        self.vmlinuz, modules = kernel(out)
        os.makedirs(self.tree)
        stage_programs(self.out, self.tree, modules)
        shutil.copy(os.path.join(sandbox.TOP, "tests/lib/emulated.sh"), self.tree + "/init")
        os.chmod(self.tree + "/init", 0o755)

    def bring(self, program):
        """Copies a program of this host with its libraries to /t."""
        strip(program, self.tree + "/t/" + os.path.basename(program))
        bring_libraries(program, self.tree)

    def run(self, jobs, timeout):
        """Boots, runs all jobs, ends. Jobs without a result are done with status None."""
        with open(self.tree + "/jobs", "w") as f:
            for job in jobs:
                os.makedirs(self.tree + "/b/" + job.name)
                with open(self.tree + "/b/" + job.name + "/job", "w") as script:
                    script.write(job.command + "\n")
                if job.config:
                    with open(self.tree + "/b/" + job.name + "/config.json", "w") as config:
                        json.dump(job.config, config)
                f.write("%s %d\n" % (job.name, job.timeout))
        archive(self.tree, self.image)
        argv = [QEMU, "-accel", ACCELERATOR, "-cpu", CPU, "-smp", "2", "-m", str(MEMORY_MB),
                "-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:" + self.log_path,
                "-serial", "stdio", "-kernel", self.vmlinuz, "-initrd", self.image, "-append",
                "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable"]
        machine = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True,
                                   preexec_fn=die_with_parent)
        waiting = {job.name: job for job in jobs}
        reader = Reader(waiting)
        try:
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                ready, _, _ = select.select([machine.stdout], [], [], max(0, end - time.monotonic()))
                data = os.read(machine.stdout.fileno(), 65536) if ready else b""
                if ready and not data:
                    break
                reader.feed(data)
        finally:
            sandbox.kill_group(machine.pid)
            machine.wait()
        why = "the machine %s" % ("ended" if time.monotonic() < end else "did not finish in %d s" % timeout)
        for job in waiting.values():
            late = time.monotonic() >= end and reader.boot and job.name not in reader.started
            job.done(why + "\n" + reader.rest() + "\n" + self.console(), NOT_STARTED if late else None)
        return reader.boot, reader.finished

    def console(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()[-8000:]
        except OSError:
            return ""


def die_with_parent():
    """The machine must not outlive the tests, however these end."""
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Reader:
    """Finds the jobs' outputs in what the serial port says."""

    def __init__(self, waiting):
        self.waiting, self.partial, self.lines, self.boot, self.finished = waiting, b"", [], "", False
        self.started = set()

    def feed(self, data):
        *lines, self.partial = (self.partial + data).split(b"\n")
        for raw in lines:
            line = raw.decode(errors="replace").rstrip("\r")
            match = re.match(r"@@(\w+) ?(\S*) ?(.*)", line)
            if not match:
                self.lines.append(line)
            elif match[1] == "BEGIN":
                self.lines = []
            elif match[1] == "END" and match[2] in self.waiting:
                status, began, ended = match[3].split()
                job = self.waiting.pop(match[2])
                job.seconds = float(ended) - float(began)
                job.done("\n".join(self.lines), int(status))
            elif match[1] == "START":
                self.started.add(match[2])
            elif match[1] == "BOOT":
                self.boot = "%s s: %s" % (match[2], match[3])
            elif match[1] == "DONE":
                self.finished = True

    def rest(self):
        return "\n".join(self.lines + [self.partial.decode(errors="replace")])
