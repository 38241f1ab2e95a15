/* The ptrace backend's table and its start. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "platform/base/log.h"
#include "platform/ptrace/ptrace_priv.h"

static void pt_close(struct platform *platform)
{
	struct pt_platform *p = platform ? pt_platform(platform) : NULL;
	struct args_slot *slot, *tmp;

	if (!p)
		return;
	zygote_fini(&p->zygote);
	list_for_each_safe(slot, tmp, &p->slots, link) {
		munmap(slot->op, STUB_ARGS_SIZE);
		free(slot);
	}
	mutex_fini(&p->mu);
	mutex_fini(&p->zygote_mu);
	free(p);
}

static int pt_open(int memory_fd, struct platform **ret_platform)
{
	const struct zygote_code code = { .page = { stub_page_start }, .entry = stub_zygote };
	struct pt_platform *p = calloc(1, sizeof(*p));
	int err;

	(void)memory_fd; /* changes name their file */
	if (!p)
		return -ENOMEM;
	p->pub.ops = &platform_ptrace;
	mutex_init(&p->mu, 0);
	mutex_init(&p->zygote_mu, 0);
	list_init(&p->slots);
	zygote_init(&p->zygote);
	cpu_open();
	/* No SIGCHLD at each stop, and the host reaps stubs that nobody waits for. */
	signal(SIGCHLD, SIG_IGN);
	err = zygote_start(&p->zygote, &code);
	if (err < 0) {
		pt_close(&p->pub);
		return err;
	}
	*ret_platform = &p->pub;
	return 0;
}

const struct platform_ops platform_ptrace = {
	.name = "ptrace",
	.min_addr = STUB_GUEST_MIN,
	.max_addr = STUB_GUEST_MAX,
	.hint = "is ptrace forbidden here?",
	.open = pt_open,
	.close = pt_close,
	.aspace_new = pt_aspace_new,
	.aspace_free = pt_aspace_free,
	.aspace_update = pt_aspace_update,
	.aspace_reserve = pt_aspace_reserve,
	.context_new = pt_context_new,
	.context_free = pt_context_free,
	.context_switch = pt_context_switch,
	.context_interrupt = pt_context_interrupt,
	.regs_load = pt_regs_load,
	.set_result = pt_set_result,
	.fpu_get = pt_fpu_get,
	.fpu_set = pt_fpu_set,
	.set_step = pt_set_step,
	.stub_pids = pt_aspace_stub_pids,
};
