"""The roots that programs run over, made once below the build directory, and how a script runs there."""
import os
import shutil
import subprocess

import sandbox
from cases import Skip

PACKAGES = ("make,gcc,libc6-dev,git,python3,python3-venv,sqlite3,nodejs,redis-server,redis-tools,"
            "procps,xz-utils,perl,gawk,pup,file,less,sysbench")


class Roots:
    def __init__(self, busybox, debian, why):
        self.busybox, self.debian_path, self.why = busybox, debian, why

    @property
    def debian(self):
        if not self.debian_path:
            raise Skip("no Debian root: " + self.why)
        return self.debian_path


def prepare(out, with_debian):
    busybox = sandbox.guest_root(out)
    if not with_debian:
        return Roots(busybox, None, "not asked for")
    root = os.path.abspath(out) + "/debian-root"
    why = ""
    if not os.path.exists(root + "/.complete-2"):
        why = make_debian(root)
    return Roots(busybox, None if why else root, why)


def make_debian(root):
    """debootstrap, in a mount namespace of its own; returns why it failed, or nothing."""
    print("      making a Debian root in %s (some minutes, once)" % os.path.relpath(root), flush=True)
    shutil.rmtree(root, ignore_errors=True)
    result = sandbox.run(["unshare", "-m", "debootstrap", "--variant=minbase",
                          "--include=" + PACKAGES, "bookworm", root], timeout=1500, merge=True)
    if result.status != 0:
        return "debootstrap failed: " + result.out.strip().splitlines()[-1]
    shutil.rmtree(root + "/var/cache/apt", ignore_errors=True)
    shutil.rmtree(root + "/debootstrap", ignore_errors=True)
    for name in ("data", "bench"):
        os.makedirs(root + "/" + name, exist_ok=True)
    with open(root + "/etc/hosts", "w") as f:
        f.write("127.0.0.1 localhost\n::1 localhost\n")
    with open(root + "/.complete-2", "w"):
        pass
    return ""


def run_script(env, root, script, timeout, shell="/bin/bash", stdin=None, edit=None):
    """Runs a shell script over the root: in the sandbox, or (to check the check) on this kernel."""
    if env.on_host:
        return host_script(env, root, script, timeout, shell, stdin)
    top = merged(env)
    bundle = env.bundle([shell, "-c", script], top + "/m", edit=edit, cwd="/tmp")
    argv = env.runsc_argv("run", "--bundle", bundle, env.new_id("p"), flags=env.flags)
    return sandbox.run(over(top, root, argv), timeout=timeout, stdin=stdin)


def merged(env):
    """A directory below whose `m` a root is seen by what runs by `over`."""
    top = env.dir + "/merged"
    os.makedirs(top, exist_ok=True)
    return top


def over(top, root, argv):
    """The command argv with a throw-away overlay of root at TOP/m, as the storage of engines has it."""
    prepare_root = ("mount -t tmpfs tmpfs {0} && mkdir {0}/u {0}/w {0}/m && "
                    "mount -t overlay overlay -o lowerdir={1},upperdir={0}/u,workdir={0}/w {0}/m && "
                    "exec \"$@\"").format(top, root)
    return ["unshare", "-m", "sh", "-c", prepare_root, "sh", *argv]


def host_script(env, root, script, timeout, shell, stdin):
    """The same on this kernel, in namespaces of its own."""
    top = merged(env)
    argv = over(top, root, [env.out + "/tests/hostbox", top + "/m", "--", shell, "-c", "cd /tmp; " + script])
    environ = {"PATH": sandbox.PATH, "HOME": "/root", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    return sandbox.run(argv, timeout, stdin=stdin, env=environ)
