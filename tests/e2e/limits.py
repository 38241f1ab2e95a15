"""Limits that the sentry itself enforces: memory, tasks; what the guest sees of them; urpc Update and WaitOom."""
import os
import socket
import struct
import threading

from cases import expect, until
from e2e import registry
from e2e.lifecycle import detached

case = registry.case

EVENT, UPDATE, WAIT_OOM = 10, 16, 17
MIB = 1 << 20


def limited(env, root, script, **resources):
    """Bundle of a shell script under linux.resources."""
    def edit(config):
        config["linux"]["resources"] = resources
    return env.bundle(["sh", "-c", script], root, edit=edit)


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(tag, value):
    """One protobuf field: a number, or bytes."""
    if isinstance(value, int):
        return varint(tag << 3) + varint(value & (1 << 64) - 1)
    return varint(tag << 3 | 2) + varint(len(value)) + value


def fields(data):
    """A packed message as {tag: value}; numbers and bytes."""
    out, i = {}, 0

    def number():
        nonlocal i
        value = shift = 0
        while True:
            value |= (data[i] & 127) << shift
            shift += 7
            i += 1
            if data[i - 1] < 128:
                return value
    while i < len(data):
        key = number()
        if key & 7 == 0:
            out[key >> 3] = number()
        else:
            size = number()
            out[key >> 3] = data[i:i + size]
            i += size
    return out


def receive(s, size):
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        assert more, "the sentry hung up"
        data += more
    return data


def call(env, cid, method, message, timeout=10):
    """A call of the sandbox's control socket: (errno, sentence, result fields)."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        directory = os.open(os.path.join(env.state, cid), os.O_PATH)
        try:
            s.connect("/proc/self/fd/%d/control.sock" % directory)
        finally:
            os.close(directory)
        s.sendall(struct.pack("<IHHI", len(message), method, 0, 1) + message)
        size, _, _, _ = struct.unpack("<IHHI", receive(s, 12))
        reply = fields(receive(s, size))
    return reply.get(1, 0), reply.get(2, b"").decode(), fields(reply.get(3, b""))


def update(env, cid, **resources):
    tags = {"memory": 1, "pids": 2, "quota": 3, "period": 4, "cpus": 6}
    packed = b"".join(field(tags[name], value) for name, value in resources.items())
    return call(env, cid, UPDATE, field(1, cid.encode()) + field(2, packed))


def event(env, cid):
    names = {1: "cpu", 4: "memory", 6: "memory_limit", 8: "pids", 9: "pids_limit", 10: "oom_kills", 12: "pids_failcnt"}
    err, _, values = call(env, cid, EVENT, field(1, cid.encode()))
    assert err == 0, err
    return {name: values.get(tag, 0) for tag, name in names.items()}


def run(env, bundle):
    """Without cgroups of the host: what holds is the sentry's."""
    return env.runsc("--ignore-cgroups", "run", "--bundle", bundle, env.new_id())


def create(env, bundle):
    cid = env.new_id()
    expect(detached(env, "--ignore-cgroups", "create", "--bundle", bundle, cid))
    return cid


HOG = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null"
MEMORY = {"limit": 64 * MIB}


@case()
def memory_of_a_child(env, root):
    """A program that needs more than the limit is killed; its siblings and init are not."""
    script = "sleep 300 & %s; echo $?; kill -0 $! && echo sibling lives; exit 7" % HOG
    expect(run(env, limited(env, root, script, memory=MEMORY)), 7, "137\nsibling lives\n")


@case()
def memory_before_the_host(env, root):
    """With the host's cgroup too: its limit is above the guest's, so that it is not the sentry that goes."""
    script = "%s; echo $?; %s; echo $?; dd if=/dev/zero of=/dev/shm/f bs=1M count=30 2>/dev/null; echo $?" % (HOG, HOG)
    bundle = limited(env, root, script, memory={"limit": 40 * MIB})
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "137\n137\n0\n")


@case()
def memory_of_init(env, root):
    expect(run(env, limited(env, root, "exec " + HOG, memory=MEMORY)), 137, "")


@case()
def memory_within_the_limit(env, root):
    """What fits is not killed, though more was mapped than touched; memory given back can be used again."""
    script = ("for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/dev/null bs=50M count=2 2>/dev/null || exit 1; done; "
              "dd if=/dev/zero of=/dev/shm/f bs=1M count=40 2>/dev/null && rm /dev/shm/f && "
              "dd if=/dev/zero of=/dev/null bs=50M count=1 2>/dev/null; echo $?")
    expect(run(env, limited(env, root, script, memory=MEMORY)), 0, "0\n")


@case()
def memory_of_tmpfs(env, root):
    """Files of a tmpfs count, and stay when their writer was killed for them."""
    script = ("sh -c 'echo 900 >/proc/self/oom_score_adj; "
              "exec dd if=/dev/zero of=/dev/shm/f bs=1M count=200' 2>/dev/null; echo $?; "
              "s=$(stat -c %s /dev/shm/f); [ $s -gt 40000000 ] && [ $s -lt 70000000 ] && echo full")
    expect(run(env, limited(env, root, script, memory=MEMORY)), 0, "137\nfull\n")


@case()
def memory_spares_the_exempt(env, root):
    """oom_score_adj -1000: a small process goes, not the big one."""
    script = ("(echo -1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=40M count=100000 "
              "2>/dev/null) & sleep 0.3; dd if=/dev/zero of=/dev/null bs=40M count=1 2>/dev/null; echo $?; "
              "kill -0 $! && echo exempt lives; kill -9 $!")
    expect(run(env, limited(env, root, script, memory=MEMORY)), 0, "137\nexempt lives\n")


def waiting(env, cid, seen):
    """A thread that waits for an out-of-memory kill, and the list that its answer goes to."""
    answers = []
    message = field(1, cid.encode()) + field(2, seen)
    thread = threading.Thread(target=lambda: answers.append(call(env, cid, WAIT_OOM, message, timeout=20)))
    thread.start()
    return thread, answers


@case()
def memory_events(env, root):
    """The kill is counted, told to who waits, and gives the limit as its reason."""
    cid = create(env, limited(env, root, "sleep 0.5; %s; sleep 100" % HOG, memory=MEMORY))
    thread, answers = waiting(env, cid, 0)
    expect(env.runsc("start", cid))
    thread.join(20)
    assert answers == [(0, "", {1: 1})], answers
    assert "raise linux.resources.memory.limit" in env.runsc("debug", "--stacks", cid).out
    until(lambda: event(env, cid)["memory"] < 16 * MIB)
    now = event(env, cid)
    assert now["memory_limit"] == 64 * MIB and now["oom_kills"] == 1, now
    thread, answers = waiting(env, cid, 1) # the next one
    expect(env.runsc("exec", cid, "sh", "-c", HOG + "; echo $?"), 0, "137\n")
    thread.join(20)
    assert answers == [(0, "", {1: 2})], answers
    expect(env.runsc("delete", "--force", cid))


@case()
def memory_under_pressure(env, root):
    """Many processes that want more than there is, of memory and of a tmpfs: init lives, others come and go, nothing is left."""
    loop = ("(echo 0 >/proc/self/oom_score_adj; while [ -e /tmp/go ]; do dd if=/dev/zero of=%s bs=%dM count=2 2>/dev/null; "
            "cat /dev/shm/* >/dev/null 2>&1; rm -f /dev/shm/%s; done) & ")
    script = ("echo -1000 >/proc/self/oom_score_adj; touch /tmp/go; "
              + "".join(loop % ("/dev/shm/" + to if to else "/dev/null", size, to) for to, size in
                        (("", 30), ("", 45), ("a", 12), ("b", 25), ("", 9), ("c", 3)))
              + "sleep 4; rm /tmp/go; wait; rm -f /dev/shm/*; echo over; exec sleep 100")
    cid = create(env, limited(env, root, script, memory=MEMORY))
    expect(env.runsc("start", cid))
    until(lambda: "over" in open(env.dir + "/out").read(), seconds=40, what="end of the loops")
    now = event(env, cid)
    assert now["oom_kills"] > 0, now
    until(lambda: event(env, cid)["memory"] < 4 * MIB, seconds=10)
    expect(env.runsc("exec", cid, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=50M count=1 2>/dev/null; echo $?"),
           0, "0\n")
    expect(env.runsc("delete", "--force", cid))


@case()
def memory_shown_inside(env, root):
    script = "grep MemTotal /proc/meminfo; free -k | grep Mem: | tr -s ' ' | cut -d' ' -f2"
    expect(run(env, limited(env, root, script, memory={"limit": 96 * MIB})), 0,
           has="MemTotal:          98304 kB\n98304\n")


@case()
def pids_exact(env, root):
    """The shell and nine more are ten tasks; the eleventh fails."""
    script = "i=1; while [ $i -lt %d ]; do sleep 100 & i=$((i+1)); done; echo started; /bin/true; echo $?"
    expect(run(env, limited(env, root, script % 9, pids={"limit": 10})), 0, "started\n0\n")
    result = run(env, limited(env, root, script % 10, pids={"limit": 10}))
    assert result.out == "started\n" and result.status == 2 and "fork" in result.err, result


@case()
def update_of_limits(env, root):
    """Update changes what it names and leaves the rest; nonsense changes nothing."""
    cid = create(env, limited(env, root, "exec sleep 100", pids={"limit": 2}, memory=MEMORY))
    expect(env.runsc("start", cid))
    until(lambda: event(env, cid)["pids"] == 1)
    script = "/bin/true; echo $?"
    assert env.runsc("exec", cid, "sh", "-c", script).out == ""
    now = event(env, cid)
    assert now["pids_limit"] == 2 and now["pids"] == 1 and now["pids_failcnt"] == 1, now
    assert update(env, cid, pids=3) == (0, "", {})
    expect(env.runsc("exec", cid, "sh", "-c", script), 0, "0\n")
    assert event(env, cid)["memory_limit"] == 64 * MIB
    err, sentence, _ = update(env, cid, pids=99, quota=5)
    assert err == 22 and "quota" in sentence, (err, sentence)
    assert event(env, cid)["pids_limit"] == 3
    expect(env.runsc("exec", cid, "sh", "-c", HOG), 137)
    assert update(env, cid, pids=-1, memory=-1) == (0, "", {})
    now = event(env, cid)
    assert now["pids_limit"] == 0 and now["memory_limit"] == 0 and now["oom_kills"] == 1, now
    expect(env.runsc("exec", cid, "sh", "-c", HOG + "; echo $?"), 0, "0\n")
    # Lower than what was handed out, not than what is used: what was not touched is taken back.
    expect(env.runsc("exec", cid, "sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=9 2>/dev/null"))
    assert update(env, cid, memory=12 * MIB) == (0, "", {})
    expect(env.runsc("exec", cid, "sh", "-c", "rm /dev/shm/f; " + HOG + "; echo $?; cat /proc/meminfo | head -n 1"), 0,
           has="137\nMemTotal:          12288 kB\n")
    assert event(env, cid)["oom_kills"] == 2
    expect(env.runsc("kill", cid, "KILL"))
    until(lambda: '"stopped"' in env.runsc("state", cid).out)
    expect(env.runsc("delete", cid))
