"""Host cgroups: where they are, what is in their files, update, and that they go away."""
import os

from cases import Skip, expect, expect_refused
from e2e import registry
from e2e.lifecycle import created, detached

case = registry.case
MIB = 1 << 20


def need_cgroups():
    if not os.path.isdir("/sys/fs/cgroup/pids") and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        raise Skip("no cgroups")


def own_name(env, suffix=""):
    """A name that the search for leftovers finds."""
    return "tests-%s%s" % (os.path.basename(env.dir), suffix)


def directories(pid):
    """Of a process: {"memory": "/sys/fs/cgroup/memory/x", ..., "": the one of version 2}."""
    found = {}
    with open("/proc/%d/cgroup" % pid) as f:
        lines = [line.rstrip("\n").split(":", 2) for line in f]
    with open("/proc/self/mountinfo") as f:
        mounts = [line.split() for line in f]
    for _, names, path in lines:
        for words in mounts:
            kind, options = words[words.index("-") + 1], words[-1].split(",")
            if kind == "cgroup2" if not names else kind == "cgroup" and set(names.split(",")) <= set(options):
                for name in names.split(","):
                    found.setdefault(name, words[4] + path)
    return found


def read(directory, *names):
    """The text of the first file that there is, or None."""
    for name in names:
        try:
            with open(os.path.join(directory, name)) as f:
                return f.read().strip()
        except OSError:
            pass
    return None


def value(dirs, controller, v1, v2):
    """Of the controller's file of either version; None where the host lacks it."""
    if controller in dirs:
        return read(dirs[controller], v1)
    return read(dirs[""], v2) if "" in dirs else None


def with_resources(path, resources):
    def edit(config):
        if path is not None:
            config["linux"]["cgroupsPath"] = path
        config["linux"]["resources"] = resources
    return edit


@case()
def every_container_has_one(env, root):
    """By default under the caller's own, named by the id; gone with the container."""
    need_cgroups()
    cid, pid = created(env, root)
    dirs = directories(pid)
    assert dirs
    own = directories(os.getpid())
    for name, path in dirs.items():
        assert os.path.basename(path) == cid, (name, path)
        if name in own and not (name == "" and len(own) == 1):
            assert os.path.dirname(path) == own[name].rstrip("/"), (path, own[name])
        assert str(pid) in read(path, "cgroup.procs").split()
    expect(env.runsc("delete", "--force", cid))
    assert not [path for path in dirs.values() if os.path.exists(path)], dirs


@case()
def absolute_and_relative_paths(env, root):
    need_cgroups()
    own = directories(os.getpid())
    for path, relative in (("/%s/a/b" % own_name(env), False), (own_name(env, "-r") + "/c/../d", True)):
        cid, pid = created(env, root, edit=with_resources(path, {}))
        wanted = os.path.normpath(path).lstrip("/")
        for name, found in directories(pid).items():
            if relative and name and name in own:
                assert found == own[name].rstrip("/") + "/" + wanted, (found, own[name])
            assert found.endswith("/" + wanted), found
        expect(env.runsc("delete", "--force", cid))


@case()
def none_when_asked_for_none(env, root):
    need_cgroups()
    bundle = env.bundle("sleep 100", root, edit=with_resources("/" + own_name(env), {}))
    cid = env.new_id()
    expect(detached(env, "--ignore-cgroups", "run", "--detach", "--bundle", bundle, "--pid-file", env.dir + "/pid",
                    cid))
    with open(env.dir + "/pid") as f:
        pid = int(f.read())
    assert directories(pid) == directories(os.getpid())
    expect(env.runsc("delete", "--force", cid))


@case()
def limits_are_written(env, root):
    need_cgroups()
    resources = {
        "memory": {"limit": 512 * MIB, "reservation": 256 * MIB},
        "cpu": {"shares": 2048, "quota": 150000, "period": 50000},
        "pids": {"limit": 500},
    }
    cid, pid = created(env, root, edit=with_resources("/" + own_name(env), resources))
    dirs = directories(pid)
    assert value(dirs, "memory", "memory.limit_in_bytes", "memory.max") == str(512 * MIB)
    assert value(dirs, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(256 * MIB)
    assert value(dirs, "cpu", "cpu.shares", "cpu.weight") in ("2048", "79")
    assert value(dirs, "cpu", "cpu.cfs_quota_us", "cpu.max") in ("150000", "150000 50000")
    # The sandbox's own tasks come on top: the sentry keeps the exact limit.
    assert int(value(dirs, "pids", "pids.max", "pids.max")) > 500
    if "devices" in dirs:
        rules = read(dirs["devices"], "devices.list").splitlines()
        assert "c 1:3 rwm" in rules and "a *:* rwm" not in rules, rules
    expect(env.runsc("delete", "--force", cid))


@case()
def limit_that_the_host_lacks(env, root):
    need_cgroups()
    if "net_cls" in directories(os.getpid()) or len(directories(os.getpid())) == 1:
        raise Skip("this host has net_cls, or version 2 alone")
    bundle = env.bundle(["/bin/true"], root, edit=with_resources("/" + own_name(env), {"network": {"classID": 7}}))
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "cannot set net_cls limit")
    bundle = env.bundle(["/bin/true"], root, edit=with_resources("/" + own_name(env), {"network": {"classID": 0}}))
    expect(env.runsc("run", "--bundle", bundle, env.new_id()))


@case()
def refused_value_leaves_nothing(env, root):
    need_cgroups()
    bundle = env.bundle(["/bin/true"], root, edit=with_resources("/" + own_name(env), {"cpu": {"cpus": "4000"}}))
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "cpuset.cpus")


@case()
def one_that_is_in_use_is_refused(env, root):
    need_cgroups()
    path = "/" + own_name(env)
    first, pid = created(env, root, edit=with_resources(path, {}))
    bundle = env.bundle(["/bin/true"], root, edit=with_resources(path, {}))
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id()), "cgroup is not empty")
    assert os.path.exists("/proc/%d" % pid)
    expect(env.runsc("delete", "--force", first))
