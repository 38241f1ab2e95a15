"""--systemd-cgroup against a private bus on which fake_systemd stands for systemd."""
import contextlib
import json
import os
import shutil
import subprocess

from cases import Skip, expect, expect_refused, until
from e2e import registry
from e2e.cgroups import MIB, directories, host_memory, need_cgroups, own_name, value, with_resources

case = registry.case
BUS = """<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
<allow send_type="signal"/></policy></busconfig>
"""
# sd_booted(3) looks for a directory; this is a mount namespace in which there is one.
BOOTED = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec \"$@\"", "sh"]


class Systemd:
    def __init__(self, env, address, log):
        self.env, self.log = env, log
        self.variables = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}

    def runsc(self, *args, stdin=""):
        """A command with --systemd-cgroup; its output goes to a file, for what it leaves may hold it open."""
        with open(self.env.dir + "/out", "w+") as out:
            process = subprocess.run([*BOOTED, *self.env.runsc_argv(*args, flags=["--systemd-cgroup"])], input=stdin,
                                     text=True, stdout=out, stderr=out, timeout=60, env=self.variables, check=False)
            out.seek(0)
            text = out.read()
        import sandbox
        return sandbox.Result(process.returncode, text, text)

    def calls(self):
        with open(self.log) as f:
            return f.read()


@contextlib.contextmanager
def systemd(env, result="done"):
    need_cgroups()
    if not shutil.which("dbus-daemon"):
        raise Skip("no dbus-daemon")
    if os.geteuid():
        raise Skip("needs root")
    own = directories(os.getpid())
    top = [word for name, word in own.items() if name in ("name=systemd", "")]
    if not top:
        raise Skip("no hierarchy that systemd would use")
    # The mount point: the path of this process is below it.
    top = next(line.split()[4] for line in open("/proc/self/mountinfo") if (top[0] + "/").startswith(
        line.split()[4].rstrip("/") + "/") and " - cgroup" in line)
    socket, config, log = (env.dir + name for name in ("/bus", "/bus.conf", "/systemd.log"))
    with open(config, "w") as f:
        f.write(BUS % socket)
    address = "unix:path=" + socket
    daemon = subprocess.Popen(["dbus-daemon", "--config-file", config, "--nofork", "--nopidfile"], stderr=subprocess.DEVNULL)
    fake = None
    try:
        until(lambda: os.path.exists(socket), 10, "a bus")
        fake = subprocess.Popen([env.out + "/tests/e2e/fake_systemd", log, top, result],
                                env={"DBUS_SYSTEM_BUS_ADDRESS": address})
        until(lambda: os.path.exists(log) and "ready" in open(log).read(), 10, "the service")
        yield Systemd(env, address, log)
    finally:
        for process in (fake, daemon):
            if process:
                process.kill()
                process.wait()


def has_property(calls, name, *words):
    """Whether a dump has the string NAME followed soon by all words."""
    at = calls.find('STRING "%s";' % name)
    return at >= 0 and all(word in calls[at:at + 400] for word in words)


def descendants(pids):
    found = list(pids)
    for pid in found:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                found += map(int, f.read().split())
    return found


@case()
def scope_from_start_to_end(env, root):
    with systemd(env) as s:
        slice_name = "rt%s.slice" % os.path.basename(env.dir).replace("-", "")
        name = own_name(env)
        resources = {"memory": {"limit": 128 * MIB}, "pids": {"limit": 10}, "cpu": {"quota": 50000, "period": 100000}}

        def edit(config):
            with_resources("%s:pre:%s" % (slice_name, name), resources)(config)
            config["annotations"] = {"org.systemd.property.TimeoutStopSec": "3",
                                     "org.systemd.property.After": "['x.service']"}
        bundle = env.bundle("sleep 100", root, edit=edit)
        cid = env.new_id()
        expect(s.runsc("create", "--bundle", bundle, "--pid-file", env.dir + "/pid", cid))
        with open(env.dir + "/pid") as f:
            pid = int(f.read())
        dirs = directories(pid)
        for path in dirs.values():
            assert path.endswith("/%s/pre-%s.scope" % (slice_name, name)), path
        # Every process of the sandbox, also what was born before systemd had moved its parent.
        with open("%s/%s/state.json" % (env.state, cid)) as f:
            state = json.load(f)
        family = descendants([state["sentry"]["pid"], state["gofer"]["pid"]])
        assert len(family) > 2, family
        for process in family:
            assert directories(process) == dirs, (process, directories(process))
        assert value(dirs, "memory", "memory.limit_in_bytes", "memory.max") == str(host_memory(128 * MIB))
        assert value(dirs, "pids", "pids.max", "pids.max") == "94"
        calls = s.calls()
        assert "StartTransientUnit" in calls and 'STRING "pre-%s.scope"' % name in calls, calls
        assert has_property(calls, "Slice", 'STRING "%s"' % slice_name), calls
        assert has_property(calls, "Delegate", "BOOLEAN true"), calls
        assert has_property(calls, "TasksMax", "UINT64 94"), calls
        assert has_property(calls, "CPUQuotaPerSecUSec", "UINT64 500000"), calls
        limit = "UINT64 %d" % host_memory(128 * MIB)
        assert has_property(calls, "MemoryLimit", limit) or has_property(calls, "MemoryMax", limit), calls
        assert has_property(calls, "PIDs", "UINT32 %d" % pid), calls
        assert has_property(calls, "TimeoutStopUSec", "UINT64 3000000"), calls
        assert has_property(calls, "After", 'STRING "x.service"'), calls
        expect(s.runsc("update", "--pids-limit", "20", cid))
        assert value(dirs, "pids", "pids.max", "pids.max") == "124"
        calls = s.calls()
        assert "SetUnitProperties" in calls and "UINT64 124" in calls, calls
        expect(s.runsc("delete", "--force", cid))
        assert "StopUnit" in s.calls()
        assert not [path for path in dirs.values() if os.path.exists(path)], dirs
        assert not [path for path in dirs.values() if os.path.exists(os.path.dirname(path))], dirs


@case()
def failed_job_is_told(env, root):
    with systemd(env, "dependency") as s:
        bundle = env.bundle("sleep 100", root, edit=with_resources(":pre:" + own_name(env), {}))
        expect_refused(s.runsc("create", "--bundle", bundle, env.new_id()), 'systemd says "dependency"')


@case()
def no_systemd(env, root):
    if os.path.exists("/run/systemd/system"):
        raise Skip("systemd runs here")
    bundle = env.bundle("sleep 100", root, edit=with_resources("a.slice:b:c", {}))
    expect_refused(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--systemd-cgroup"]),
                   "systemd does not run here")
    no_bus = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    result = subprocess.run([*BOOTED, *env.runsc_argv("run", "--bundle", bundle, env.new_id(),
                                                      flags=["--systemd-cgroup"])],
                            capture_output=True, text=True, timeout=60, env=no_bus, check=False)
    assert result.returncode == 1 and "bus of D-Bus is not there" in result.stderr, result


@case()
def malformed_path(env, root):
    for path in ("/plain", "a.slice:b", "slice:b:c"):
        bundle = env.bundle("sleep 100", root, edit=with_resources(path, {}))
        result = subprocess.run([*BOOTED, *env.runsc_argv("run", "--bundle", bundle, env.new_id(),
                                                          flags=["--systemd-cgroup"])],
                                capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1, result
        assert "slice:prefix:name" in result.stderr or "invalid slice name" in result.stderr, result
