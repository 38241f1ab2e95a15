"""/sys/fs/cgroup inside the container: its limits and its use, in files of version 1 and 2."""
from cases import expect
from e2e import registry
from e2e.limits import HOG, MIB, run

case = registry.case

RESOURCES = {"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}, "pids": {"limit": 50},
             "cpu": {"quota": 150000, "period": 100000, "shares": 512}}


def mounted(env, root, kind, script, options=("nosuid", "nodev", "noexec", "ro"), resources=RESOURCES):
    """Runs a shell script in a container that mounts its cgroup."""
    def edit(config):
        config["linux"]["resources"] = resources
        config["mounts"] = [m for m in config["mounts"] if not m["type"].startswith("cgroup")]
        if kind:
            config["mounts"].append({"destination": "/sys/fs/cgroup", "type": kind, "source": "cgroup",
                                     "options": list(options)})
    return run(env, env.bundle(["sh", "-c", script], root, edit=edit))


def values(result):
    """Lines "name value..." as a dictionary."""
    expect(result)
    return dict(line.split(" ", 1) for line in result.out.splitlines())


def show(*names):
    """A script that prints the first line of each file behind its name."""
    return "cd /sys/fs/cgroup; for f in %s; do echo $f $(head -n 1 $f); done" % " ".join(names)


@case()
def version_2(env, root):
    v = values(mounted(env, root, "cgroup2", show(
        "memory.max", "memory.low", "memory.swap.max", "memory.high", "pids.max", "pids.current", "cpu.max",
        "cpu.weight", "cgroup.controllers", "cgroup.type", "cgroup.events", "memory.current", "cpu.stat",
        "cpuset.cpus.effective", "/proc/self/cgroup") + "; echo nproc $(nproc)"))
    assert v["memory.max"] == str(64 * MIB) and v["memory.high"] == "max", v
    assert v["memory.low"] == str(32 * MIB) and v["memory.swap.max"] == str(32 * MIB), v
    assert v["pids.max"] == "50" and 2 <= int(v["pids.current"]) <= 4, v
    assert v["cpu.max"] == "150000 100000" and v["cpu.weight"] == "20", v
    assert v["cgroup.controllers"] == "cpuset cpu io memory pids" and v["cgroup.type"] == "domain", v
    assert v["cgroup.events"] == "populated 1" and v["/proc/self/cgroup"] == "0::/", v
    assert 20000 < int(v["memory.current"]) < 16 * MIB, v
    assert int(v["cpu.stat"].split()[1]) > 0, v
    cpus = int(v["nproc"])
    assert v["cpuset.cpus.effective"] == ("0-%d" % (cpus - 1) if cpus > 1 else "0"), v


@case()
def version_2_follows_use(env, root):
    """Memory, tasks, time and kills are those of the container's processes."""
    script = ("cd /sys/fs/cgroup; a=$(cat memory.current); dd if=/dev/zero of=/dev/shm/f bs=1M count=20 2>/dev/null; "
              "b=$(cat memory.current); [ $((b-a)) -gt 20000000 ] && [ $((b-a)) -lt 24000000 ] && echo grew; "
              "[ $(grep ^shmem memory.stat | cut -d' ' -f2) -ge 20971520 ] && echo shmem; "
              "rm /dev/shm/f; [ $(cat memory.current) -lt $((a+2000000)) ] && echo shrank; "
              "[ $(cat memory.peak) -ge $b ] && echo peak; "
              "sleep 10 & p=$!; grep -q \"^$p$\" cgroup.procs && grep -q ^1$ cgroup.procs && echo procs; kill $p; "
              + HOG + "; grep -E '^(max|oom|oom_kill) ' memory.events | tr '\\n' ' '")
    result = mounted(env, root, "cgroup2", script)
    lines = result.out.splitlines()
    assert lines[:5] == ["grew", "shmem", "shrank", "peak", "procs"], result
    words = lines[5].split()
    assert words[0] == "max" and int(words[1]) > 0 and words[2:] == ["oom", "1", "oom_kill", "1"], result


@case()
def version_1(env, root):
    v = values(mounted(env, root, "cgroup", show(
        "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.soft_limit_in_bytes",
        "memory/memory.memsw.limit_in_bytes", "memory/memory.failcnt", "pids/pids.max", "cpu/cpu.cfs_quota_us",
        "cpu,cpuacct/cpu.cfs_period_us", "cpu/cpu.shares", "cpuacct/cpuacct.usage", "cpuset/cpuset.cpus",
        "memory/memory.oom_control")))
    assert v["memory/memory.limit_in_bytes"] == str(64 * MIB), v
    assert v["memory/memory.soft_limit_in_bytes"] == str(32 * MIB), v
    assert v["memory/memory.memsw.limit_in_bytes"] == str(96 * MIB), v
    assert 20000 < int(v["memory/memory.usage_in_bytes"]) < 16 * MIB and v["memory/memory.failcnt"] == "0", v
    assert v["pids/pids.max"] == "50" and v["cpu/cpu.shares"] == "512", v
    assert v["cpu/cpu.cfs_quota_us"] == "150000" and v["cpu,cpuacct/cpu.cfs_period_us"] == "100000", v
    assert int(v["cpuacct/cpuacct.usage"]) > 0 and v["cpuset/cpuset.cpus"][0] == "0", v
    assert v["memory/memory.oom_control"] == "oom_kill_disable 0", v


@case()
def version_1_is_found_by_its_mounts(env, root):
    """As runtimes of languages look: controller to hierarchy in /proc/self/cgroup, to mount in mountinfo."""
    result = mounted(env, root, "cgroup", "cat /proc/self/cgroup; echo --; grep ' - cgroup ' /proc/self/mountinfo; "
                                          "echo --; cat /proc/cgroups")
    groups, mounts, controllers = (part.splitlines() for part in result.out.split("--\n"))
    paths = {name: path for _, names, path in (line.split(":") for line in groups) for name in names.split(",")}
    places = {}
    for line in mounts:
        fields = line.split()
        assert fields[3] == "/", line
        for option in fields[-1].split(","):
            places[option] = fields[4]
    for name in ("memory", "cpu", "cpuacct", "pids", "cpuset", "devices", "freezer", "blkio"):
        assert paths[name] == "/" and name in places[name], (name, groups, mounts)
    rows = {line.split()[0]: line.split()[1:] for line in controllers[1:]}
    assert int(rows["memory"][0]) > 0 and rows["cpu"][0] == rows["cpuacct"][0], controllers


@case()
def no_limits(env, root):
    v = values(mounted(env, root, "cgroup2", show("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight"),
                       resources={}))
    assert v == {"memory.max": "max", "memory.swap.max": "max", "pids.max": "max", "cpu.max": "max 100000",
                 "cpu.weight": "100"}, v
    v = values(mounted(env, root, "cgroup", show("memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "pids/pids.max"),
                       resources={}))
    assert v == {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1",
                 "pids/pids.max": "max"}, v


@case()
def limits_cannot_be_changed_inside(env, root):
    """Read-only: EROFS. Writable: no groups below, limits refuse, and a process can be moved to where it is."""
    script = ("cd /sys/fs/cgroup; mkdir x; echo max >memory.max; echo max >pids.max; echo 1 >cgroup.procs; "
              "echo 4000 >cgroup.procs; cat memory.max pids.max")
    result = mounted(env, root, "cgroup2", script)
    assert result.out == "%d\n50\n" % (64 * MIB) and result.err.count("Read-only file system") == 5, result
    result = mounted(env, root, "cgroup2", script, options=("rw",))
    assert result.out == "%d\n50\n" % (64 * MIB), result
    errors = [line.rsplit(": ", 1)[1] for line in result.err.splitlines()]
    assert errors == ["Operation not permitted"] * 3 + ["No such process"], result


@case()
def mounted_by_the_guest(env, root):
    """mount(2) of either version shows the caller's group."""
    script = ("mkdir /tmp/m && mount -t cgroup2 none /tmp/m && cat /tmp/m/pids.max && umount /tmp/m && "
              "mount -t cgroup -o pids none /tmp/m && cat /tmp/m/pids.max && umount /tmp/m; "
              "mount -t cgroup -o nonsense none /tmp/m; mount -t cgroup -o pids,memory none /tmp/m")
    result = mounted(env, root, None, script)
    assert result.out == "50\n50\n" and result.err.count("Invalid argument") == 2, result
