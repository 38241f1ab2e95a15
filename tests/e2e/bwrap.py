"""bwrap: the options of bubblewrap."""
import os

import sandbox
from cases import expect, expect_refused
from e2e import registry

case = registry.case


def link(env):
    """This program under the name bwrap, as tools look for it."""
    path = env.dir + "/bwrap"
    if not os.path.exists(path):
        for name in ("runsc-sentry", "runsc-gofer"):
            assert os.path.exists(env.out + "/" + name)
        os.symlink(env.runsc_path, path)
    return path


def bwrap(env, *args, **kwargs):
    runtime_dir = env.dir + "/run"
    os.makedirs(runtime_dir, exist_ok=True)
    variables = {"PATH": "/bin", "XDG_RUNTIME_DIR": runtime_dir, "KEPT": "yes", "HOME": "/root"}
    return sandbox.run([link(env), *args], env=variables, **kwargs)


@case()
def trees_of_the_host(env, root):
    os.mkdir(env.dir + "/work")
    with open(root + "/work/read", "w") as f:
        f.write("of the host\n")
    script = ("cat /work/read; ls /mem; echo x > /out/written; echo x > /mem/y && cat /mem/y; echo x > /work/no; "
              "grep -c : /proc/net/dev; ls /dev/null; id -u; pwd")
    result = bwrap(env, "--ro-bind", root, "/", "--bind", env.dir + "/work", "/out", "--tmpfs", "/mem", "--proc", "/proc",
                   "--dev", "/dev", "--unshare-all", "--die-with-parent", "--", "/bin/sh", "-c", script, cwd=env.dir)
    expect(result, 0, "of the host\nx\n1\n/dev/null\n0\n/\n", err_has="Read-only file system")
    with open(env.dir + "/work/written") as f:
        assert f.read() == "x\n"
    assert not os.path.exists(root + "/mem/y") and not os.path.exists(root + "/work/no")


@case()
def nothing_but_what_is_bound(env, root):
    args = ["--ro-bind", root + "/bin", "/bin", "--ro-bind-try", "/no/such", "/tried"]
    expect(bwrap(env, *args, "/bin/sh", "-c", "echo /*"), 0, "/bin /dev /proc /sys\n")
    expect(bwrap(env, *args, "--uid", "7", "--gid", "8", "--hostname", "box", "/bin/sh", "-c",
                 "id -u; id -g; hostname; exit 6"), 6, "7\n8\nbox\n")
    expect(bwrap(env, *args, "--chdir", "/bin", "/bin/pwd"), 0, "/bin\n")
    assert os.listdir(env.dir + "/run/runsc") == [".empty"] and not os.listdir(env.dir + "/run/runsc/.empty")


@case()
def environment(env, root):
    args = ["--ro-bind", root, "/"]
    out = expect(bwrap(env, *args, "--setenv", "A", "b c", "--unsetenv", "KEPT", "/bin/env")).out.splitlines()
    assert "A=b c" in out and not any(line.startswith("KEPT") for line in out) and "PATH=/bin" in out, out
    out = expect(bwrap(env, *args, "--setenv", "GONE", "1", "--clearenv", "--setenv", "A", "1", "--setenv", "A", "2",
                       "/bin/env")).out.splitlines()
    assert sorted(line for line in out if not line.startswith(("PWD=", "HOME="))) == ["A=2"], out
    expect(bwrap(env, *args, "--clearenv", "/bin/sh", "-c", "echo $KEPT."), 0, ".\n")


@case()
def capabilities_are_dropped(env, root):
    out = expect(bwrap(env, "--ro-bind", root, "/", "--proc", "/proc", "/bin/grep", "-E", "CapEff|CapBnd|NoNewPrivs",
                       "/proc/self/status")).out.split()
    assert out == ["CapEff:", "0000000000000000", "CapBnd:", "0000000000000000", "NoNewPrivs:", "1"], out


@case()
def refusals(env, root):
    expect_refused(bwrap(env, "--bind", "/no/such", "/x", "true"), "/no/such")
    expect_refused(bwrap(env, "--bind", "/", "x", "true"), "must be absolute")
    expect_refused(bwrap(env, "--bind", "/"), "needs 2 arguments")
    expect_refused(bwrap(env, "--frobnicate", "true"), "not defined")
    expect_refused(bwrap(env, "--ro-bind", root, "/"), "usage")
    expect_refused(bwrap(env, "--ro-bind", root, "/", "/no/program"), "no such file or directory", 127)
    expect(bwrap(env, "--help"), 0, has="--ro-bind SRC DEST")
    expect(env.runsc("bwrap", "--ro-bind", root, "/", "/bin/true"))
