"""
Steps that podman and docker share: their command lines are nearly one. `bb` is a busybox image, `deb` a Debian one.
Where the two differ, the engine has an attribute. Written from podman(1), docker(1) and signal(7), checked with runc.
"""
import json
import os
import socket
import subprocess
import time

from lib import DIR, SANDBOX_ROOM, HostServer, Steps, expect, fetch, memory_limits, until

SLEEP = "bb sleep 1000"
# Ends by itself when it gets TERM, else never.
TRAPS = ["bb", "sh", "-c", "trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.1; done"]
# The engine may tell the size of the terminal late.
SIZE = "until stty size 2>/dev/null | grep -q '^30 100$'; do sleep 0.1; done"

steps = Steps()
step = steps.step


def running(e, c):
    return e("inspect -f {{.State.Running}} " + c).out.strip() == "true"


def state(e, c, field):
    return e("inspect -f {{.State.%s}} %s" % (field, c)).out.strip()


# Life --------------------------------------------------------------------------------------------

@step
def run_status(e):
    e("run --rm bb true")
    e("run --rm bb sh -c 'exit 3'", status=3)


@step
def run_status_125(e):
    e("run --rm --no-such-option bb true", status=125)


@step
def run_status_126(e):
    e("run --rm bb /etc/passwd", status=126, err_has="ermission denied")


@step
def run_status_127(e):
    e("run --rm bb no-such-program", status=127, err_has="no-such-program")


@step
def run_streams(e):
    e("run --rm -i bb sh -c 'cat; echo err >&2'", stdin="from outside\n", out="from outside\n", err="err\n")


@step
def run_stdout_file(e):
    """What a regular file had before stays."""
    path = e.file("before\n")
    with open(path, "a") as f:
        process = subprocess.run(e.argv(e.words("run --rm bb echo after")), stdout=f, stdin=subprocess.DEVNULL, timeout=30)
    with open(path) as f:
        assert (process.returncode, f.read()) == (0, "before\nafter\n")


@step
def run_terminal(e):
    with e.terminal("run --rm -it bb sh") as term:
        term.say("tty; %s; echo 'ready'now\n" % SIZE)
        term.until("/dev/pts/0")
        term.until("readynow")
        term.say("exit 5\n")
        assert term.end() == 5


@step
def terminal_interrupt(e):
    with e.terminal("run --rm -it bb sh") as term:
        term.say("echo 'sta'rt; sleep 1000\n")
        term.until("start")
        time.sleep(0.3)
        term.say("\x03")
        term.say("echo after=$?\n")
        term.until("after=130")
        term.say("exit\n")
        term.end()


@step
def detached_logs(e):
    with e.container(["bb", "sh", "-c", "echo out; echo err >&2; sleep 1000"]) as c:
        until(lambda: e("logs " + c).out == "out\n", 10, "the log")
        assert e("logs " + c).err == "err\n"
        assert running(e, c)


@step
def wait_status(e):
    with e.container("bb sh -c 'sleep 0.5; exit 9'") as c:
        e("wait " + c, out="9\n")
        assert state(e, c, "ExitCode") == "9"


@step
def create_start_attach(e):
    with e.container("bb sh -c 'echo hello; exit 4'", runs=False) as c:
        e("start -a " + c, status=4, out="hello\n")


@step
def attach(e):
    with e.container(["bb", "sh", "-c", "sleep 1; echo seen; exit 6"]) as c:
        e("attach " + c, status=None, has="seen\n")
        e("wait " + c, out="6\n")


@step
def stop_handled(e):
    with e.container(TRAPS) as c:
        until(lambda: "ready" in e("logs " + c).out, 10)
        e("stop -t 10 " + c)
        assert state(e, c, "ExitCode") == "7", state(e, c, "ExitCode")
        assert "got TERM" in e("logs " + c).out


@step
def stop_unhandled(e):
    with e.container(["bb", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]) as c:
        e("stop -t 1 " + c)
        assert state(e, c, "ExitCode") == "137", state(e, c, "ExitCode")


@step
def kill_signal(e):
    with e.container(["bb", "sh", "-c", "trap 'exit 12' USR1; echo ready; while :; do sleep 0.1; done"]) as c:
        until(lambda: "ready" in e("logs " + c).out, 10)
        e("kill -s USR1 " + c)
        e("wait " + c, out="12\n")


@step
def kill_9(e):
    with e.container(SLEEP) as c:
        e("kill " + c)
        e("wait " + c, out="137\n")


@step
def pause_unpause(e):
    with e.container(["bb", "sh", "-c", "while :; do echo x; sleep 0.05; done"]) as c:
        e("pause " + c)
        first = e("logs " + c).out
        time.sleep(0.5)
        assert e("logs " + c).out == first, "it ran on while paused"
        assert state(e, c, "Status") == "paused"
        e("unpause " + c)
        until(lambda: len(e("logs " + c).out) > len(first), 5, "output after unpause")


@step
def restart(e):
    with e.container(["bb", "sh", "-c", "echo begun; sleep 1000"]) as c:
        e("restart -t 0 " + c)
        until(lambda: e("logs " + c).out == "begun\n" * 2, 10)
        assert running(e, c)


@step
def restart_on_failure(e):
    with e.container("--restart=on-failure:2 bb sh -c 'echo begun; exit 1'") as c:
        until(lambda: e("logs " + c).out == "begun\n" * 3 and not running(e, c), 15, "three starts")


@step
def stop_start(e):
    """What was written stays."""
    with e.container(["bb", "sh", "-c", "cat /kept 2>/dev/null; echo one > /kept; sleep 1000"]) as c:
        time.sleep(0.5)
        e("stop -t 0 " + c)
        e("start " + c)
        until(lambda: e("logs " + c).out == "one\n", 10)


@step
def remove_running(e):
    with e.container(SLEEP) as c:
        e("rm " + c, status=None)
        assert running(e, c)
        e(e.remove_command(c))
        assert e("inspect -f {{.State.Pid}} " + c, status=None).status != 0


@step
def state_pid(e):
    """The host pid that the engine was told belongs to the container."""
    with e.container("--hostname inside " + SLEEP) as c:
        pid = int(state(e, c, "Pid"))
        assert os.path.exists("/proc/%d" % pid)
        for name in ("pid", "net", "mnt", "ipc", "uts"):
            assert os.readlink("/proc/%d/ns/%s" % (pid, name)) != os.readlink("/proc/self/ns/" + name), name
        assert os.path.exists("/proc/%d/root/bin/busybox" % pid)


@step
def nsenter_network(e):
    """Administrators look into a container's network by its pid."""
    with e.container(SLEEP) as c:
        inside = e("exec %s ip -4 addr show eth0" % c).out.split("inet ")[1].split("/")[0]
        outside = subprocess.run(["nsenter", "-t", state(e, c, "Pid"), "-n", "ip", "-4", "addr"],
                                 capture_output=True, text=True, timeout=10).stdout
        assert inside in outside, outside


# Into a running container ------------------------------------------------------------------------

@step
def exec_status(e):
    with e.container(SLEEP) as c:
        e("exec %s sh -c 'echo in; exit 5'" % c, status=5, out="in\n")
        e("exec %s sh -c 'kill -9 $$'" % c, status=137)
        e("exec %s no-such-program" % c, status=e.exec_not_found)
        e("exec %s /etc/passwd" % c, status=126)


@step
def exec_options(e):
    with e.container(SLEEP) as c:
        e(["exec", "-e", "A=b c", "-w", "/tmp", "-u", "user", c, "sh", "-c", "echo $A; pwd; id -un"], out="b c\n/tmp\nuser\n")
        e("exec -i %s cat" % c, stdin="typed", out="typed")
        e("exec -d %s sh -c 'echo done > /flag'" % c)
        until(lambda: e("exec %s cat /flag" % c, status=None).out == "done\n", 10)


@step
def exec_privileged(e):
    with e.container(SLEEP) as c:
        e("exec --privileged %s sh -c 'grep CapEff /proc/self/status'" % c, has="ffff")


@step
def exec_terminal(e):
    with e.container(SLEEP) as c:
        with e.terminal("exec -it %s sh" % c) as term:
            term.say("tty; %s; echo 'ready'now\n" % SIZE)
            term.until("/dev/pts/")
            term.until("readynow")
            term.say("exit 5\n")
            assert term.end() == 5


@step
def top(e):
    with e.container(["bb", "sh", "-c", "sleep 1234 & sleep 1235; true"]) as c:
        def seen():
            return e("top " + c).out
        until(lambda: "sleep 1234" in seen() and "sleep 1235" in seen(), 5, "both programs in: " + seen())
        lines = seen().strip().splitlines()
        assert len(lines) == 4 or e.top_shows_all, lines


@step
def stats(e):
    with e.container("--memory 200m bb sh -c 'while :; do :; done'") as c:
        def busy():
            words = e(["stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", c]).out.split()
            return words and float(words[0].rstrip("%")) > 5 and words
        words = until(busy, 15, "processor time in stats")
        assert "B" in words[1] and words[1] not in ("0B", "--"), words
        assert int(words[-1]) >= 1, words


@step
def update(e):
    with e.container("--memory 100m --memory-swap 100m " + SLEEP) as c:
        e("update --memory 150m --memory-swap 150m --cpu-shares 512 " + c)
        groups = memory_limits(e("inspect -f {{.Id}} " + c).out.strip())
        assert any(150 <= limit <= 150 + SANDBOX_ROOM for limit in groups), groups
        e("exec %s sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null'" % c,
          status=None, out="157286400\n")


@step
def cp_in_out(e):
    with e.container(SLEEP) as c:
        source = e.file("copied text\n", mode=0o640)
        e("cp %s %s:/tmp/new" % (source, c))
        e(["exec", c, "sh", "-c", "cat /tmp/new; stat -c %a /tmp/new"], out="copied text\n640\n")
        e(["exec", c, "sh", "-c", "echo inner > /inner"])
        e("cp %s:/inner %s/" % (c, DIR + "/files"))
        with open(DIR + "/files/inner") as f:
            assert f.read() == "inner\n"


@step
def cp_directory(e):
    with e.container(SLEEP) as c:
        top = e.directory()
        os.makedirs(top + "/d/sub")
        for name in ("one", "sub/two"):
            with open(top + "/d/" + name, "w") as f:
                f.write(name)
        os.symlink("one", top + "/d/link")
        e("cp %s/d %s:/opt" % (top, c))
        e(["exec", c, "sh", "-c", "cd /opt; find . | sort; cat sub/two; readlink link"],
          out=".\n./link\n./one\n./sub\n./sub/two\nsub/twoone\n")
        e("cp %s:/opt %s/back" % (c, top))
        assert sorted(os.listdir(top + "/back")) == ["link", "one", "sub"]


@step
def cp_stopped(e):
    with e.container("bb sh -c 'echo written > /file'", runs=False) as c:
        e("cp %s %s:/before" % (e.file("x"), c))
        e("start -a " + c)
        top = e.directory()
        e("cp %s:/file %s/file" % (c, top))
        with open(top + "/file") as f:
            assert f.read() == "written\n"


# Images of what was written ----------------------------------------------------------------------

@step
def diff(e):
    with e.container("bb sh -c 'echo x > /new; echo y >> /etc/passwd; rm /etc/hostname; sleep 1000'") as c:
        until(lambda: "A /new" in e.lines("diff " + c), 10, "A /new")
        lines = e.lines("diff " + c)
        assert "C /etc/passwd" in lines, lines


@step
def commit(e):
    with e.container(["bb", "sh", "-c", "echo kept > /kept; sleep 1000"]) as c:
        until(lambda: e("exec %s cat /kept" % c, status=None).out, 10)
        image = "localhost/" + e.new_name("commit")
        e("commit %s %s" % (c, image))
        e("run --rm %s cat /kept" % image, out="kept\n")
        e("rmi " + image)


@step
def export_import(e):
    with e.container(["bb", "sh", "-c", "echo kept > /kept; sleep 1000"]) as c:
        until(lambda: e("exec %s cat /kept" % c, status=None).out, 10)
        path, image = e.directory() + "/x.tar", "localhost/%s:1" % e.new_name("import")
        e("export -o %s %s" % (path, c))
        e("import %s %s" % (path, image))
        e("run --rm %s cat /kept" % image, out="kept\n")
        e("rmi " + image)


DOCKERFILE = """FROM localhost/bb:1
RUN echo one > /one && mkdir /d && chown user /d
COPY file /d/file
USER user
WORKDIR /d
ENV A=b
RUN id -un > mine && cat /one file > both
RUN test "$A" = b && ! touch /not-mine
CMD ["cat", "both", "mine"]
"""


@step
def build(e):
    top = e.directory()
    for name, text in (("Dockerfile", DOCKERFILE), ("file", "copied\n")):
        with open(top + "/" + name, "w") as f:
            f.write(text)
    os.chmod(top + "/file", 0o644)
    image = "localhost/" + e.new_name("built")
    e("build --no-cache %s -t %s %s" % (e.build_options, image, top), timeout=55)
    e("run --rm " + image, out="one\ncopied\nuser\n")
    e("rmi " + image)


@step
def build_failing(e):
    top = e.directory()
    with open(top + "/Dockerfile", "w") as f:
        f.write("FROM localhost/bb:1\nRUN exit 9\n")
    result = e("build --no-cache %s %s" % (e.build_options, top), status=None, timeout=55)
    assert result.status != 0 and "9" in result.out + result.err, result


# Network -----------------------------------------------------------------------------------------

@step
def network_none(e):
    e("run --rm --network none bb ip -o addr", has="127.0.0.1/8")
    expect(e("run --rm --network none bb sh -c 'ip -o link | wc -l'"), out="1\n")


@step
def network_host(e):
    with HostServer(8077):
        e("run --rm --network host bb wget -q -O - http://127.0.0.1:8077/", out="host sees 127.0.0.1\n")


@step
def network_host_listen(e):
    with e.container("--network host bb sh -c 'mkdir /w; echo page > /w/p; httpd -f -p 8078 -h /w'"):
        assert fetch("http://127.0.0.1:8078/p") == "page\n"


@step
def bridge_out(e):
    """From the container to a server on the host's side of the bridge."""
    with HostServer(8079):
        script = "wget -q -O - http://$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'):8079/; hostname -i"
        seen, own = e(["run", "--rm", "bb", "sh", "-c", script]).out.strip().splitlines()
        assert seen == "host sees " + own, (seen, own)


@step
def bridge_published(e):
    with e.container("-p 18080:80 bb sh -c 'mkdir /w; echo page > /w/p; httpd -f -h /w'") as c:
        assert fetch("http://127.0.0.1:18080/p") == "page\n"
        assert "18080" in e("port " + c).out
        own = e("exec %s hostname -i" % c).out.strip()
        assert fetch("http://%s/p" % own) == "page\n"


@step
def bridge_published_udp(e):
    code = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 81))\nwhile 1: " \
        "d, a = s.recvfrom(9); s.sendto(d.upper(), a)"
    with e.container(["-p", "18081:81/udp", "deb", "python3", "-c", code]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.3)

            def answered():
                s.sendto(b"hello", ("127.0.0.1", 18081))
                try:
                    return s.recv(100) == b"HELLO"
                except OSError:
                    return False
            until(answered, 5, "an answer by udp")


@step
def network_names(e):
    """The engine's own name server resolves the other container of a network."""
    net = e.new_name("net")
    e("network create " + net)
    try:
        with e.container("--network %s bb sh -c 'mkdir /w; echo page > /w/p; httpd -f -h /w'" % net) as c:
            until(lambda: e("run --rm --network %s bb wget -q -O - http://%s/p" % (net, c), status=None).out == "page\n",
                  10, "an answer by name")
    finally:
        e("network rm " + net)


@step
def network_of_container(e):
    with e.container("bb sh -c 'mkdir /w; echo page > /w/p; httpd -f -p 8083 -h /w'") as c:
        until(lambda: e("run --rm --network container:%s bb wget -q -O - http://127.0.0.1:8083/p" % c,
                        status=None).out == "page\n", 10)


@step
def pid_of_container(e):
    with e.container("bb sh -c 'sleep 4321; exit 8'") as c:
        e("run --rm --pid container:%s bb ps" % c, has="sleep 4321")
        e("run --rm --pid container:%s bb sh -c 'until killall sleep; do sleep 0.1; done'" % c,
          status=None)  # its namespace may end first
        e("wait " + c, out="8\n", timeout=5)


@step
def pid_host(e):
    e("run --rm --pid host bb true")


@step
def ipc_of_container(e):
    with e.container("--ipc shareable bb sh -c 'echo shared > /dev/shm/x; sleep 1000'") as c:
        until(lambda: e("exec %s cat /dev/shm/x" % c, status=None).out, 10)
        e("run --rm --ipc container:%s bb cat /dev/shm/x" % c, out="shared\n")


@step
def two_networks(e):
    nets = [e.new_name("net"), e.new_name("net")]
    for net in nets:
        e("network create " + net)
    try:
        with e.container("--network %s %s" % (nets[0], SLEEP)) as c:
            assert e("exec %s ip -o -4 addr" % c).out.count("inet ") == 2
            e("network connect %s %s" % (nets[1], c))
            assert e("exec %s ip -o -4 addr" % c).out.count("inet ") == 3, e("exec %s ip addr" % c)
    finally:
        for net in nets:
            e("network rm " + net)


# Options: one command each ------------------------------------------------------------------------

def script(options, text, **wanted):
    return ["run", "--rm", *options.split(), "bb", "sh", "-c", text], wanted


def rows(*table):
    steps.rows([(name, *script(options, text, **wanted)) for name, options, text, wanted in table])


rows(
    ("workdir", "--workdir /var/log", "pwd", dict(out="/var/log\n")),
    ("user-number", "--user 1234:55", "id -u; id -g", dict(out="1234\n55\n")),
    ("user-name", "--user user", "id -un; id -G; echo $HOME", dict(out="user\n1000 1001\n/home/user\n")),
    ("group-add", "--user user --group-add 77", "id -G", dict(has=" 77")),
    ("hostname", "--hostname inside", "hostname; grep -c inside /etc/hosts", dict(out="inside\n1\n")),
    ("env", "--env A=b --env C", "echo $A$C", dict(out="b\n")),
    ("add-host", "--add-host other:10.1.2.3", "grep other /etc/hosts | cut -c-8", dict(out="10.1.2.3\n")),
    ("dns", "--dns 10.9.8.7 --dns-search example.org", "cat /etc/resolv.conf", dict(has="10.9.8.7")),
    ("entrypoint", "--entrypoint /bin/echo", "", dict(out="sh -c \n")),
    ("init", "--init", "cat /proc/1/comm; exit 3", dict(status=3, has="init")),
    ("read-only", "--read-only", "touch /x; touch /etc/x", dict(status=1, err_has="Read-only file system")),
    ("read-only-tmpfs", "--read-only --tmpfs /scratch:size=1m", "echo x > /scratch/x && cat /scratch/x", dict(out="x\n")),
    ("tmpfs-options", "--tmpfs /scratch:size=64k,mode=700", "stat -c %a /scratch; head -c 100000 /dev/zero > /scratch/x; "
     "du -k /scratch/x", dict(out="700\n64\t/scratch/x\n")),
    ("shm-size", "--shm-size 1m", "df -k /dev/shm | tail -1", dict(has="1024")),
    ("device", "--device /dev/null:/dev/nothing", "test -c /dev/nothing && echo x > /dev/nothing", {}),
    ("device-read-only", "--device /dev/zero:/dev/z:r", "head -c 3 /dev/z | wc -c", dict(out="3\n")),
    ("default-devices", "", "for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; "
     "readlink /dev/stdin; ls -d /dev/fd /dev/shm /dev/mqueue /dev/pts", dict(
         out="/proc/self/fd/0\n/dev/fd\n/dev/mqueue\n/dev/pts\n/dev/shm\n")),
    ("cap-drop", "--cap-drop CHOWN", "touch /x; chown user /x", dict(status=1, err_has="not permitted")),
    ("cap-drop-all", "--cap-drop ALL --cap-add KILL", "grep CapEff /proc/self/status", dict(has="0000000000000020")),
    ("cap-default", "", "hostname other", dict(status=1, err_has="not permitted")),
    ("cap-add", "--cap-add SYS_ADMIN", "hostname other && hostname", dict(out="other\n")),
    ("no-new-privileges", "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", dict(has="1")),
    ("seccomp-default", "", "grep Seccomp: /proc/self/status", dict(has="2")),
    ("seccomp-unconfined", "--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status; mkdir /x", dict(has="0")),
    ("apparmor-unconfined", "--security-opt apparmor=unconfined", "true", {}),
    ("label-disable", "--security-opt label=disable", "true", {}),
    ("masked-paths", "", "cat /proc/timer_list /proc/keys | wc -c; ls /sys/firmware | wc -l", dict(out="0\n0\n")),
    ("read-only-paths", "", "echo 1 > /proc/sys/kernel/shmmax", dict(status=1, err_has="Read-only file system")),
    ("pids-limit", "--pids-limit 10", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; echo all",
     dict(status=None, err_has="fork")),
    ("memory-inside", "--memory 64m", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null",
     dict(out="67108864\n", status=None)),
    ("cpus", "--cpus 0.5", "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us", dict(has="50000")),
    ("cpuset", "--cpuset-cpus 0", "nproc", dict(out="1\n")),
    ("ulimit", "--ulimit nofile=123:456 --ulimit core=0 --ulimit nproc=1000:1000", "ulimit -n; ulimit -H -n; ulimit -c", dict(out="123\n456\n0\n")),
    ("oom-score-adj", "--oom-score-adj 300", "cat /proc/self/oom_score_adj", dict(out="300\n")),
    ("sysctl", "--sysctl net.ipv4.ip_unprivileged_port_start=77 --sysctl kernel.msgmax=65000",
     "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", dict(out="77\n65000\n")),
    ("privileged", "--privileged", "mkdir /m; mount -t tmpfs x /m && echo mounted", dict(out="mounted\n")),
    ("uts-host", "--uts host", "hostname", dict(out="box\n")),
    ("cgroupns-host", "--cgroupns host", "grep -c . /proc/self/cgroup >/dev/null && echo ok", dict(out="ok\n")),
    ("stop-signal", "--stop-signal USR1", "true", {}),
    ("label", "--label a=b", "true", {}),
)


@step
def memory_oom(e):
    with e.container("--memory 40m --memory-swap 40m bb sh -c 'head -c 400000000 /dev/zero | tail'", runs=False) as c:
        e("start -a " + c, status=137)


@step
def memory_oom_flag(e):
    """That is seen by the engine too."""
    with e.container("--memory 40m --memory-swap 40m bb sh -c 'head -c 400000000 /dev/zero | tail'", runs=False) as c:
        e("start -a " + c, status=137)
        assert state(e, c, "OOMKilled") == "true", "OOMKilled is not set"


@step
def seccomp_profile(e):
    path = e.file(json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}), name="seccomp.json")
    e("run --rm --security-opt seccomp=%s bb mkdir /x" % path, status=1, err_has="not supported")
    e("run --rm --security-opt seccomp=%s bb touch /x" % path)


@step
def volume(e):
    top = e.directory()
    with open(top + "/given", "w") as f:
        f.write("given\n")
    e(["run", "--rm", "-v", top + ":/v", "bb", "sh", "-c", "cat /v/given; echo back > /v/back"], out="given\n")
    with open(top + "/back") as f:
        assert f.read() == "back\n"


@step
def volume_read_only(e):
    top = e.directory()
    e(["run", "--rm", "-v", top + ":/v:ro", "bb", "touch", "/v/x"], status=1, err_has="Read-only file system")


@step
def volume_file(e):
    e(["run", "--rm", "-v", e.file("one file\n") + ":/etc/motd", "bb", "cat", "/etc/motd"], out="one file\n")


@step
def volume_label(e):
    e(["run", "--rm", "-v", e.directory() + ":/v:z", "bb", "touch", "/v/x"])


@step
def volume_rshared(e):
    top = e.directory()
    subprocess.run(["sh", "-ec", "mount --bind {0} {0}; mount --make-rshared {0}".format(top)], check=True)
    try:
        with e.container("-v %s:/v:rshared %s" % (top, SLEEP)) as c:
            os.mkdir(top + "/m")
            subprocess.run(["mount", "-t", "tmpfs", "x", top + "/m"], check=True)
            with open(top + "/m/late", "w") as f:
                f.write("late\n")
            e("exec %s cat /v/m/late" % c, out="late\n")
    finally:
        subprocess.run("umount {0}/m; umount {0}".format(top), shell=True, stderr=subprocess.DEVNULL)


@step
def volume_named(e):
    name = e.new_name("vol")
    e(["run", "--rm", "-v", name + ":/etc", "bb", "sh", "-c", "echo kept > /etc/kept; cat /etc/hostname >/dev/null"])
    e(["run", "--rm", "-v", name + ":/v", "bb", "cat", "/v/kept"], out="kept\n")
    e("volume rm " + name)


@step
def healthcheck(e):
    with e.container(["--health-cmd", "test -e /healthy", "--health-interval", "1s", "--health-retries", "1", *SLEEP.split()]) as c:
        e.health(c, "unhealthy")
        e("exec %s touch /healthy" % c)
        e.health(c, "healthy")


# A real distribution ------------------------------------------------------------------------------

@step
def debian_users(e):
    e(["run", "--rm", "deb", "sh", "-ec", "useradd -m someone; su someone -c 'id -un; cd; pwd'; usermod -aG tty someone; "
       "id -nG someone; dpkg -s bash | grep ^Status"],
      out="someone\n/home/someone\nsomeone tty\nStatus: install ok installed\n")


@step
def debian_python(e):
    code = "import subprocess, os, threading, socket; t = threading.Thread(target=lambda: print(sum(range(1000)))); t.start(); " \
        "t.join(); print(subprocess.check_output(['uname', '-s']).decode().strip(), os.cpu_count() > 0)"
    e(["run", "--rm", "deb", "python3", "-c", code], out="499500\nLinux True\n")


@step
def debian_packages(e):
    """dpkg unpacks, configures and removes a package made on the spot."""
    script = ("cd /tmp; mkdir -p p/DEBIAN p/opt; printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@y>\\n"
              "Description: d\\n' > p/DEBIAN/control; echo 'echo configured' > p/DEBIAN/postinst; sed -i '1i #!/bin/sh' "
              "p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst; echo x > p/opt/file; dpkg-deb -b p p.deb >/dev/null; "
              "dpkg -i p.deb | grep configured; cat /opt/file; dpkg -r p >/dev/null; test ! -e /opt/file")
    e(["run", "--rm", "deb", "bash", "-ec", script], out="configured\nx\n")
