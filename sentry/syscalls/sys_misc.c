/* What the machine is and what a process may use: names, limits, usage, randomness. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include "sentry/core/random.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/version.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/process_priv.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_SYS_ADMIN 21
#define CAP_SYS_RESOURCE 24
#define NR_OPEN_MAX 1048576ull

/* uname(2) */
int64_t sys_uname(struct task *t, arg_uaddr_t name)
{
	struct utsname u = { .sysname = "Linux", .machine = "x86_64" };
	struct uts_ns *ns = t->ns->uts;

	strcpy(u.release, KERNEL_RELEASE);
	strcpy(u.version, KERNEL_VERSION);
	mutex_lock(&ns->mu);
	memcpy(u.nodename, ns->nodename, sizeof(u.nodename));
	memcpy(u.domainname, ns->domainname, sizeof(u.domainname));
	mutex_unlock(&ns->mu);
	if ((t->personality & 0xff) == 8) /* PER_LINUX32 */
		strcpy(u.machine, "i686");
	if (t->personality & 0x0020000) /* UNAME26 */
		strcpy(u.release, "2.6.61");
	return copy_out_struct(task_umem(t), name, &u);
}

static int64_t set_name(struct task *t, uaddr_t name, int32_t len, char *to)
{
	char buf[65] = "";

	if (!task_capable_ns(t, t->ns->uts->user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	if (len < 0 || len > 64)
		return -EINVAL;
	if (copy_in(task_umem(t), buf, name, (size_t)len) < 0)
		return -EFAULT;
	GUARD(mutex, &t->ns->uts->mu);
	memcpy(to, buf, sizeof(buf));
	return 0;
}

int64_t sys_sethostname(struct task *t, arg_path_t name, arg_int_t len)
{
	return set_name(t, name, len, t->ns->uts->nodename);
}

int64_t sys_setdomainname(struct task *t, arg_path_t name, arg_int_t len)
{
	return set_name(t, name, len, t->ns->uts->domainname);
}

/* sysinfo(2) */
int64_t sys_sysinfo(struct task *t, arg_uaddr_t info)
{
	struct sysinfo s = { 0 };
	struct cgroup_memory m;

	cgroup_memory(task_cgroup(t), false, &m);
	s.uptime = clock_mono() / NSEC_PER_SEC;
	s.totalram = m.total;
	s.freeram = m.total - m.used;
	s.sharedram = m.shmem;
	s.procs = (unsigned short)MIN(task_pid_ns(t)->pid_count, 65535u);
	s.mem_unit = 1;
	return copy_out_struct(task_umem(t), info, &s);
}

#define GRND_KNOWN 7u
#define GRND_RANDOM_INSECURE 6u

/* getrandom(2) */
int64_t sys_getrandom(struct task *t, arg_uaddr_t ubuf, arg_size_t len, arg_flags_t flags)
{
	uint8_t buf[1024];
	uint64_t done = 0;

	if ((flags & ~GRND_KNOWN) || (flags & GRND_RANDOM_INSECURE) == GRND_RANDOM_INSECURE)
		return -EINVAL;
	len = MIN(len, (uint64_t)INT32_MAX);
	while (done < len) {
		size_t n = MIN(sizeof(buf), len - done);
		int64_t out;

		random_fill(buf, n);
		out = task_umem(t)->ops->copy_out(task_umem(t), uaddr_add(ubuf, done), buf, n);
		if (out < 0)
			return done ? (int64_t)done : out;
		done += (uint64_t)out;
		if ((size_t)out < n || signal_pending(t))
			break;
	}
	return (int64_t)done;
}

struct guest_rlimit {
	uint64_t soft, hard;
};

/* Reads the old and sets the new limit of tg. prlimit(2) */
static int64_t change_limit(struct task *t, struct thread_group *tg, uint32_t resource,
		const struct guest_rlimit *new, struct guest_rlimit *old)
{
	GUARD(mutex, &taskset_mu);
	old->soft = tg->limits.r[resource].soft;
	old->hard = tg->limits.r[resource].hard;
	if (!new)
		return 0;
	if (new->soft > new->hard)
		return -EINVAL;
	if (resource == RLIMIT_NOFILE && new->hard > NR_OPEN_MAX)
		return -EPERM;
	if (new->hard > old->hard && !task_capable(t, CAP_SYS_RESOURCE))
		return -EPERM;
	__atomic_store_n(&tg->limits.r[resource].soft, new->soft, __ATOMIC_RELAXED);
	tg->limits.r[resource].hard = new->hard;
	return 0;
}

static int64_t limit_call(struct task *t, struct thread_group *tg, uint32_t resource,
		uaddr_t unew, uaddr_t uold)
{
	struct guest_rlimit new, old;
	int64_t err;

	if (resource >= GUEST_RLIM_NLIMITS)
		return -EINVAL;
	if (unew.v && copy_in_struct(task_umem(t), &new, unew) < 0)
		return -EFAULT;
	err = change_limit(t, tg, resource, unew.v ? &new : NULL, &old);
	if (err < 0)
		return err;
	if (unew.v && resource == RLIMIT_CPU)
		cpu_limit_changed(tg);
	return uold.v ? copy_out_struct(task_umem(t), uold, &old) : 0;
}

int64_t sys_getrlimit(struct task *t, arg_uint_t resource, arg_uaddr_t rlim)
{
	if (resource < GUEST_RLIM_NLIMITS && !rlim.v)
		return -EFAULT;
	return limit_call(t, t->tg, resource, UADDR_NULL, rlim);
}

int64_t sys_setrlimit(struct task *t, arg_uint_t resource, arg_uaddr_t rlim)
{
	if (!rlim.v)
		return -EFAULT;
	return limit_call(t, t->tg, resource, rlim, UADDR_NULL);
}

int64_t sys_prlimit64(struct task *t, arg_pid_t pid, arg_uint_t resource, arg_uaddr_t new_rlim,
		arg_uaddr_t old_rlim)
{
	AUTO(task_put) struct task *other = pid ? task_find(task_pid_ns(t), pid) : task_get(t);
	const struct cred *a = t->cred;
	AUTO(cred_put) const struct cred *b = NULL;

	if (resource >= GUEST_RLIM_NLIMITS)
		return -EINVAL;
	if (!other)
		return -ESRCH;
	b = task_get_cred(other);
	if (other->tg != t->tg &&
	    !(a->ruid.v == b->euid.v && a->ruid.v == b->suid.v && a->ruid.v == b->ruid.v &&
	      a->rgid.v == b->egid.v && a->rgid.v == b->sgid.v && a->rgid.v == b->rgid.v) &&
	    !cred_capable(a, b->user_ns, CAP_SYS_RESOURCE))
		return -EPERM;
	return limit_call(t, other->tg, resource, new_rlim, old_rlim);
}

/* getrusage(2) */
int64_t sys_getrusage(struct task *t, arg_int_t who, arg_uaddr_t ru)
{
	struct cpu_usage u = { 0 };
	struct mm_usage m;
	struct rusage r;

	switch (who) {
	case RUSAGE_SELF:
		thread_group_usage(t->tg, &u);
		break;
	case RUSAGE_CHILDREN:
		mutex_lock(&taskset_mu);
		u = t->tg->child_usage;
		mutex_unlock(&taskset_mu);
		break;
	case RUSAGE_THREAD:
		task_cpu_times(t, &u.user_ns, &u.system_ns);
		u.minflt = t->minflt;
		u.majflt = t->majflt;
		u.nvcsw = t->nvcsw;
		u.nivcsw = t->nivcsw;
		break;
	default:
		return -EINVAL;
	}
	if (who != RUSAGE_CHILDREN) {
		mm_usage(t->mm, &m);
		u.maxrss_kib = m.hwm / 1024;
	}
	rusage_fill(&r, &u);
	return copy_out_struct(task_umem(t), ru, &r);
}

#define NS_PER_TICK 10000000

/* times(2) */
int64_t sys_times(struct task *t, arg_uaddr_t tbuf)
{
	struct cpu_usage self, child;
	struct tms b;

	thread_group_usage(t->tg, &self);
	mutex_lock(&taskset_mu);
	child = t->tg->child_usage;
	mutex_unlock(&taskset_mu);
	b = (struct tms){ self.user_ns / NS_PER_TICK, self.system_ns / NS_PER_TICK,
			  child.user_ns / NS_PER_TICK, child.system_ns / NS_PER_TICK };
	if (tbuf.v && copy_out_struct(task_umem(t), tbuf, &b) < 0)
		return -EFAULT;
	return clock_now(CLOCK_BOOTTIME) / NS_PER_TICK;
}

/* personality(2) */
int64_t sys_personality(struct task *t, arg_uint_t personality)
{
	uint32_t old = t->personality;

	if (personality != 0xffffffffu)
		t->personality = personality;
	return old;
}

/* membarrier(2): the barriers are real on the sentry's side; threads of the guest that run at the moment
 * pass one when they are interrupted. */
#define MEMBARRIER_GLOBAL 1
#define MEMBARRIER_GLOBAL_EXPEDITED 2
#define MEMBARRIER_REGISTER_GLOBAL 4
#define MEMBARRIER_PRIVATE 8
#define MEMBARRIER_REGISTER_PRIVATE 16
#define MEMBARRIER_SYNC_CORE 32
#define MEMBARRIER_REGISTER_SYNC_CORE 64
#define MEMBARRIER_ALL 0x7f

/* Interrupts every other thread of the process that runs guest code. */
static void barrier(struct task *t)
{
	struct task *it;

	mutex_lock(&taskset_mu);
	list_for_each(it, &t->tg->tasks, group_node)
		if (it != t && it->in_app)
			task_interrupt(it);
	mutex_unlock(&taskset_mu);
	atomic_thread_fence(memory_order_seq_cst);
}

int64_t sys_membarrier(struct task *t, arg_int_t cmd, arg_flags_t flags, arg_int_t cpu_id)
{
	(void)cpu_id;
	if (flags)
		return -EINVAL;
	switch (cmd) {
	case 0:
		return MEMBARRIER_ALL;
	case MEMBARRIER_REGISTER_GLOBAL:
	case MEMBARRIER_REGISTER_PRIVATE:
	case MEMBARRIER_REGISTER_SYNC_CORE:
		mutex_lock(&taskset_mu);
		t->tg->membarrier |= (uint32_t)cmd;
		mutex_unlock(&taskset_mu);
		return 0;
	case MEMBARRIER_PRIVATE:
	case MEMBARRIER_SYNC_CORE:
		/* Each needs its registration, whose number is twice its own. */
		if (!(t->tg->membarrier & (uint32_t)cmd << 1))
			return -EPERM;
		barrier(t);
		return 0;
	case MEMBARRIER_GLOBAL:
	case MEMBARRIER_GLOBAL_EXPEDITED:
		barrier(t);
		return 0;
	default:
		return -EINVAL;
	}
}

/* syslog(2): an empty kernel log. */
int64_t sys_syslog(struct task *t, arg_int_t type, arg_uaddr_t buf, arg_int_t len)
{
	(void)buf, (void)len;
	switch (type) {
	case 0:
	case 1:
	case 6:
	case 7:
	case 8:
	case 5:
		return task_capable(t, 34) || task_capable(t, CAP_SYS_ADMIN) ? 0 : -EPERM;
	case 2:
	case 3:
	case 4:
	case 9:
		return 0;
	case 10:
		return 16384;
	default:
		return -EINVAL;
	}
}
