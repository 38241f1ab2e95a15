"""Texts and statuses by which engines tell what happened: podman looks for some in the JSON log, containerd in others."""
import json
import os
import re
import subprocess

from cases import expect, expect_refused
from e2e import registry
from e2e.lifecycle import created, detached

case = registry.case

NO_PROGRAM = "unable to start container process: exec: "
# argv[0], what follows, status
PROGRAMS = (
    ("no-such-program", "\"no-such-program\": executable file not found in $PATH", 127),
    ("/no/such", "\"/no/such\": stat /no/such: no such file or directory", 127),
    ("/bin/busybox/x", "\"/bin/busybox/x\": stat /bin/busybox/x: not a directory", 127),
    ("/etc/hosts", "\"/etc/hosts\": permission denied", 126),
    ("/work/garbage", "\"/work/garbage\": exec format error", 126),
)


def message(env, *args, **kwargs):
    """The last line of the JSON log of a command that fails, and its status."""
    log = env.dir + "/log.json"
    result = detached(env, *args, **kwargs, flags=["--log", log, "--log-format", "json"])
    assert result.status, result
    with open(log) as f:
        rows = [json.loads(line) for line in f]
    row = rows[-1]
    assert row["level"] == "error" and sorted(row) == ["level", "msg", "time"], row
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", row["time"]), row
    os.unlink(log)
    return row["msg"], result.status


def with_garbage(root):
    with open(root + "/work/garbage", "w") as f:
        f.write("garbage")
    os.chmod(root + "/work/garbage", 0o755)


@case()
def programs_at_create(env, root):
    with_garbage(root)
    for program, text, status in PROGRAMS:
        bundle = env.bundle([program], root)
        seen = message(env, "create", "--bundle", bundle, env.new_id())
        assert seen == (NO_PROGRAM + text, status), (program, seen)
        assert not os.listdir(env.state)


@case()
def programs_at_run(env, root):
    with_garbage(root)
    for program, text, status in PROGRAMS:
        bundle = env.bundle([program], root)
        expect(env.runsc("run", "--bundle", bundle, env.new_id()), status, "", "runsc: " + NO_PROGRAM + text + "\n")


@case()
def programs_at_exec(env, root):
    with_garbage(root)
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    for program, text, status in PROGRAMS:
        assert message(env, "exec", cid, program) == (NO_PROGRAM + text, status), program
        assert message(env, "exec", "--detach", cid, program) == (NO_PROGRAM + text, status), program
    expect(env.runsc("delete", "--force", cid))


@case()
def working_directories(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    for cwd, text, status in (("/nope", "no such file or directory", 127), ("/etc/hosts", "not a directory", 126)):
        assert message(env, "exec", "--cwd", cwd, cid, "true") == (
            "unable to start container process: chdir to cwd (\"%s\") set in config.json failed: %s" % (cwd, text),
            status), cwd
    expect(env.runsc("delete", "--force", cid))
    # as runc does it
    expect(env.runsc("run", "--bundle", env.bundle(["/bin/pwd"], root, cwd="/made/up"), env.new_id()), 0, "/made/up\n")


@case()
def a_directory_as_program(env, root):
    """runc says permission denied or, with a newer Go, is a directory."""
    text, status = message(env, "create", "--bundle", env.bundle(["/etc"], root), env.new_id())
    assert text in (NO_PROGRAM + "\"/etc\": permission denied", NO_PROGRAM + "\"/etc\": is a directory"), text
    assert status == 126


@case()
def unknown_containers(env, root):
    os.mkdir(env.state)
    for command in (["state", "x"], ["start", "x"], ["kill", "x"], ["kill", "--all", "x", "9"], ["delete", "x"],
                    ["pause", "x"], ["resume", "x"], ["exec", "x", "true"], ["ps", "x"], ["events", "--stats", "x"],
                    ["update", "--memory", "1g", "x"], ["wait", "x"], ["usage", "x"]):
        text, status = message(env, *command)
        assert text.startswith("container does not exist") and status == 1, (command, text)
    expect(env.runsc("delete", "--force", "x"), 0, "", "")
    expect(env.runsc("delete", "-f", "x", "y"), 0, "", "")


@case()
def states(env, root):
    """What each state refuses, in runc's words."""
    cid, _ = created(env, root)
    assert message(env, "create", "--bundle", env.bundle(["true"], root), cid)[0].startswith(
        "container with given ID already exists")
    assert message(env, "resume", cid)[0].startswith("container not paused")
    expect(env.runsc("start", cid))
    assert message(env, "start", cid)[0].startswith("cannot start an already running container")
    assert message(env, "delete", cid)[0].startswith("cannot delete container %s that is not stopped: running" % cid)
    assert message(env, "kill", cid, "NOSUCH")[0].startswith("unknown signal \"NOSUCH\"")
    assert "no such process" in message(env, "kill", "--pid", "999", cid)[0]
    expect(env.runsc("pause", cid))
    assert message(env, "exec", cid, "true")[0].startswith("cannot exec in a paused container")
    assert message(env, "delete", cid)[0].startswith("cannot delete container %s that is not stopped: paused" % cid)
    expect(env.runsc("resume", cid))
    expect(env.runsc("kill", cid, "KILL"))
    expect(env.runsc("wait", cid), has="137")
    for command in (["kill", cid], ["pause", cid], ["ps", cid], ["events", "--stats", cid]):
        text = message(env, *command)[0]
        assert text.startswith("container not running"), (command, text)
    assert message(env, "exec", cid, "true")[0].startswith("cannot exec in a stopped container")
    assert message(env, "start", cid)[0].startswith("cannot start a container that has stopped")
    expect(env.runsc("kill", "--all", cid, "9"))
    expect(env.runsc("delete", cid))


@case()
def a_created_container_is_deleted_without_force(env, root):
    """As runc does it; containerd relies on it."""
    cid, _ = created(env, root)
    expect(env.runsc("delete", cid), 0, "", "")


@case()
def version_features_and_help(env, root):
    lines = expect(env.runsc("--version")).out.splitlines()
    assert len(lines) == 2 and re.fullmatch(r"runsc version \S+", lines[0]), lines
    assert re.fullmatch(r"spec: \d+\.\d+\.\d+", lines[1]), lines
    features = json.loads(expect(env.runsc("features")).out)
    assert features["ociVersionMax"] == lines[1][6:] and len(features["hooks"]) == 6
    for command in ("checkpoint", "restore"):
        expect(env.runsc(command, "--help"), 0, err="")
        expect_refused(env.runsc(command, "--image-path", "x", "--work-path", "x", "id"), "not part of this release")


@case()
def text_log(env, root):
    os.mkdir(env.state)
    log = env.dir + "/log"
    for _ in range(2):
        expect_refused(env.runsc("state", "x", flags=["--log", log]))
    with open(log) as f:
        lines = f.read().splitlines()
    assert len(lines) == 2, lines
    assert all(re.fullmatch(r'time="[^"]*" level=error msg="container does not exist: there is no \\"x\\" in .*"', line)
               for line in lines), lines


@case()
def regular_expressions(env, root):
    ids = [created(env, root)[0] for _ in range(3)]
    prefix = os.path.basename(env.dir)
    expect_refused(env.runsc("delete", "--regex", "("), "no regular expression")
    expect(env.runsc("kill", "--regex", "%s-[12]$" % prefix, "KILL"))
    for cid in ids[:2]:
        expect(env.runsc("wait", cid), has="137")
    expect(env.runsc("delete", "--regex", "%s-[12]$" % prefix))
    assert expect(env.runsc("list", "-q")).out.split() == ids[2:]
    expect(env.runsc("delete", "--force", "--regex", prefix))
    assert not os.listdir(env.state)


@case()
def list_and_ps(env, root):
    cid, pid = created(env, root)
    expect(env.runsc("start", cid))
    head, row = expect(env.runsc("list")).out.splitlines()
    assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], head
    assert row.split()[:3] == [cid, str(pid), "running"] and row.split()[5] == "root", row
    assert [head.index(w) for w in head.split()] == [row.index(w) for w in row.split()], (head, row)
    row = json.loads(expect(env.runsc("list", "-f", "json")).out)[0]
    state = json.loads(expect(env.runsc("state", cid)).out)
    assert sorted(row) == ["bundle", "created", "id", "ociVersion", "owner", "pid", "rootfs", "status"], row
    assert {k: state[k] for k in row} == row
    lines = expect(env.runsc("ps", cid)).out.splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"], lines
    assert any(line.split()[1] == "1" for line in lines[1:]), lines
    pids = json.loads(expect(env.runsc("ps", "--format", "json", cid)).out)
    assert pids and json.loads(expect(env.runsc("ps", cid, "--format", "json")).out) == pids
    lines = expect(env.runsc("ps", cid, "-o", "pid,comm")).out.splitlines()
    assert lines[0].split() == ["PID", "COMMAND"] and [int(line.split()[0]) for line in lines[1:]] == sorted(pids), lines
    lines = expect(env.runsc("ps", cid, "-ef")).out.splitlines()
    assert lines[0].split()[:3] == ["UID", "PID", "PPID"] and len(lines) == 1 + len(pids), lines
    expect_refused(env.runsc("ps", cid, "-o", "comm"), "PID field")
    expect(env.runsc("delete", "--force", cid))


@case()
def install_and_uninstall(env, root):
    path = env.dir + "/etc/daemon.json"

    def config():
        with open(path) as f:
            return json.load(f)
    expect(env.runsc("install", "--config_file", path, "--cgroupdriver", "systemd", "--", "--debug"))
    assert config() == {"exec-opts": ["native.cgroupdriver=systemd"],
                        "runtimes": {"runsc": {"path": env.runsc_path, "runtimeArgs": ["--debug"]}}}
    expect_refused(env.runsc("install", "--config_file", path), "--clobber")
    expect(env.runsc("install", "--config_file", path, "--clobber", "--runtime=runsc"))
    expect(env.runsc("install", "--config_file", path, "--runtime", "other"))
    assert config()["runtimes"] == {n: {"path": env.runsc_path} for n in ("runsc", "other")}
    expect(env.runsc("uninstall", "--config_file", path))
    assert list(config()["runtimes"]) == ["other"]
    expect_refused(env.runsc("uninstall", "--config_file", path), "no runtime")
    with open(path, "w") as f:
        f.write("{ broken")
    expect_refused(env.runsc("install", "--config_file", path), path)
    assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"{ broken"
