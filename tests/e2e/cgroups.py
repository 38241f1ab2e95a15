"""Host cgroups: where they are, what is in their files, update, and that they go away."""
import json
import os
import subprocess

from cases import Skip, expect, expect_refused, until
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


def host_memory(limit):
    return limit + limit // 16 + 64 * MIB


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
    # What the sandbox itself needs comes on top: the sentry keeps the exact limits.
    assert value(dirs, "memory", "memory.limit_in_bytes", "memory.max") == str(host_memory(512 * MIB))
    assert value(dirs, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(256 * MIB)
    assert value(dirs, "cpu", "cpu.shares", "cpu.weight") in ("2048", "79")
    assert value(dirs, "cpu", "cpu.cfs_quota_us", "cpu.max") in ("150000", "150000 50000")
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


@case()
def update_changes_host_guest_and_state(env, root):
    need_cgroups()
    resources = {"memory": {"limit": 256 * MIB}, "pids": {"limit": 50}, "cpu": {"shares": 100}}
    cid, pid = created(env, root, edit=with_resources("/" + own_name(env), resources))
    dirs = directories(pid)
    expect(env.runsc("start", cid))

    def now():
        return (value(dirs, "memory", "memory.limit_in_bytes", "memory.max"),
                value(dirs, "pids", "pids.max", "pids.max"),
                value(dirs, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0])
    expect(env.runsc("update", "--memory", "300m", "--pids-limit", "60", "--cpu-quota", "50000", cid))
    assert now() == (str(host_memory(300 * MIB)), str(3 * 60 + 64), "50000"), now()
    stats = json.loads(expect(env.runsc("events", "--stats", cid)).out)["data"]
    assert stats["memory"]["usage"]["limit"] == 300 * MIB and stats["pids"]["limit"] == 60, stats
    # A file and stdin; what they do not name stays.
    with open(env.dir + "/r.json", "w") as f:
        json.dump({"memory": {"limit": 200 * MIB, "swap": None, "reservation": 0}, "pids": {"limit": 0},
                   "cpu": {"cpus": "", "shares": 0}}, f)
    expect(env.runsc("update", "--resources", env.dir + "/r.json", cid))
    assert now() == (str(host_memory(200 * MIB)), str(3 * 60 + 64), "50000"), now()
    expect(env.runsc("update", "-r", "-", cid, stdin='{"cpu": {"quota": -1}}'))
    assert now()[2] in ("-1", "max"), now()
    expect(env.runsc("update", "--cpuset-cpus", "0", cid))
    if value(dirs, "cpuset", "cpuset.cpus", "cpuset.cpus") is not None:
        assert value(dirs, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    with open("%s/%s/config.json" % (env.state, cid)) as f:
        kept = json.load(f)["linux"]["resources"]
    assert kept == {"memory": {"limit": 200 * MIB}, "pids": {"limit": 60},
                    "cpu": {"shares": 100, "quota": -1, "cpus": "0"}}, kept
    expect(env.runsc("update", "--pids-limit", "-1", cid))
    assert now()[1] == "max", now()
    expect(env.runsc("delete", "--force", cid))


@case()
def update_refuses(env, root):
    need_cgroups()
    cid, pid = created(env, root, edit=with_resources("/" + own_name(env), {"memory": {"limit": 256 * MIB}}))
    before = value(directories(pid), "memory", "memory.limit_in_bytes", "memory.max")
    for options, sentence in ((["--memory", "5x"], "number of bytes"), (["--cpu-quota", "half"], "whole number"),
                              (["--cpu-idle", "2"], "cpu.idle must be from 0 to 1"),
                              (["--cpu-period", "7"], "cpu"), (["--resources", "/nonexistent"], "--resources"),
                              (["--l3-cache-schema", "L3:0=f"], "Intel RDT")):
        expect_refused(env.runsc("update", *options, cid), sentence)
    expect_refused(env.runsc("update", "-r", "-", cid, stdin='{"memory": {\n"limit": "1"}}'), "stdin:2: memory.limit")
    assert value(directories(pid), "memory", "memory.limit_in_bytes", "memory.max") == before
    expect(env.runsc("delete", "--force", cid))
    expect_refused(env.runsc("update", "--memory", "1g", cid), "does not exist")


@case()
def events_stream_until_the_end(env, root):
    """Figures at each interval; the end comes with the container's."""
    need_cgroups()
    cid, _ = created(env, root, edit=with_resources("/" + own_name(env), {"memory": {"limit": 64 * MIB}}))
    with open(env.dir + "/events", "w") as out:
        process = subprocess.Popen(env.runsc_argv("events", "--interval", "100ms", cid), stdout=out,
                                   stdin=subprocess.DEVNULL)
    try:
        def lines():
            with open(env.dir + "/events") as f:
                return [json.loads(line) for line in f.read().splitlines()]
        until(lambda: len(lines()) >= 3, 20, "figures")
        last = lines()[-1]
        assert last["type"] == "stats" and last["id"] == cid, last
        assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"} <= last["data"].keys(), last
        usage = last["data"]["memory"]["usage"]
        assert usage["limit"] == 64 * MIB and usage["usage"] > 0, usage
        expect(env.runsc("delete", "--force", cid))
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@case()
def parents_go_with_the_last(env, root):
    """What runsc made above its directory stays while a container is in it; what others made stays for ever."""
    need_cgroups()
    top = own_name(env)
    cids, dirs = [], {}
    for name in "ab":
        cid, pid = created(env, root, edit=with_resources("/%s/in/%s" % (top, name), {}))
        cids.append(cid)
        dirs = {key: path[:path.index(top)] + top for key, path in directories(pid).items()}
    expect(env.runsc("delete", "--force", cids[0]))
    assert all(os.path.exists(path + "/in/b") and not os.path.exists(path + "/in/a") for path in dirs.values()), dirs
    expect(env.runsc("delete", "--force", cids[1]))
    assert not [path for path in dirs.values() if os.path.exists(path)], dirs
    kept = next(iter(dirs.values()))
    os.mkdir(kept)
    try:
        cid, _ = created(env, root, edit=with_resources("/%s/c" % top, {}))
        expect(env.runsc("delete", "--force", cid))
        assert os.listdir(kept) and not os.path.exists(kept + "/c")
    finally:
        os.rmdir(kept)


@case()
def events_tell_of_out_of_memory(env, root):
    """One `oom` line for a kill inside, and its number in the figures."""
    need_cgroups()
    edit = with_resources("/" + own_name(env), {"memory": {"limit": 64 * MIB}})
    cid, _ = created(env, root, args="tail /dev/zero; echo $? >/status; sleep 100", edit=edit)
    with open(env.dir + "/events", "w") as out:
        process = subprocess.Popen(env.runsc_argv("events", "--interval", "1h", cid), stdout=out,
                                   stdin=subprocess.DEVNULL)
    try:
        until(lambda: os.path.getsize(env.dir + "/events"), 10, "first figures")
        expect(env.runsc("start", cid))

        def oom_lines():
            with open(env.dir + "/events") as f:
                return f.read().splitlines()[1:]
        until(oom_lines, 20, "an event")
        assert [json.loads(line) for line in oom_lines()] == [{"type": "oom", "id": cid}]
        until(lambda: env.runsc("exec", cid, "/bin/cat", "/status").out == "137\n", 10, "the status of the killed")
        stats = json.loads(expect(env.runsc("events", "--stats", cid)).out)["data"]
        assert stats["memory"]["oom_kills"] == 1, stats
        expect(env.runsc("delete", "--force", cid))
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@case()
def without_any_cgroup(env, root):
    """Rootless where no directory may be made: the sentry keeps what it can, the rest is refused."""
    need_cgroups()
    if os.geteuid():
        raise Skip("needs root")
    home = env.dir + "/home"
    os.mkdir(home)
    os.chmod(env.dir, 0o755)
    os.chown(home, 65534, 65534)
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    import sandbox
    if sandbox.run([*user, "test", "-x", env.runsc_path, "-a", "-x", root]).status:
        raise Skip("nobody may not walk to %s" % env.runsc_path)

    def run(resources, *flags):
        bundle = env.bundle(["/bin/echo", "done"], root, edit=with_resources(None, resources))
        for path in (bundle, bundle + "/config.json"):
            os.chmod(path, 0o755)
        return sandbox.run([*user, env.runsc_path, "--root", home, "--platform", env.platform, *flags, "run", "--bundle",
                            bundle, env.new_id()])
    expect(run({"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}, "cpu": {"quota": 100000}}, "--rootless"), 0, "done\n")
    expect_refused(run({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, "--rootless"),
                   "cannot set hugetlb limit")


@case()
def events_tell_of_the_hosts_kills(env, root):
    """A process of the host in the container's cgroup that wants more than its limit."""
    need_cgroups()
    edit = with_resources("/" + own_name(env), {"memory": {"limit": 16 * MIB}})
    cid, pid = created(env, root, edit=edit)
    dirs = directories(pid)
    memory = dirs.get("memory", dirs.get(""))
    with open(env.dir + "/events", "w") as out:
        process = subprocess.Popen(env.runsc_argv("events", "--interval", "1h", cid), stdout=out,
                                   stdin=subprocess.DEVNULL)
    eater = subprocess.Popen(["/usr/bin/python3", "-c", "import sys; sys.stdin.read(1); x = bytearray(400 << 20)"],
                             stdin=subprocess.PIPE)
    try:
        until(lambda: os.path.getsize(env.dir + "/events"), 10, "first figures")
        with open(memory + "/cgroup.procs", "w") as f:
            f.write(str(eater.pid))
        eater.stdin.write(b"x")
        eater.stdin.close()
        assert eater.wait(30) == -9

        def oom_lines():
            with open(env.dir + "/events") as f:
                return f.read().splitlines()[1:]
        until(oom_lines, 10, "an event")
        assert json.loads(oom_lines()[0]) == {"type": "oom", "id": cid}
        stats = json.loads(expect(env.runsc("events", "--stats", cid)).out)["data"]
        assert stats["memory"]["oom_kills"] == 1, stats
        expect(env.runsc("delete", "--force", cid))
        assert process.wait(10) == 0
    finally:
        for each in (process, eater):
            each.kill()
            each.wait()


@case()
def pods_are_limited_by_the_sentry(env, root):
    """The first container's cgroup holds the whole pod: its limits go when another container joins."""
    need_cgroups()
    from e2e.pods import member, pod
    first, pid = pod(env, root, edit=with_resources("/%s/a" % own_name(env),
                                                    {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}))
    dirs = directories(pid)

    def limits(where):
        return [value(where, "memory", "memory.limit_in_bytes", "memory.max"),
                value(where, "pids", "pids.max", "pids.max")]
    assert limits(dirs) == [str(host_memory(64 * MIB)), "124"], limits(dirs)
    second, second_pid = member(env, root, "sleep 100", first, pid,
                                edit=with_resources("/%s/b" % own_name(env),
                                                    {"memory": {"limit": 128 * MIB}, "pids": {"limit": 30}}))
    memory, tasks = limits(dirs)
    assert tasks == "max" and (memory == "max" or int(memory) > 1 << 60), (memory, tasks)
    assert limits(directories(second_pid)) == [str(host_memory(128 * MIB)), "154"]
    expect(env.runsc("update", "--pids-limit", "25", first))
    assert limits(dirs)[1] == "max"
    for cid, limit, tasks in ((first, 64, 25), (second, 128, 30)):
        stats = json.loads(expect(env.runsc("events", "--stats", cid)).out)["data"]
        assert stats["memory"]["usage"]["limit"] == limit * MIB and stats["pids"]["limit"] == tasks, stats
    expect(env.runsc("delete", "--force", second))
    expect(env.runsc("delete", "--force", first))


@case()
def what_is_left_in_it(env, root):
    """A process that somebody put in: killed with a cgroup that runsc made, left alone in one that was there."""
    need_cgroups()
    for was_there in (False, True):
        path = "/%s-%d" % (own_name(env), was_there)
        paths = [word + path for word in sorted({d[:-1] if d.endswith("/") else d for d in mounts_of_hierarchies()})]
        if was_there:
            for directory in paths:
                os.mkdir(directory)
        cid, _ = created(env, root, edit=with_resources(path, {}))
        other = subprocess.Popen(["sleep", "100"])
        try:
            for directory in paths:
                with open(directory + "/cgroup.procs", "w") as f:
                    f.write(str(other.pid))
            expect(env.runsc("delete", "--force", cid))
            if was_there:
                assert other.poll() is None and all(os.path.exists(directory) for directory in paths)
            else:
                assert other.wait(5) == -9 and not [d for d in paths if os.path.exists(d)]
        finally:
            other.kill()
            other.wait()
            for directory in paths if was_there else ():
                until(lambda d=directory: not remove_dir(d), 5, "the end of " + directory)


def mounts_of_hierarchies():
    """The mount point of each hierarchy, once."""
    found = {}
    with open("/proc/self/mountinfo") as f:
        for words in map(str.split, f):
            kind = words[words.index("-") + 1]
            if kind in ("cgroup", "cgroup2"):
                found.setdefault(words[-1] if kind == "cgroup" else kind, words[4])
    return found.values()


def remove_dir(path):
    try:
        os.rmdir(path)
    except OSError:
        return os.path.exists(path)
    return False
