/* The systrap backend's table, its start and what it needs. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/fpu.h"
#include "platform/systrap/systrap_priv.h"

enum { HWCAP2_FSGSBASE_BIT = 2, FRAME_ROOM = 2048 };

static void st_close(struct platform *platform)
{
	struct st_platform *p = platform ? st_platform(platform) : NULL;

	if (!p)
		return;
	zygote_fini(&p->zygote);
	st_mappers_free(p);
	st_windows_free(p);
	if (p->area_fd >= 0)
		close(p->area_fd);
	st_sites_close(p);
	mutex_fini(&p->mu);
	mutex_fini(&p->birth_mu);
	free(p);
}

static bool host_at_least(int major, int minor)
{
	struct utsname u;
	int have[2] = { 0, 0 };

	if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &have[0], &have[1]) != 2)
		return false;
	return have[0] > major || (have[0] == major && have[1] >= minor);
}

static int st_open(int memory_fd, struct platform **ret_platform)
{
	struct st_platform *p = calloc(1, sizeof(*p));
	int err;

	(void)memory_fd; /* changes name their file */
	if (!p)
		return -ENOMEM;
	p->pub.ops = &platform_systrap;
	mutex_init(&p->mu, 0);
	mutex_init(&p->birth_mu, 0);
	list_init(&p->slots);
	list_init(&p->idle);
	list_init(&p->areas);
	zygote_init(&p->zygote);
	p->area_fd = memfd_create("stub-areas", MFD_CLOEXEC);
	p->poll_first = !host_at_least(6, 11);
	cpu_open();
	/* The host reaps stubs: nobody waits for them. */
	signal(SIGCHLD, SIG_IGN);
	err = p->area_fd < 0 ? -errno : st_sites_open(p);
	if (err == 0)
		err = st_zygote_start(p);
	if (err < 0) {
		st_close(&p->pub);
		return err;
	}
	*ret_platform = &p->pub;
	return 0;
}

static int st_probe(char *why, size_t why_size)
{
	const char *lacks = NULL;

	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT))
		lacks = "the processor or kernel lacks wrfsbase";
	else if (host_fpu_size() > XSAVE_ROOM || host_fpu_size() > AREA_STACK - FRAME_ROOM)
		lacks = "the processor's state is too large";
	if (!lacks)
		return 0;
	snprintf(why, why_size, "%s", lacks);
	return -EOPNOTSUPP;
}

const struct platform_ops platform_systrap = {
	.name = "systrap",
	.min_addr = STUB_GUEST_MIN,
	.max_addr = STUB_GUEST_MAX,
	.hint = "is seccomp user notification forbidden here?",
	.probe = st_probe,
	.open = st_open,
	.close = st_close,
	.aspace_new = st_aspace_new,
	.aspace_free = st_aspace_free,
	.aspace_update = st_aspace_update,
	.aspace_reserve = st_aspace_reserve,
	.aspace_prepare = st_aspace_reserve,
	.site_rewrite = st_site_rewrite,
	.facts_set = st_fast_facts,
	.will_sleep = st_fast_will_sleep,
	.context_new = st_context_new,
	.context_free = st_context_free,
	.context_switch = st_context_switch,
	.context_interrupt = st_context_interrupt,
	.regs_load = st_regs_load,
	.set_result = st_set_result,
	.fpu_get = st_fpu_get,
	.fpu_set = st_fpu_set,
	.set_step = st_set_step,
	.title_set = st_title_set,
	.stub_pids = st_aspace_stub_pids,
};
