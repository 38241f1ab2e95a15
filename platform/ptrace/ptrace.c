/* The ptrace backend's table, its start and its self-test. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/ptrace/ptrace_priv.h"

static void pt_close(struct platform *platform)
{
	struct pt_platform *p = platform ? pt_platform(platform) : NULL;
	struct args_slot *slot, *tmp;

	if (!p)
		return;
	if (p->zygote > 0) {
		kill(p->zygote, SIGKILL);
		waitpid(p->zygote, NULL, __WALL);
	}
	list_for_each_safe(slot, tmp, &p->slots, link) {
		munmap(slot->op, STUB_ARGS_SIZE);
		free(slot);
	}
	if (p->req)
		munmap(p->req, 4096);
	if (p->code_fd >= 0)
		close(p->code_fd);
	if (p->args_fd >= 0)
		close(p->args_fd);
	mutex_fini(&p->mu);
	mutex_fini(&p->zygote_mu);
	free(p);
}

static int pt_open(int memory_fd, struct platform **ret_platform)
{
	struct pt_platform *p = calloc(1, sizeof(*p));
	int err;

	(void)memory_fd; /* changes name their file */
	if (!p)
		return -ENOMEM;
	p->pub.ops = &platform_ptrace;
	mutex_init(&p->mu, 0);
	mutex_init(&p->zygote_mu, 0);
	list_init(&p->slots);
	p->code_fd = memfd_create("stub-code", MFD_CLOEXEC);
	p->args_fd = memfd_create("stub-args", MFD_CLOEXEC);
	cpu_open();
	/* No SIGCHLD at each stop, and the host reaps stubs that nobody waits for. */
	signal(SIGCHLD, SIG_IGN);
	err = p->code_fd < 0 || p->args_fd < 0 ? -errno : zygote_start(p);
	if (err < 0) {
		pt_close(&p->pub);
		return err;
	}
	*ret_platform = &p->pub;
	return 0;
}

/* Runs two system calls of a guest that is one page of code. 0, or the step that failed in *ret_step. */
static int self_test(struct platform *p, int code_fd, const char **ret_step)
{
	const uint64_t page = 0x400000;
	const struct aspace_op map = { .kind = ASPACE_MAP, .addr = page, .size = 4096, .host_fd = code_fd,
				       .prot = PLATFORM_READ | PLATFORM_EXEC };
	struct aspace *as = NULL;
	struct pcontext *ctx = NULL;
	int err;

	*ret_step = "an address space cannot be made";
	err = pt_aspace_new(p, &as);
	if (err == 0) {
		pt_aspace_update(as, NULL, &map, 1);
		err = pt_context_new(p, &ctx);
	}
	if (err == 0) {
		ctx->regs.rip = page;
		*ret_step = "a traced process cannot run (is ptrace forbidden here?)";
		for (int64_t i = 0; i < 2 && err == 0; i++) {
			if (pt_context_switch(ctx, as) != SWITCH_SYSCALL || ctx->syscall.nr != 39 + i)
				err = -EPERM;
			pt_set_result(ctx, i);
		}
	}
	pt_context_free(ctx);
	pt_aspace_free(as);
	return err;
}

static int pt_probe(char *why, size_t why_size)
{
	/* mov $39, %eax; syscall; add $40, %eax; syscall; hlt */
	static const uint8_t code[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x83, 0xc0, 40, 0x0f, 0x05, 0xf4 };
	const char *step = "no stub process can be started";
	struct platform *p = NULL;
	cpu_set_t cpus;
	bool have_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0;
	int fd = memfd_create("probe", MFD_CLOEXEC), err;

	if (fd < 0 || write(fd, code, sizeof(code)) < 0 || ftruncate(fd, 4096) < 0)
		err = -errno;
	else
		err = pt_open(fd, &p);
	if (err == 0)
		err = self_test(p, fd, &step);
	pt_close(p);
	if (fd >= 0)
		close(fd);
	if (have_cpus)
		(void)!sched_setaffinity(0, sizeof(cpus), &cpus);
	if (err < 0)
		snprintf(why, why_size, "ptrace: %s: %s", step, strerror(-err));
	return err;
}

const struct platform_ops platform_ptrace = {
	.name = "ptrace",
	.min_addr = STUB_GUEST_MIN,
	.max_addr = STUB_GUEST_MAX,
	.probe = pt_probe,
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
