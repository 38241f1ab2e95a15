/* Limits and use of a container: Update, Event, WaitOom. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "sentry/control/control_priv.h"
#include "sentry/mm/account.h"

/* A list of numbers and ranges such as "0-2,7", or nothing. */
static bool is_list(const char *s)
{
	return strspn(s, "0123456789,-") == strlen(s);
}

int control_set_limits(struct cgroup *cg, const Urpc__Resources *r)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	if (r->memory_bytes)
		l.memory = r->memory_bytes;
	if (r->memory_swap_bytes)
		l.memory_swap = r->memory_swap_bytes;
	if (r->memory_reservation_bytes)
		l.memory_reservation = r->memory_reservation_bytes;
	if (r->pids)
		l.pids = r->pids;
	if (r->cpu_quota_us)
		l.cpu_quota_us = r->cpu_quota_us;
	if (r->cpu_period_us)
		l.cpu_period_us = r->cpu_period_us;
	if (r->cpus)
		l.cpus = r->cpus == UINT32_MAX ? 0 : r->cpus;
	if (r->cpu_shares)
		l.cpu_shares = MIN(MAX(r->cpu_shares, (uint64_t)2), (uint64_t)262144);
	if (strlen(r->cpuset_cpus) >= sizeof(l.cpuset_cpus) || strlen(r->cpuset_mems) >= sizeof(l.cpuset_mems) ||
	    !is_list(r->cpuset_cpus) || !is_list(r->cpuset_mems))
		return -EINVAL;
	if (r->cpuset_cpus[0])
		strcpy(l.cpuset_cpus, r->cpuset_cpus);
	if (r->cpuset_mems[0])
		strcpy(l.cpuset_mems, r->cpuset_mems);
	return cgroup_set_limits(cg, &l);
}

int control_update(struct urpc_request *req, const Urpc__UpdateArgs *arg, Urpc__Empty *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);

	(void)result;
	if (!c)
		return -ENOENT;
	if (container_state(c) == CONTAINER_STOPPED)
		return urpc_fail(req, -ESRCH, "container %.64s is not running", arg->id);
	if (!arg->resources)
		return urpc_fail(req, -EINVAL, "no limits are given");
	if (control_set_limits(container_cgroup(c), arg->resources) < 0)
		return urpc_fail(req, -EINVAL, "limits: a cpu quota is at least 1000, a period 1000 to 1000000 us");
	return 0;
}

int control_event(struct urpc_request *req, const Urpc__ContainerId *arg, Urpc__EventData *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	struct memory_use memory;
	int64_t user_ns, system_ns;
	struct cgroup *cg;

	if (!c)
		return -ENOENT;
	cg = container_cgroup(c);
	cgroup_cpu_times(cg, &user_ns, &system_ns);
	result->cpu_user_ns = (uint64_t)user_ns;
	result->cpu_system_ns = (uint64_t)system_ns;
	result->cpu_total_ns = result->cpu_user_ns + result->cpu_system_ns;
	result->pids_current = cg->pids;
	result->pids_limit = cg->pids_limit == CGROUP_NO_LIMIT ? 0 : cg->pids_limit;
	result->pids_failcnt = cg->pids_failcnt;
	result->oom_kills = cg->oom_kills;
	result->cpu_periods = cg->cpu.periods;
	result->cpu_throttled_periods = cg->cpu.throttled_periods;
	result->cpu_throttled_ns = (uint64_t)cg->cpu.throttled_ns;
	memory_account_use(cg->memory, &memory);
	result->memory_usage = memory.total;
	result->memory_max = cg->memory->peak;
	result->memory_limit = cg->memory->limit == MEMORY_NO_LIMIT ? 0 : cg->memory->limit;
	result->memory_cache = memory.shmem;
	result->memory_failcnt = cg->memory->failures;
	return 0;
}

/* The thread's sleep on a wait queue, by way of an eventfd that poll sees. */
struct oom_waiter {
	struct waitq_entry entry;
	int fd;
};

static void oom_wake(struct waitq_entry *e, uint32_t events)
{
	uint64_t one = 1;

	(void)events;
	if (write(container_of(e, struct oom_waiter, entry)->fd, &one, sizeof(one)) < 0)
		log_debug("control: a waiter was woken twice");
}

/* Sleeps until one of the queues wakes fd. -ECANCELED: the caller has gone. */
static int wait_word(int fd, int conn_fd)
{
	struct pollfd pfd[2] = { { .fd = fd, .events = POLLIN }, { .fd = conn_fd, .events = POLLRDHUP } };
	uint64_t count;

	if (ppoll(pfd, 2, NULL, NULL) < 0 && errno != EINTR)
		return -errno;
	if (pfd[1].revents)
		return -ECANCELED;
	return read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN ? -errno : 0;
}

int control_wait_oom(struct urpc_request *req, const Urpc__WaitOomArgs *arg, Urpc__OomStatus *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	struct oom_waiter kills, end;
	struct cgroup *cg;
	int err = 0;

	if (!c)
		return -ENOENT;
	cg = container_cgroup(c);
	kills = end = (struct oom_waiter){ .entry = { .events = ~0u, .wake = oom_wake },
					   .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (kills.fd < 0)
		return -errno;
	waitq_add(&cg->waitq, &kills.entry);
	waitq_add(container_waitq(c), &end.entry);
	while (err == 0) {
		result->stopped = container_state(c) == CONTAINER_STOPPED;
		result->oom_kills = cg->oom_kills;
		if (result->stopped || result->oom_kills > arg->oom_kills_seen)
			break;
		err = wait_word(kills.fd, req->conn_fd);
	}
	waitq_remove(&kills.entry);
	waitq_remove(&end.entry);
	close(kills.fd);
	return err;
}
