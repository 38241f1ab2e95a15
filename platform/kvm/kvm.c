/* The kvm backend's table and its start. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/kvm/kvm_priv.h"

static void kv_close(struct platform *platform)
{
	struct kv_platform *p = platform ? kv_platform(platform) : NULL;

	if (!p)
		return;
	kv_vcpus_close(p);
	kv_vm_close(p);
	kv_windows_close(p);
	kv_tables_close(p);
	for (int i = 0; i < 2; i++)
		if (p->peek_fd[i] >= 0)
			close(p->peek_fd[i]);
	mutex_fini(&p->mu);
	mutex_fini(&p->grow_mu);
	mutex_fini(&p->vcpu_mu);
	mutex_fini(&p->peek_mu);
	cond_fini(&p->vcpu_free);
	free(p);
}

static void on_kick(int signo)
{
	(void)signo;
}

static int kv_open(int memory_fd, struct platform **ret_platform)
{
	struct kv_platform *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->pub.ops = &platform_kvm;
	p->vm_fd = -1;
	p->peek_fd[0] = p->peek_fd[1] = -1;
	p->memory_fd = memory_fd;
	p->pid = getpid();
	mutex_init(&p->mu, 0);
	mutex_init(&p->grow_mu, 0);
	mutex_init(&p->vcpu_mu, 0);
	mutex_init(&p->peek_mu, 0);
	cond_init(&p->vcpu_free);
	list_init(&p->spaces);
	kv_windows_open(p);
	signal(KV_KICK_SIGNAL, on_kick); /* it ends a stay in the guest, nothing else */
	err = kv_vm_open(p);
	if (err == 0)
		err = kv_tables_open(p);
	if (err == 0 && pipe2(p->peek_fd, O_CLOEXEC | O_NONBLOCK) < 0)
		err = -errno;
	if (err < 0) {
		kv_close(&p->pub);
		return err;
	}
	p->pub.mode = p->ring0 ? "ring-0 mode" : "exit mode";
	p->pub.by_name_only = true; /* exit mode is slow; ring-0 mode has not run on real hardware */
	*ret_platform = &p->pub;
	return 0;
}

static int kv_probe(char *why, size_t why_size)
{
	const char *step;
	int err = kv_device_check(&step);

	if (err < 0)
		snprintf(why, why_size, "%s: %s", step, strerror(-err));
	return err;
}

const struct platform_ops platform_kvm = {
	.name = "kvm",
	.min_addr = KV_USER_MIN,
	.max_addr = KV_USER_MAX,
	.hint = "does the device belong to a working hypervisor?",
	.device_take = kv_device_take,
	.probe = kv_probe,
	.open = kv_open,
	.close = kv_close,
	.aspace_new = kv_aspace_new,
	.aspace_free = kv_aspace_free,
	.aspace_update = kv_aspace_update,
	.aspace_reserve = kv_aspace_reserve,
	.context_new = kv_context_new,
	.context_free = kv_context_free,
	.context_switch = kv_context_switch,
	.context_interrupt = kv_context_interrupt,
	.regs_load = kv_regs_load,
	.set_result = kv_set_result,
	.fpu_get = kv_fpu_get,
	.fpu_set = kv_fpu_set,
	.set_step = kv_set_step,
};
