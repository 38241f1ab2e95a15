/*
 * The command line of a stub in the host's process lists: that of the guest's program, so that people and engines see what
 * runs. It lies in a page of the stub that is the stub's alone (stub_layout.h); the guest can write it too, as a program of
 * the host can write its own. Best effort.
 */
#include <string.h>
#include <sys/uio.h>

#include "platform/systrap/systrap_priv.h"

static void write_title(pid_t pid, const char *text, size_t size)
{
	char buf[STUB_TITLE_SIZE - 1];
	struct iovec local = { buf, MIN(size, sizeof(buf) - 1) + 1 };
	struct iovec remote = { (void *)(uintptr_t)STUB_TITLE, local.iov_len };

	memcpy(buf, text, local.iov_len - 1);
	buf[local.iov_len - 1] = 0;
	(void)!process_vm_writev(pid, &local, 1, &remote, 1, 0);
}

void st_title_show(struct st_aspace *as)
{
	if (as->titled || !as->title || !as->mapper || !as->mapper->pid)
		return;
	write_title(as->mapper->pid, as->title, as->title_size);
	as->titled = true;
}

void st_title_clear(const struct mapper *m)
{
	if (m->pid)
		write_title(m->pid, "", 0);
}

void st_title_set(struct aspace *pub, const char *text, size_t size)
{
	struct st_aspace *as = st_aspace(pub);

	GUARD(mutex, &as->mu);
	as->title = text;
	as->title_size = size;
	as->titled = false;
	st_title_show(as);
}
