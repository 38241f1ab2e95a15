"""spec, features, events, logs, help, do, hooks."""
import glob
import json
import os
import subprocess

from cases import expect, expect_refused, until
from e2e import registry
from e2e.lifecycle import created

case = registry.case


@case()
def version_and_help(env, root):
    result = expect(env.runsc("--version"))
    lines = result.out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("runsc version ") and lines[1].startswith("spec: "), lines
    for command in ("create", "start", "run", "exec", "state", "list", "ps", "kill", "delete", "pause",
                    "resume", "wait", "events", "spec", "features", "do"):
        expect(env.runsc(command, "--help"), 0, has="usage")
    expect(env.runsc("help", "syscalls"), 0, has="openat")


@case()
def help_platforms(env, root):
    text = expect(env.runsc("help", "platforms")).out
    rows = json.loads(expect(env.runsc("help", "platforms", "--format", "json")).out)
    by_name = {row["name"]: row for row in rows["platforms"]}
    assert {"systrap", "ptrace", "null"} <= by_name.keys(), rows
    assert rows["auto"] in by_name and by_name[rows["auto"]]["works"] and by_name[rows["auto"]]["automatic"], rows
    for name, row in by_name.items():
        assert row["works"] or row["note"], row
        assert (row["callNs"] > 0) == (row["works"] and name != "null"), row
        assert row["help"] and "\n%-9s %s" % (name, "yes" if row["works"] else "no") in text, text
    assert "auto takes " + rows["auto"] in text, text
    csv = expect(env.runsc("help", "platforms", "--format", "csv")).out.splitlines()
    assert len(csv) == 1 + len(by_name), csv
    assert not by_name["null"]["automatic"]
    result = env.runsc("run", "--bundle", env.bundle(["true"], root), "x", flags=["--platform", "null"])
    assert result.status != 0, result


@case()
def platform_in_use_is_told(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("debug", "--stacks", cid), 0, has="platform ")
    expect(env.runsc("delete", "--force", cid))


@case()
def bad_command_line(env, root):
    for argv in (["nonsense"], ["run"], ["run", "--no-such-option", "x"], ["state"], ["state", "a", "b"],
                 ["list", "--format", "xml"]):
        result = env.runsc(*argv)
        assert result.status != 0 and result.err and not result.out, result
    assert env.runsc("list", flags=["--platform", "abacus"]).status != 0
    assert env.runsc("list", flags=["--nothing"]).status != 0


@case()
def spec_makes_a_bundle_that_runs(env, root):
    bundle = env.dir + "/made"
    os.mkdir(bundle)
    os.symlink(root, bundle + "/rootfs")
    expect(env.runsc("spec", "--bundle", bundle))
    with open(bundle + "/config.json") as f:
        config = json.load(f)
    expect_refused(env.runsc("spec", "--bundle", bundle), "exists")
    config["process"]["terminal"] = False
    config["process"]["args"] = ["echo", "from spec"]
    config["root"]["path"] = root
    with open(bundle + "/config.json", "w") as f:
        json.dump(config, f)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "from spec\n")


@case()
def features_is_json(env, root):
    features = json.loads(expect(env.runsc("features")).out)
    assert "ociVersionMax" in features and "linux" in features, features.keys()


@case()
def events_stats(env, root):
    cid, _ = created(env, root)
    expect(env.runsc("start", cid))
    event = json.loads(expect(env.runsc("events", "--stats", cid)).out)
    assert event["type"] == "stats" and event["id"] == cid, event
    assert event["data"]["pids"]["current"] >= 1, event
    assert event["data"]["memory"]["usage"]["usage"] > 0, event
    expect(env.runsc("delete", "--force", cid))


@case()
def log_json_lines(env, root):
    log = env.dir + "/log.json"
    result = env.runsc("run", "--bundle", env.dir + "/none", "x",
                       flags=["--log", log, "--log-format", "json"])
    assert result.status != 0
    with open(log) as f:
        lines = [json.loads(line) for line in f]
    assert lines and lines[-1]["level"] == "error" and "none" in lines[-1]["msg"], lines
    assert "time" in lines[-1]


@case()
def debug_log_and_strace(env, root):
    os.mkdir(env.dir + "/logs")
    bundle = env.bundle(["/bin/echo", "hi"], root)
    expect(env.runsc("run", "--bundle", bundle, env.new_id(),
                     flags=["--strace", "--debug", "--debug-log", env.dir + "/logs/"]), 0, "hi\n")
    text = ""
    for path in glob.glob(env.dir + "/logs/*"):
        with open(path, errors="replace") as f:
            text += f.read()
    assert "write(1, " in text and "exit_group(0)" in text, text[-2000:]


@case()
def do_runs_over_the_host(env, root):
    expect(env.runsc("do", "--", "/bin/sh", "-c", "echo $0 from do; exit 4"), 4, "/bin/sh from do\n")
    marker = "/var/tmp/.runsc-do-%d" % os.getpid()
    try:
        expect(env.runsc("do", "--", "/bin/sh", "-c", "echo x >%s && cat %s" % (marker, marker)), 0, "x\n")
        assert not os.path.exists(marker), "a write of the sandbox reached the host"
    finally:
        if os.path.exists(marker):
            os.unlink(marker)
    expect(env.runsc("do", "--", "no-such-program"), 127)
    expect(env.runsc("do", "--", "cat", stdin="piped"), 0, "piped")


@case()
def hooks_run_in_order(env, root):
    log = env.dir + "/hooks"

    def edit(config):
        def hook(name):
            return [{"path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null; echo %s >>%s" % (name, log)]}]
        config["hooks"] = {k: hook(k) for k in ("createRuntime", "poststart", "poststop")}
    bundle = env.bundle(["/bin/true"], root, edit=edit)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()))
    until(lambda: os.path.exists(log) and len(open(log).readlines()) == 3, what="three hooks")
    with open(log) as f:
        assert f.read() == "createRuntime\npoststart\npoststop\n"


@case()
def failing_hook_stops_create(env, root):
    def edit(config):
        config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    bundle = env.bundle(["/bin/echo", "never"], root, edit=edit)
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "hook")


@case()
def named_platform_says_why(env, root):
    """A machine whose device is something else."""
    import sandbox
    bundle = env.bundle(["/bin/true"], root)
    without = ["unshare", "-m", "sh", "-c", "[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm; exec \"$@\"", "sh"]
    runsc = [env.runsc_path, "--root", env.state, "--platform"]
    expect_refused(sandbox.run([*without, *runsc, "kvm", "run", "--bundle", bundle, env.new_id()]), "kvm")
    expect(sandbox.run([*without, *runsc, "auto", "run", "--bundle", bundle, env.new_id()]))


def sentry_of(env, cid):
    with open(os.path.join(env.state, cid, "state.json")) as f:
        return json.load(f)["sentry"]["pid"]


@case()
def sentry_has_nothing_on_the_host(env, root):
    """Privileges of a running sentry, read back from the host: nobody, no capability, filter, own namespaces."""
    cid, _ = created(env, root)
    pid = sentry_of(env, cid)
    with open("/proc/%d/status" % pid) as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    if os.geteuid() == 0:
        assert status["Uid"].split() == ["65534"] * 4, status["Uid"]
        assert status["Gid"].split() == ["65534"] * 4, status["Gid"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, (name, status[name])
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
    assert os.listdir("/proc/%d/root" % pid) == []
    for name in ("pid", "mnt", "ipc", "uts", "net"):
        assert os.readlink("/proc/%d/ns/%s" % (pid, name)) != os.readlink("/proc/self/ns/" + name), name
    expect(env.runsc("delete", "--force", cid))


def status_fields(pid):
    with open("/proc/%s/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def check_descriptors(face, server):
    """The server, which hears the sentry, holds neither the exit status nor a way into other namespaces."""
    def links(pid):
        return [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
    targets = links(server)
    assert targets.count("/") == 1, targets
    for target in targets:
        assert target == "/dev/null" or target.startswith(("socket:", "anon_inode:")) or target == "/" or target[:2] in ("/0", "/1"), target
    for target in links(face):
        assert target == "/dev/null" or target.startswith(("pipe:", "anon_inode:")) or target.endswith("/exit-status"), target


@case()
def sentry_and_gofer_have_shed_privileges(env, root):
    """What a taken-over sentry or gofer would find: no capability, no way to gain one, a filter."""
    # A bind mount of this directory puts its name on the gofer's command line: that is how it is found.
    def edit(config):
        config["mounts"].append({"destination": "/data", "type": "bind", "source": env.dir,
                                 "options": ["rbind", "ro"]})
    cid, face = created(env, root, edit=edit)
    pid = sentry_of(env, cid)
    sentry = status_fields(pid)
    assert sentry["CapEff"].strip("0") == "" and sentry["CapPrm"].strip("0") == "", sentry["CapEff"]
    assert sentry["CapBnd"].strip("0") == "" or sentry["NoNewPrivs"] == "1", sentry
    assert sentry["NoNewPrivs"] == "1" and sentry["Seccomp"] == "2", sentry
    assert "0" not in sentry["Uid"].split(), "the sentry is root on the host: " + sentry["Uid"]
    for name in ("mnt", "pid", "ipc", "uts"):
        assert os.readlink("/proc/%d/ns/%s" % (pid, name)) != os.readlink("/proc/self/ns/" + name), name
    assert os.listdir("/proc/%d/root" % pid) == [], "the sentry sees files"
    with open("/proc/%d/task/%d/children" % (face, face)) as f:
        gofers = [face, *map(int, f.read().split())]
    with open("/proc/%d/cmdline" % face) as f:
        assert f.read() == "/bin/sh -c sleep 100\0", "it shows the program's command line"
    assert gofers, env.processes()
    assert face in gofers and len(gofers) == 2, (face, gofers)
    for gofer in gofers:
        fields = status_fields(gofer)
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2", fields
        assert int(fields["CapBnd"], 16) == 0, fields
        serves = gofer != face
        assert (int(fields["CapEff"], 16) != 0) == serves, (gofer, fields["CapEff"])
        if serves:
            assert set(os.listdir("/proc/%d/root" % gofer)) == {"0", "1"}
    check_descriptors(face, next(gofer for gofer in gofers if gofer != face))
    with open("/proc/%d/mountinfo" % face) as f:
        shown = [line.split() for line in f]
    for fields in shown:
        assert {"nosuid", "nodev"} <= set(fields[5].split(",")), "a host user could get a program of the image: %s" % fields
    with open("/proc/%d/root/proc/1/comm" % face) as f:
        assert f.read() == "runsc-sentry\n"
    assert "data" in os.listdir("/proc/%d/root" % face) and os.listdir("/proc/%d/root/data" % face)
    expect(env.runsc("delete", "--force", cid))


@case()
def debug_says_what_the_sandbox_refused(env, root):
    """A limit of the container: the errno that the program got has its reason in `debug --stacks`."""
    def edit(config):
        config["linux"]["resources"] = {"pids": {"limit": 4}}
    cid, _ = created(env, root, ["sh", "-c", "(for i in 1 2 3 4 5 6; do sleep 20 & done); sleep 20"], edit=edit)
    expect(env.runsc("start", cid))
    until(lambda: "raise linux.resources.pids.limit" in env.runsc("debug", "--stacks", cid).out)
    expect(env.runsc("delete", "--force", cid))


@case()
def home_of_user(env, root):
    """HOME comes from the container's /etc/passwd unless config.json has it."""
    path = ["PATH=/bin"]
    for uid, wanted in ((0, "/root"), (1000, "/home/user"), (4321, "/")):
        bundle = env.bundle("echo $HOME", root, env=path, user={"uid": uid, "gid": uid})
        expect(env.runsc("run", "--bundle", bundle, env.new_id()), out=wanted + "\n")
    bundle = env.bundle("echo $HOME", root, env=path + ["HOME=/given"])
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), out="/given\n")
    cid, _ = created(env, root, ["sleep", "20"], edit=lambda config: config["process"].update(env=path))
    expect(env.runsc("start", cid))
    expect(env.runsc("exec", "--user", "1000:1000", cid, "sh", "-c", "echo $HOME"), out="/home/user\n")
    expect(env.runsc("delete", "--force", cid))


@case()
def hostname_of_namespace(env, root):
    """Without a name in config.json: the host's, or that of the uts namespace by path."""
    def name_with(uts):
        def edit(config):
            del config["hostname"]
            config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "uts"] + uts
        bundle = env.bundle("hostname; cat /proc/sys/kernel/hostname", root, edit=edit)
        return expect(env.runsc("run", "--bundle", bundle, env.new_id())).out
    ours = os.uname().nodename
    assert name_with([]) == name_with([{"type": "uts"}]) == (ours + "\n") * 2
    other = subprocess.Popen(["unshare", "-u", "sh", "-c", "hostname other; echo ready; exec sleep 100"],
                             stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "ready\n"
        assert name_with([{"type": "uts", "path": "/proc/%d/ns/uts" % other.pid}]) == "other\nother\n"
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert os.uname().nodename == ours
