"""Version 2 alone, which a host that uses version 1 cannot show: on the emulated machine (tests/README.md)."""
import os
import shutil
import tempfile

import emulated
import sandbox
from cases import Skip
from e2e import registry
from e2e.cgroups import MIB, host_memory

case = registry.case
FILES = ("memory.max", "memory.swap.max", "memory.low", "memory.high", "cpu.weight", "cpu.max", "cpuset.cpus",
         "pids.max", "hugetlb.2MB.max", "io.weight")
# The shell that runs this is moved away from the top, as on hosts with systemd.
SCRIPT = """
top=/sys/fs/cgroup runsc="/sandbox/runsc --root /run/r --platform ptrace"
mount -t cgroup2 none $top; mkdir -p $top/me/self; echo 0 >$top/me/self/cgroup.procs
$runsc run --detach --bundle /b/{name} one || exit 1
cd $top/parent/x
for file in {files}; do echo "$file=$(cat $file)"; done
echo "joined=$(cat /proc/$(head -1 cgroup.procs)/cgroup)"
$runsc update --memory 300m --memory-swap 400m --pids-limit 60 one || exit 1
echo "updated=$(cat memory.max) $(cat memory.swap.max) $(cat pids.max)"
$runsc update --memory 16m --memory-swap 16m one || exit 1
$runsc events --interval 1h one >/events &
while [ ! -s /events ]; do sleep 1; done
sh -c 'echo 0 >cgroup.procs; exec tail /dev/zero' 2>/dev/null
echo "eater=$?"
while [ $(wc -l </events) = 1 ]; do sleep 1; done
echo "event=$(tail -n 1 /events)"
cd /
$runsc delete --force one || exit 1
wait
[ -e $top/parent ] || echo gone=yes
sed -i 's#/parent/x#rel#' /b/{name}/config.json
$runsc run --detach --bundle /b/{name} two || exit 1
echo "relative=$(cat /proc/$(head -1 $top/me/rel/cgroup.procs)/cgroup)"
$runsc delete --force two || exit 1
sed -i 's#"memory.high"#"memory.low.high"#' /b/{name}/config.json
echo "refused=$($runsc run --bundle /b/{name} three 2>&1)"
echo "left=$(find $top -name rel)"
"""


@case(alone=True)
def version_2_alone(env, root):
    """Skipped until something has fetched the machine's kernel: tests/run --group guest --platform ptrace-qemu."""
    if not os.path.exists(env.out + "/emulated/.complete"):
        raise Skip("no kernel of the emulated machine in %s/emulated" % env.out)
    config = sandbox.config_of(["/bin/sleep", "1000"], "/root")
    config["linux"]["cgroupsPath"] = "/parent/x"
    config["linux"]["resources"] = {
        "memory": {"limit": 256 * MIB, "swap": 256 * MIB, "reservation": MIB},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0"},
        "pids": {"limit": 50}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "blockIO": {"weight": 500}, "unified": {"memory.high": str(300 * MIB)}}
    answers = {}

    def done(output, status):
        answers.update(status=status, output=output)
        answers.update(line.split("=", 1) for line in output.split("\n") if "=" in line)
    scratch = tempfile.mkdtemp(dir=env.dir)
    try:
        machine = emulated.Machine(env.out, scratch, env.dir + "/console")
        machine.run([emulated.Job("v2", SCRIPT.format(name="v2", files=" ".join(FILES)), 200, done, config)], 260)
    except emulated.Unavailable as why:
        raise Skip(str(why)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    assert answers["status"] == 0, answers
    wanted = {"memory.max": str(host_memory(256 * MIB)), "memory.swap.max": "0", "memory.low": str(MIB),
              "memory.high": str(300 * MIB), "cpu.weight": "39", "cpu.max": "50000 100000", "cpuset.cpus": "0",
              "pids.max": "214", "hugetlb.2MB.max": str(4 * MIB), "io.weight": "default 4950",
              "joined": "0::/parent/x", "updated": "%d %d 244" % (host_memory(300 * MIB), 100 * MIB), "gone": "yes",
              "eater": "137", "event": '{"type":"oom","id":"one"}',
              "relative": "0::/me/rel", "left": ""}
    assert {key: answers.get(key) for key in wanted} == wanted, answers
    assert 'unified resource "memory.low.high" can\'t be set' in answers["refused"], answers["refused"]
