#!/bin/busybox sh
# Process 1 of the emulated machine (lib/emulated.py). First on the initramfs: copies all into a tmpfs,
# because pivot_root does not work on an initramfs. Then runs the jobs, two at a time, and writes each
# one's output to the second serial port between @@BEGIN and @@END lines.
export PATH=/bin
if [ ! -e /moved ]; then
	busybox mkdir /new
	busybox mount -t tmpfs -o size=90%,mode=755 root /new
	for entry in m lib lib64 sandbox root t b jobs init bin; do
		[ ! -e /$entry ] || busybox cp -a /$entry /new/
	done
	busybox mkdir /new/proc /new/sys /new/dev /new/tmp /new/out /new/run /new/data
	busybox touch /new/moved
	exec /new/bin/busybox switch_root /new /init
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
ln -sf pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
chmod 1777 /tmp
ip link set lo up
hostname emulated
for module in irqbypass ccp kvm kvm-amd; do
	insmod /m/$module.ko
done
stty -F /dev/ttyS1 raw -echo 115200

# NAME SECONDS, a line of /jobs: runs /b/NAME/job
cat >/job.sh <<'JOB'
name=$1 seconds=$2
until mkdir /out/.lock 2>/dev/null; do usleep 2000; done
echo "@@START $name" >/dev/ttyS1
rmdir /out/.lock
began=$(cut -d' ' -f1 /proc/uptime)
timeout -s KILL "$seconds" sh /b/$name/job >/out/$name 2>&1 </dev/null
status=$?
ended=$(cut -d' ' -f1 /proc/uptime)
# One at a time: mkdir is the lock.
until mkdir /out/.lock 2>/dev/null; do usleep 2000; done
{
	echo "@@BEGIN $name"
	cat /out/$name
	echo
	echo "@@END $name $status $began $ended"
} >/dev/ttyS1
rmdir /out/.lock
rm -f /out/$name
JOB
# NAME DIRECTORY FLAGS...: the guest program of bundle NAME, DIRECTORY is to be its bind mount. Emulated time is
# coarse and many cases sleep a while and then expect that something has happened: what fails is tried once
# more.
cat >/guest.sh <<'GUEST'
name=$1 data=$2
shift 2
mkdir -p $data
runsc() { /sandbox/runsc --root /run/runsc "$@" run --bundle /b/$name $name; }
for try in 1 2; do
	runsc "$@" >/out/$name.try 2>&1
	status=$?
	failed=$(sed -n 's/^FAIL \([^ ]*\).*/\1/p' /out/$name.try)
	if [ -z "$failed" ] || [ $try = 2 ]; then
		cat /out/$name.try
		break
	fi
	sed "s/^FAIL/try $try: FAIL/" /out/$name.try
	args=$(echo $failed | sed 's/ /", "/g')
	sed -i 's#"args": \["\([^"]*\)".*\], "env"#"args": ["\1", "'"$args"'"], "env"#' /b/$name/config.json
done
rm -f /out/$name.try
exit $status
GUEST
echo "@@BOOT $(cut -d' ' -f1 /proc/uptime) $(uname -r) $(nproc) cpus, kvm $(ls /dev/kvm 2>/dev/null || echo absent)" >/dev/ttyS1
xargs -P 2 -n 2 sh /job.sh </jobs
echo "@@DONE $(cut -d' ' -f1 /proc/uptime)" >/dev/ttyS1
poweroff -f
