/* The parts of the kernel that need a start, in order. */
#include "sentry/boot/subsystems.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "platform/host/notifier.h"
#include "sentry/fs/cgroup/cgroupfs.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/fs/epoll/epoll.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sys.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/ipc/ipc.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/futex.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"
#include "sentry/net/core/socket.h"
#include "sentry/vfs/vfs.h"

/* As many CPUs as the host lets us use, unless the container gets fewer. */
static uint32_t cpu_count(const struct boot *b)
{
	cpu_set_t set;
	uint32_t host = sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;

	return b->o.cpus ? MIN(b->o.cpus, host) : host;
}

static int start_epoll(struct boot *b)
{
	(void)b;
	epoll_init();
	return 0;
}

static int start_proc(struct boot *b)
{
	struct sysinfo info;

	(void)b;
	if (sysinfo(&info) == 0)
		memory_set_host((uint64_t)info.totalram * info.mem_unit);
	proc_register();
	sys_register();
	mqueue_fs_register();
	cgroupfs_register();
	return 0;
}

static int start_sockets(struct boot *b)
{
	(void)b;
	net_init(true);
	return 0;
}

static int start_pipe(struct boot *b)
{
	(void)b;
	return pipe_init();
}

static int start_tmpfs(struct boot *b)
{
	(void)b;
	return tmpfs_init();
}

static int start_dev(struct boot *b)
{
	(void)b;
	return dev_init();
}

static int start_devpts(struct boot *b)
{
	(void)b;
	devpts_init();
	return 0;
}

static int start_notifier(struct boot *b)
{
	(void)b;
	return notifier_init();
}

static int start_clock(struct boot *b)
{
	(void)b;
	return clock_init();
}

static int start_vdso(struct boot *b)
{
	return vdso_init(cpu_count(b));
}

static int start_vfs(struct boot *b)
{
	(void)b;
	return vfs_init();
}

static int start_futex(struct boot *b)
{
	(void)b;
	return futex_init();
}

static int start_mm(struct boot *b)
{
	return mm_init(b->platform, main_memfile);
}

static int start_kernel(struct boot *b)
{
	return kernel_init(b->platform, cpu_count(b));
}

static const struct subsystem {
	const char *name;
	int (*start)(struct boot *b);
} subsystems[] = {
	{ "notifier", start_notifier },
	{ "clock", start_clock },
	{ "memory", start_mm },
	{ "vdso", start_vdso },
	{ "vfs", start_vfs },
	{ "kernel", start_kernel },
	{ "futex", start_futex },
	{ "epoll", start_epoll },
	{ "pipe", start_pipe },
	{ "sockets", start_sockets },
	{ "tmpfs", start_tmpfs },
	{ "dev", start_dev },
	{ "proc", start_proc },
	{ "devpts", start_devpts },
};

int subsystems_start(struct boot *b)
{
	for (size_t i = 0; i < ARRAY_COUNT(subsystems); i++) {
		int err = subsystems[i].start(b);

		if (err < 0) {
			snprintf(b->why, sizeof(b->why), "%s: %s", subsystems[i].name, strerror(-err));
			return err;
		}
	}
	return 0;
}
