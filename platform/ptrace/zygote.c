/*
 * The zygote: a process whose memory is two pages, from which every stub process is cloned. It shares
 * the sentry's descriptor table, so that stubs can map the sentry's files, and nothing else.
 */
#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/fpu.h"
#include "platform/ptrace/ptrace_priv.h"

enum { BIRTH_SECONDS = 10, RSEQ_SIGNATURE = 0x53053053, RSEQ_UNREGISTER = 1 };

/* Sleeps until *word is not zero; -EIO when that takes far too long (the zygote was killed). */
static int wait_done(_Atomic uint32_t *word)
{
	struct timespec t = { .tv_sec = BIRTH_SECONDS };

	while (atomic_load(word) == 0) {
		if (syscall(SYS_futex, word, FUTEX_WAIT, 0, &t, NULL, 0) < 0 && errno == ETIMEDOUT)
			return -EIO;
	}
	return 0;
}

/*
 * The child's last steps in C: no privilege, no libc registration with the host kernel, then a jump
 * into the page that unmaps all the rest. Async-signal-safe only: the parent may have threads.
 */
NORETURN static void zygote_child(int code_fd, int args_fd)
{
	extern const ptrdiff_t __rseq_offset __attribute__((weak));
	extern const unsigned int __rseq_size __attribute__((weak));
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { 0 } };
	sigset_t none;
	void *page;

	sigemptyset(&none);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 1) < 0 || syscall(SYS_capset, &head, caps) < 0 ||
	    sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		_exit(1);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (&__rseq_size && __rseq_size)
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, RSEQ_UNREGISTER,
			RSEQ_SIGNATURE);
	syscall(SYS_set_robust_list, NULL, 24);
	page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, code_fd, 0);
	if (page == MAP_FAILED)
		_exit(1);
	register uint64_t r12 __asm__("r12") = (uint64_t)(uintptr_t)page;
	register uint64_t r13 __asm__("r13") = (uint64_t)code_fd;
	register uint64_t r14 __asm__("r14") = (uint64_t)args_fd;
	host_fpu_reset();
	__asm__ volatile("jmp *%0"
			 :
			 : "r"((char *)page + (stub_zygote - stub_page_start)), "r"(r12), "r"(r13), "r"(r14)
			 : "memory");
	__builtin_unreachable();
}

/* Maps the mailbox and starts the zygote. Boot only. 0 or -errno. */
int zygote_start(struct pt_platform *p)
{
	void *req;
	long pid;
	int err;

	if (pwrite(p->code_fd, stub_page_start, 4096, 0) != 4096 || ftruncate(p->args_fd, 4096) < 0)
		return -errno;
	req = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p->args_fd, 0);
	if (req == MAP_FAILED)
		return -errno;
	p->req = req;
	p->args_size = 4096;
	p->req->pid = -EIO;
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		zygote_child(p->code_fd, p->args_fd);
	if (pid < 0)
		return -errno;
	p->zygote = (pid_t)pid;
	err = wait_done(&p->req->done);
	return err < 0 ? err : p->req->pid;
}

/*
 * Makes a stub process on cpu whose argument pages are at args_offset of the argument file. Any
 * thread; sleeps for some 50 us. The pid, or -errno.
 */
pid_t zygote_clone(struct pt_platform *p, uint64_t args_offset, int cpu)
{
	cpu_set_t set;
	int err;

	GUARD(mutex, &p->zygote_mu);
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((size_t)cpu, &set);
		if (sched_setaffinity(p->zygote, sizeof(set), &set) < 0)
			log_debug("zygote: cannot move to cpu %d", cpu);
	}
	p->req->args_offset = args_offset;
	p->req->pid = -EIO;
	atomic_store(&p->req->done, 0);
	atomic_fetch_add(&p->req->seq, 1);
	syscall(SYS_futex, &p->req->seq, FUTEX_WAKE, 1, NULL, NULL, 0);
	err = wait_done(&p->req->done);
	return err < 0 ? err : p->req->pid;
}

/* Argument pages for one address space: a free slot, or a new one at the end of the file. NULL: no memory. */
struct args_slot *args_slot_new(struct pt_platform *p)
{
	struct args_slot *slot;
	void *op;

	GUARD(mutex, &p->mu);
	slot = list_first(&p->slots, struct args_slot, link);
	if (slot) {
		list_del(&slot->link);
		return slot;
	}
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	if (ftruncate(p->args_fd, (off_t)(p->args_size + STUB_ARGS_SIZE)) < 0)
		goto fail;
	op = mmap(NULL, STUB_ARGS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->args_fd,
		  (off_t)p->args_size);
	if (op == MAP_FAILED)
		goto fail;
	slot->op = op;
	slot->offset = p->args_size;
	p->args_size += STUB_ARGS_SIZE;
	list_init(&slot->link);
	return slot;
fail:
	free(slot);
	return NULL;
}

/* Gives a slot back; no stub that maps it may be told to run a batch again. */
void args_slot_free(struct pt_platform *p, struct args_slot *slot)
{
	if (!slot)
		return;
	GUARD(mutex, &p->mu);
	list_add(&p->slots, &slot->link);
}
