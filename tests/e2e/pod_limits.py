"""Limits of containers that share a sandbox: each has its own, and one that is at its limit is no matter of the others."""
import time

from cases import expect, until
from e2e import registry
from e2e.limits import HOG, MIB, event, update
from e2e.pods import member, pod

case = registry.case

FOREVER = "while :; do sleep 1; done"


def limits(**resources):
    def edit(config):
        config["linux"]["resources"] = resources
        config["mounts"] = [m for m in config["mounts"] if not m["type"].startswith("cgroup")]
        config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup",
                                 "options": ["ro"]})
    return edit


def remove(env, *ids):
    for cid in ids:
        expect(env.runsc("delete", "--force", cid))


@case()
def memory(env, root):
    """An out-of-memory kill ends the container whose limit it was, with 137; others have memory of their own."""
    box, pid = pod(env, root, FOREVER)
    small, _ = member(env, root, FOREVER, box, pid, edit=limits(memory={"limit": 64 * MIB}))
    large, _ = member(env, root, FOREVER, box, pid, edit=limits(memory={"limit": 400 * MIB}))
    dies, _ = member(env, root, "exec " + HOG, box, pid, edit=limits(memory={"limit": 48 * MIB}))
    assert '"exitStatus":137' in expect(env.runsc("wait", dies)).out.replace(" ", "")
    expect(env.runsc("exec", small, "sh", "-c", HOG + "; echo $?; cat /sys/fs/cgroup/memory.max"), 0,
           "137\n%d\n" % (64 * MIB))
    expect(env.runsc("exec", large, "sh", "-c", HOG + "; echo $?; cat /sys/fs/cgroup/memory.max"), 0,
           "0\n%d\n" % (400 * MIB))
    assert [event(env, c)["oom_kills"] for c in (box, small, large, dies)] == [0, 1, 0, 1]
    # What one holds is not the other's.
    hold = "dd if=/dev/zero of=/dev/shm/f bs=1M count=100 2>/dev/null; grep -c MemTotal /proc/meminfo"
    expect(env.runsc("exec", large, "sh", "-c", hold), 0, "1\n")
    assert event(env, large)["memory"] > 100 * MIB and event(env, small)["memory"] < 16 * MIB
    total = env.runsc("exec", small, "sh", "-c", "grep MemTotal /proc/meminfo").out.split()
    assert total[1] == str(64 * 1024), total
    remove(env, small, large, dies, box)


@case()
def tasks_in_one_pid_namespace(env, root):
    """Containers that share the pod's pid namespace have each their own limit of tasks."""
    box, pid = pod(env, root, FOREVER)
    few, _ = member(env, root, FOREVER, box, pid, shared=("network", "ipc", "uts", "pid"), edit=limits(pids={"limit": 4}))
    more, _ = member(env, root, FOREVER, box, pid, shared=("network", "ipc", "uts", "pid"), edit=limits(pids={"limit": 30}))
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done; wait; echo nine"
    assert "nine" not in env.runsc("exec", few, "sh", "-c", script).out
    expect(env.runsc("exec", more, "sh", "-c", script), 0, "nine\n")
    assert event(env, few)["pids_failcnt"] > 0 and event(env, more)["pids_failcnt"] == 0
    assert (event(env, few)["pids_limit"], event(env, more)["pids_limit"]) == (4, 30)
    groups = expect(env.runsc("exec", more, "sh", "-c", "cat /proc/self/cgroup /proc/1/cgroup")).out
    assert groups == "0::/\n0::/..\n", groups
    remove(env, few, more, box)


BURN = "i=0; while [ $i -lt 10000000 ]; do i=$((i+1)); done"


@case()
def cpu(env, root):
    """A container's quota holds while others of the pod run freely; update changes it; an idle one is not throttled."""
    box, pid = pod(env, root, FOREVER)
    quota, _ = member(env, root, BURN, box, pid, edit=limits(cpu={"quota": 20000, "period": 100000}))
    free, _ = member(env, root, BURN, box, pid, edit=limits())
    idle, _ = member(env, root, FOREVER, box, pid, edit=limits(cpu={"quota": 20000, "period": 100000}))

    def used(seconds):
        start, before = time.monotonic(), [event(env, c)["cpu"] for c in (quota, free, idle)]
        time.sleep(seconds)
        after = [event(env, c)["cpu"] for c in (quota, free, idle)]
        return [(b - a) / 1e9 / (time.monotonic() - start) for a, b in zip(before, after)]
    limited, unlimited, at_rest = used(2)
    assert 0.12 < limited < 0.28, limited
    # how much that is depends on the host; the throttled one leaves it the rest
    assert unlimited > 0.3 and at_rest < 0.1, (unlimited, at_rest)
    assert update(env, quota, quota=60000) == (0, "", {})
    until(lambda: event(env, quota)["cpu"] > 0)
    limited = used(2)[0]
    assert 0.25 < limited < 0.75, limited
    assert update(env, quota, quota=-1) == (0, "", {})
    remove(env, quota, free, idle, box)


@case()
def cpu_of_many_processes(env, root):
    """Many that begin at once use more than the quota; they are held up for that, but not for long."""
    box, pid = pod(env, root, FOREVER)
    many, _ = member(env, root, "for i in $(seq 600); do sleep 100 & done; while :; do :; done", box, pid,
                     edit=limits(cpu={"quota": 20000, "period": 100000}))
    used, since, longest = 0, time.monotonic(), 0
    for _ in range(48):
        time.sleep(0.25)
        now, cpu_ns = time.monotonic(), event(env, many)["cpu"]
        longest = max(longest, now - since)
        if cpu_ns > used:
            used, since = cpu_ns, now
    assert longest < 4, "nothing ran for %.1f s" % longest
    remove(env, many, box)


@case()
def processors_shown(env, root):
    """A container with a number of processors of its own, by quota or by Update, is shown that; the others see all."""
    box, pid = pod(env, root, FOREVER)
    n = int(expect(env.runsc("exec", box, "nproc")).out)
    few, _ = member(env, root, FOREVER, box, pid, edit=limits(cpu={"quota": 150000, "period": 100000}))

    def shown(cid, count):
        script = ("nproc; grep -c ^processor /proc/cpuinfo; grep -c ^cpu[0-9] /proc/stat; "
                  "cat /sys/devices/system/cpu/online; grep ^Cpus_allowed_list /proc/self/status | cut -f2")
        online = "0-%d\n" % (count - 1) if count > 1 else "0\n"
        expect(env.runsc("exec", cid, "sh", "-c", script), 0, 3 * ("%d\n" % count) + 2 * online)
    shown(few, min(n, 2))  # a quota is never less than two
    assert update(env, few, cpus=1) == (0, "", {})
    shown(few, 1)
    shown(box, n)
    expect(env.runsc("exec", few, "cat", "/sys/fs/cgroup/cpuset.cpus.effective"), 0, "0\n")
    remove(env, few, box)
