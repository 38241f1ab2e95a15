/*
 * The zygote: a process whose memory is two pages, from which the mapper of every address space is
 * cloned. It shares the sentry's descriptor table, so that mappers can map the sentry's files and
 * listeners appear in the sentry, and nothing else.
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

#include "platform/host/fpu.h"
#include "platform/systrap/systrap_priv.h"

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

/* The handlers of the stub page, which all stubs inherit; raw, as the kernel has it. */
static int install_handlers(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, ST_KICK_SIGNAL };
	const struct {
		uint64_t handler, flags, restorer, mask;
	} action = { .handler = st_stub_address(systrap_stub_handler),
		     .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART | 0x04000000u };

	for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
		if (syscall(SYS_rt_sigaction, signals[i], &action, NULL, sizeof(action.mask)) < 0)
			return -errno;
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
	if (install_handlers() < 0)
		_exit(1);
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
			 : "r"((char *)page + (systrap_stub_zygote - systrap_stub_page_start)), "r"(r12), "r"(r13), "r"(r14)
			 : "memory");
	__builtin_unreachable();
}

/* Maps the mailbox and starts the zygote. Boot only. 0 or -errno. */
int st_zygote_start(struct st_platform *p)
{
	void *req;
	long pid;
	int err;

	if (pwrite(p->code_fd, systrap_stub_page_start, 4096, 0) != 4096 ||
	    pwrite(p->code_fd, systrap_fast_page_start, 4096, 4096) != 4096 || ftruncate(p->args_fd, 4096) < 0)
		return -errno;
	req = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p->args_fd, 0);
	if (req == MAP_FAILED)
		return -errno;
	p->req = req;
	p->args_size = 4096;
	p->zygote_cpu = -1;
	p->req->failed = ANSWER_NO_MAPPER;
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
 * Asks for a mapper process on cpu that works with m's pages. It answers when it has done what these say already;
 * p->req->pid is its pid then. birth_mu is held.
 */
void st_zygote_clone(struct st_platform *p, const struct mapper *m, int cpu)
{
	if (cpu != p->zygote_cpu)
		cpu_pin_task(cpu, p->zygote);
	p->zygote_cpu = cpu;
	p->req->args_offset = m->offset;
	p->req->event_fd = (uint32_t)m->event_fd;
	p->req->pid = -EIO;
	atomic_fetch_add(&p->req->seq, 1);
	syscall(SYS_futex, &p->req->seq, FUTEX_WAKE, 1, NULL, NULL, 0);
}
