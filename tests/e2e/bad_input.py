"""What goes wrong must end in one clear sentence and leave nothing."""
import glob
import json
import os
import signal
import subprocess
import time

import sandbox
from cases import expect, expect_refused, until
from e2e import registry
from e2e.lifecycle import created

case = registry.case


def descendants(pid):
    """Host processes below pid, by name of their executable."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as f:
                    parents[int(entry)] = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        for child, parent in parents.items():
            if parent == current:
                found.append(child)
                todo.append(child)
    return found


def below(pid, name):
    """Descendants of pid that run the named program of ours."""
    found = []
    for child in descendants(pid):
        try:
            if os.path.basename(os.readlink("/proc/%d/exe" % child)) == name:
                found.append(child)
        except OSError:
            pass
    return found


@case()
def missing_bundle(env, root):
    expect_refused(env.runsc("run", "--bundle", env.dir + "/none", env.new_id()), "none")
    os.mkdir(env.dir + "/empty")
    expect_refused(env.runsc("run", "--bundle", env.dir + "/empty", env.new_id()), "config.json")


@case()
def malformed_config(env, root):
    bundle = env.bundle(["/bin/true"], root)
    good = open(bundle + "/config.json").read()
    for text in ("", "{", good[:len(good) // 2], good + "}", "[]", "null", "\0\0\0", good.replace("{", "[", 1),
                 '{"ociVersion": "1.0.2"}', '{"a":' * 10000, '"' + "x" * 100000):
        with open(bundle + "/config.json", "w") as f:
            f.write(text)
        expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "config.json")


@case()
def wrong_values_in_config(env, root):
    def change(path, value):
        def edit(config):
            keys = path.split(".")
            for key in keys[:-1]:
                config = config[int(key) if key.isdigit() else key]
            config[keys[-1]] = value
        return edit

    rows = [("process.cwd", "relative"), ("process.cwd", ""), ("process.args", []), ("process.args", "true"),
            ("process.args", [1]), ("process.user", {"uid": -1, "gid": 0}), ("process.env", ["NOEQUALS\0x=1"]),
            ("process.user", "root"), ("root", {}), ("root.path", 7), ("ociVersion", 3),
            ("mounts.0.destination", "relative/../x"), ("mounts", {"a": 1}),
            ("process.rlimits", [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]),
            ("process.capabilities", {"bounding": ["CAP_NOTHING_AT_ALL"]}),
            ("linux.namespaces", [{"type": "nonsense"}])]
    accepted = []
    for path, value in rows:
        bundle = env.bundle(["/bin/true"], root, edit=change(path, value))
        result = env.runsc("run", "--bundle", bundle, env.new_id())
        if result.status == 0:
            accepted.append("%s=%r" % (path, value))
            continue
        lines = result.err.strip().splitlines()
        assert len(lines) == 1, "%s=%r: %r" % (path, value, result)
    # An unknown capability name is a warning in runc; everything else must be refused.
    accepted = [a for a in accepted if "CAP_" not in a and "relative/../x" not in a]
    assert not accepted, "accepted: %s" % accepted


@case()
def error_names_the_line(env, root):
    bundle = env.bundle(["/bin/true"], root, cwd="relative")
    result = expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "process.cwd")
    number = next(n for n, line in enumerate(open(bundle + "/config.json"), 1) if '"cwd"' in line)
    assert "config.json:%d:" % number in result.err, (number, result.err)
    assert "must be absolute" in result.err, result.err


@case()
def rootfs_is_a_file_or_missing(env, root):
    with open(env.dir + "/file", "w"):
        pass
    bundle = env.bundle(["/bin/true"], env.dir + "/file")
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "not a directory")
    bundle = env.bundle(["/bin/true"], env.dir + "/none")
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "none")


@case()
def unknown_and_bad_ids(env, root):
    for command in (["state"], ["start"], ["kill"], ["delete"], ["pause"], ["resume"], ["ps"], ["exec"]):
        argv = command + ["unknown"] + (["true"] if command == ["exec"] else [])
        expect_refused(env.runsc(*argv), "does not exist")
    bundle = env.bundle(["/bin/true"], root)
    for bad in ("", "../x", "a/b", "x" * 2000, "-x y", "a\nb", "."):
        result = env.runsc("run", "--bundle", bundle, "--", bad)
        assert result.status != 0 and len(result.err.strip().splitlines()) == 1, (bad, result)
    assert not os.path.exists(env.dir + "/x")


@case()
def taken_id(env, root):
    cid, _ = created(env, root)
    bundle = env.bundle(["/bin/true"], root)
    expect_refused(env.runsc("run", "--bundle", bundle, cid), "exists")
    expect_refused(env.runsc("create", "--bundle", bundle, cid), "exists")
    expect(env.runsc("state", cid), 0, has='"created"')
    expect(env.runsc("delete", "--force", cid))


@case()
def program_missing_or_not_executable(env, root):
    for args, status in ((["no-such-program"], 127), (["/no/such/program"], 127), (["/etc/passwd"], 126),
                         (["/etc"], 126), (["./hosts"], 127)):
        bundle = env.bundle(args, root)
        expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), args[0], status)


@case()
def missing_interpreter_and_cwd(env, root):
    bundle = env.bundle(["/bin/true"], root, cwd="/not/there")
    result = env.runsc("run", "--bundle", bundle, env.new_id())
    assert result.status in (0, 1, 126, 127, 128), result


@case()
def full_disk(env, root):
    small = env.dir + "/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=4", "tmpfs", small], check=True)
    try:
        with open(small + "/fill", "wb") as f:
            try:
                f.write(b"x" * 65536)
                f.flush()
            except OSError:
                pass
        bundle = env.bundle(["/bin/true"], root)
        argv = [env.runsc_path, "--root", small + "/state", "--platform", env.platform, "run", "--bundle",
                bundle, env.new_id()]
        result = sandbox.run(argv)
        assert result.status != 0 and "space" in result.err.lower(), result
        left = [p for p in glob.glob(small + "/state/*")]
        assert not left, left
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@case()
def killed_sentry(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    pid = json.loads(env.runsc("state", cid).out)["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: '"stopped"' in env.runsc("state", cid).out, what="stopped")
    expect_refused(env.runsc("exec", cid, "true"))
    expect(env.runsc("delete", cid))


@case()
def killed_sentry_under_run(env, root):
    bundle = env.bundle("echo ready; sleep 100", root)
    process = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, env.new_id()),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    sentry = below(process.pid, "runsc-sentry")
    assert sentry, "no sentry below runsc"
    os.kill(min(sentry), signal.SIGKILL)
    _, err = process.communicate(timeout=10)
    assert process.returncode != 0
    assert len(err.strip().splitlines()) <= 1, err


@case()
def killed_gofer(env, root):
    bundle = env.bundle("echo ready; sleep 1; cat /etc/hosts; echo status $?; read x </etc/passwd; "
                        "echo survived", root)
    process = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, env.new_id()),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    gofers = below(process.pid, "runsc-gofer")
    assert gofers, "no gofer below runsc"
    for pid in gofers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    out, err = process.communicate(timeout=15)
    # New paths cannot be read any more: an error, not a hang.
    assert b"survived" in out or process.returncode != 0, (out, err)


@case()
def killed_runsc_during_create(env, root):
    bundle = env.bundle("sleep 100", root)
    for delay in (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03):
        cid = env.new_id()
        process = subprocess.Popen(env.runsc_argv("create", "--bundle", bundle, cid),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(delay)
        process.kill()
        process.wait()
        # Whatever state it had reached, delete must clear it.
        result = env.runsc("delete", "--force", cid)
        assert result.status == 0, result
    until(lambda: not env.processes(), what="no process: %s" % env.processes())


@case()
def killed_runsc_under_run(env, root):
    bundle = env.bundle("echo ready; sleep 100", root)
    cid = env.new_id()
    process = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, cid), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    expect(env.runsc("delete", "--force", cid))


@case()
def bad_mount_source(env, root):
    def edit(config):
        config["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such/dir",
                                 "options": ["rbind"]})
    bundle = env.bundle(["/bin/true"], root, edit=edit)
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "/no/such/dir")


@case()
def symlinks_in_rootfs_stay_inside(env, root):
    """A rootfs full of links that point out must not lead to the host's files."""
    import shutil
    hostile = env.dir + "/hostile"
    os.makedirs(hostile + "/bin")
    os.makedirs(hostile + "/dir")
    shutil.copy(root + "/bin/busybox", hostile + "/bin/busybox")
    os.symlink("busybox", hostile + "/bin/sh")
    os.symlink("busybox", hostile + "/bin/cat")
    os.symlink("/proc/1/root/etc", hostile + "/etc")
    os.symlink("../../../../../../..", hostile + "/dir/up")
    os.symlink(env.dir + "/secret", hostile + "/secret")
    with open(env.dir + "/secret", "w") as f:
        f.write("host secret")
    bundle = env.bundle("cat /secret; cat /dir/up%s/secret; echo done" % env.dir, hostile)
    result = env.runsc("run", "--bundle", bundle, env.new_id())
    assert "host secret" not in result.out, result
    expect(result, 0, "done\n")
