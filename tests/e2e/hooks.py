"""OCI hooks: order, state, environment, time limit, failures, and where they run."""
import json
import os
import time

import sandbox
from cases import expect, expect_refused, until
from e2e import registry
from e2e.lifecycle import created, detached, status_of

case = registry.case

OUTSIDE = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
CREATE = ("prestart", "createRuntime", "createContainer")
STATUS = {"prestart": "created", "createRuntime": "creating", "createContainer": "creating", "poststart": "running",
          "poststop": "stopped"}


def shell(script, path="/bin/sh", **more):
    return {"path": path, "args": ["sh", "-c", script], **more}


def with_hooks(hooks, **more):
    def edit(config):
        config["hooks"] = hooks
        config.update(more)
    return edit


def noting(env, kinds=OUTSIDE):
    """Hooks that note down their kind, and their state in a file of its own."""
    return {kind: [shell("echo %s >> %s/order; cat > %s/state-%s" % (kind, env.dir, env.dir, kind))]
            for kind in kinds}


def refused(result, *words):
    for word in words or (None,):
        expect_refused(result, word)


def lines(path):
    try:
        with open(path) as f:
            return f.read().split()
    except FileNotFoundError:
        return []


@case()
def order_and_state(env, root):
    hooks = noting(env)
    hooks["startContainer"] = [shell("cat > /state-startContainer; ls /tmp/ready; echo $$ > /hook-pid; echo $0 > /hook-name")]
    hooks["startContainer"][0]["args"][0] = "ash"
    cid, pid = created(env, root, "touch /tmp/ready; sleep 100",
                       edit=with_hooks(hooks, annotations={"a.b": "c", "x": "\"y\" \u00e4"}))
    assert lines(env.dir + "/order") == ["prestart", "createRuntime", "createContainer"]
    expect(env.runsc("start", cid))
    assert lines(env.dir + "/order")[3:] == ["poststart"]
    expect(env.runsc("delete", "--force", cid))
    assert lines(env.dir + "/order")[4:] == ["poststop"]
    for kind in OUTSIDE:
        with open(env.dir + "/state-" + kind) as f:
            state = json.load(f)
        assert state["status"] == STATUS[kind], (kind, state)
        assert state["id"] == cid and state["ociVersion"] and os.path.isdir(state["bundle"]), (kind, state)
        assert state["annotations"] == {"a.b": "c", "x": "\"y\" \u00e4"}, (kind, state)
        assert state.get("pid", 0) == (0 if kind == "poststop" else pid), (kind, state)
    with open(root + "/state-startContainer") as f:
        state = json.load(f)
    assert state["status"] == "created" and state["pid"] == pid, state
    assert int(lines(root + "/hook-pid")[0]) < 100, "the hook's pid is none of the sandbox"
    assert lines(root + "/hook-name") == ["ash"]


@case()
def several_of_a_kind_with_arguments_and_environment(env, root):
    hooks = {"createRuntime": [
        shell("echo $0 $1 $A $HOME >> %s/out" % env.dir, env=["A=b c"]),
        {"path": "/usr/bin/env", "env": ["ONLY=this"]},
        {"path": "/bin/sh", "args": ["zero", "-c", "echo $0 $1 >> %s/out; pwd >> %s/cwd" % (env.dir, env.dir),
                                     "name", "first"]},
    ]}
    bundle = env.bundle(["/bin/true"], root, edit=with_hooks(hooks))
    expect(env.runsc("run", "--bundle", bundle, env.new_id()))
    with open(env.dir + "/out") as f:
        assert f.read() == "sh b c\nname first\n"
    assert lines(env.dir + "/cwd") == [bundle]


@case()
def time_limit(env, root):
    for kind in CREATE + ("startContainer",):
        hooks = {kind: [shell("echo $$ > %s/pid; sleep 77" % env.dir if kind != "startContainer" else "sleep 77",
                              timeout=1)]}
        bundle = env.bundle(["/bin/true"], root, edit=with_hooks(hooks))
        began = time.monotonic()
        refused(env.runsc("run", "--bundle", bundle, env.new_id()), kind, "/bin/sh", "within 1 seconds")
        assert time.monotonic() - began < 8, kind
        assert not os.listdir(env.state), kind
    assert not os.path.exists("/proc/%s" % lines(env.dir + "/pid")[0])


@case()
def failing_create_hook(env, root):
    for kind in CREATE:
        hooks = noting(env, ("poststop",))
        hooks[kind] = [shell("echo the reason; exit 3"), shell("touch %s/never" % env.dir)]
        bundle = env.bundle(["/bin/touch", "/never"], root, edit=with_hooks(hooks))
        result = detached(env, "create", "--bundle", bundle, "--pid-file", env.dir + "/pid-file", "x" + kind)
        refused(result, "error running %s hook" % kind, "exit status 3", "the reason")
        assert not os.listdir(env.state) and not os.path.exists(env.dir + "/pid-file"), kind
        assert not os.path.exists(env.dir + "/never") and not os.path.exists(root + "/never"), kind
        assert lines(env.dir + "/order") == ["poststop"], kind
        os.unlink(env.dir + "/order")
        os.unlink(env.dir + "/out")


@case()
def failing_start_container_hook(env, root):
    for script, text in (("echo the reason; exit 3", "the reason"), (None, "no such file")):
        hooks = noting(env, ("poststart", "poststop"))
        hooks["startContainer"] = [shell(script)] if script else [{"path": "/bin/no-such-program"}]
        cid, _ = created(env, root, ["/bin/touch", "/never"], edit=with_hooks(hooks))
        refused(env.runsc("start", cid), "startContainer hook", text)
        assert status_of(env, cid) == "stopped"
        refused(env.runsc("start", cid))
        expect(env.runsc("delete", cid))
        assert lines(env.dir + "/order") == ["poststop"] and not os.path.exists(root + "/never")
        os.unlink(env.dir + "/order")


@case()
def failing_later_hooks_are_logged(env, root):
    for kind in ("poststart", "poststop"):
        hooks = {kind: [shell("exit 3"), shell("echo second >> %s/order" % env.dir)]}
        bundle = env.bundle(["/bin/true"], root, edit=with_hooks(hooks))
        log = env.dir + "/log-" + kind
        expect(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--log", log, "--log-format", "json"]), 0, "", "")
        with open(log) as f:
            row = json.loads(f.read())
        assert row["level"] == "warning" and "error running %s hook" % kind in row["msg"], row
    assert lines(env.dir + "/order") == ["second", "second"]


@case()
def a_hook_that_cannot_be_started(env, root):
    bundle = env.bundle(["/bin/true"], root, edit=with_hooks({"createRuntime": [{"path": "/no/such/hook"}]}))
    refused(env.runsc("run", "--bundle", bundle, env.new_id()), "createRuntime", "/no/such/hook",
                   "No such file or directory")


@case()
def create_container_hooks_join_the_network_only(env, root):
    hooks = {kind: [shell("readlink /proc/self/ns/net /proc/self/ns/mnt > %s/ns-%s" % (env.dir, kind))]
             for kind in ("createRuntime", "createContainer")}
    cid, pid = created(env, root, edit=with_hooks(hooks))
    net, mnt = (os.readlink("/proc/self/ns/" + n) for n in ("net", "mnt"))
    theirs = os.readlink("/proc/%d/ns/net" % pid)
    assert theirs != net
    assert lines(env.dir + "/ns-createRuntime") == [net, mnt]
    assert lines(env.dir + "/ns-createContainer") == [theirs, mnt]
    expect(env.runsc("delete", "--force", cid))


@case()
def start_container_hooks_have_inits_credentials(env, root):
    """Not a program of the host with root's power: the sandbox's, with the user of the container."""
    hooks = {"startContainer": [shell("id -u > /tmp/hook; hostname >> /tmp/hook; grep CapEff /proc/self/status >> /tmp/hook")]}
    bundle = env.bundle("cat /tmp/hook", root, user={"uid": 1000, "gid": 1000}, capabilities={},
                        edit=with_hooks(hooks))
    out = expect(env.runsc("run", "--bundle", bundle, env.new_id())).out.split()
    assert out == ["1000", "guest", "CapEff:", "0000000000000000"], out


@case()
def hooks_may_call_the_runtime(env, root):
    """state does not wait for the lock that a create holds."""
    hooks = {"createRuntime": [shell("%s --root %s state $(sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/') > %s/asked 2>&1" %
                                     (env.runsc_path, env.state, env.dir), timeout=10,
                                     env=["PATH=/usr/bin:/bin"])]}
    bundle = env.bundle(["/bin/true"], root, edit=with_hooks(hooks))
    expect(env.runsc("run", "--bundle", bundle, env.new_id()))
    with open(env.dir + "/asked") as f:
        assert json.load(f)["status"] == "creating"


@case()
def a_hook_may_leave_something_running(env, root):
    # a number that no guest beside us sleeps for: their command lines can be seen here
    hooks = {"createRuntime": [shell("sleep 3.00731 & exit 0"), shell("timeout 3 yes & exit 0")],
             "startContainer": [shell("timeout 3 yes & exit 0")]}
    bundle = env.bundle(["/bin/true"], root, edit=with_hooks(hooks))
    began = time.monotonic()
    expect(env.runsc("run", "--bundle", bundle, env.new_id()))
    assert time.monotonic() - began < 3
    until(lambda: not sandbox.processes_naming("sleep 3.00731"), what="the end of sleep")


@case()
def endless_output_does_not_outlast_the_time_limit(env, root):
    for kind in ("createRuntime", "startContainer"):
        bundle = env.bundle(["/bin/true"], root, edit=with_hooks({kind: [shell("exec yes", timeout=1)]}))
        began = time.monotonic()
        refused(env.runsc("run", "--bundle", bundle, env.new_id()), kind, "within 1 seconds")
        assert time.monotonic() - began < 8, kind


@case()
def hooks_of_a_pods_container(env, root):
    """Each container has its own; one that fails leaves the others alone."""
    from e2e.pods import member, pod

    def edit_of(script):
        hooks = dict(noting(env), startContainer=[shell(script)])
        return lambda config: config.update(hooks=hooks)
    box, pid = pod(env, root)
    cid, own = member(env, root, "sleep 100", box, pid, edit=edit_of("echo $$ > /tmp/hook; hostname >> /tmp/hook"))
    assert lines(env.dir + "/order") == ["prestart", "createRuntime", "createContainer", "poststart"]
    for kind in CREATE + ("poststart",):
        with open(env.dir + "/state-" + kind) as f:
            state = json.load(f)
        assert (state["id"], state["pid"], state["status"]) == (cid, own, STATUS[kind]), state
    expect(env.runsc("exec", cid, "cat", "/tmp/hook"), has="\n")
    expect(env.runsc("delete", "--force", cid))
    assert lines(env.dir + "/order")[4:] == ["poststop"]
    cid, _ = member(env, root, "sleep 100", box, pid, edit=edit_of("exit 3"), start=False)
    refused(env.runsc("start", cid), "startContainer hook", "exit status 3")
    assert status_of(env, cid) == "stopped" and status_of(env, box) == "running"
    expect(env.runsc("delete", cid))
    expect(env.runsc("exec", box, "true"))
    expect(env.runsc("delete", "--force", box))
