/*
 * The zygote: a process whose memory is our pages only, from which every stub process is cloned. It shares
 * the sentry's descriptor table, so that stubs can map the sentry's files, and nothing else.
 */
#include <errno.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform/host/fpu.h"
#include "platform/stub/cpu.h"
#include "platform/stub/zygote.h"

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
 * into the page that unmaps all the rest; r12 = where the page is mapped for now, r13 = code_fd, r14 = args_fd.
 * Async-signal-safe only: the parent may have threads.
 */
NORETURN static void zygote_child(const struct zygote_code *code, int code_fd, int args_fd)
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
	if (code->prepare && code->prepare() < 0)
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
			 : "r"((char *)page + (code->entry - code->page[0])), "r"(r12), "r"(r13), "r"(r14)
			 : "memory");
	__builtin_unreachable();
}

/* Nothing is open yet: zygote_fini is harmless. */
void zygote_init(struct zygote *z)
{
	*z = (struct zygote){ .code_fd = -1, .args_fd = -1, .cpu = -1 };
}

/* Ends the zygote, not the stubs, and closes the files; argument pages stay mapped here. Also after a failed start. */
void zygote_fini(struct zygote *z)
{
	if (z->pid > 0) {
		kill(z->pid, SIGKILL);
		waitpid(z->pid, NULL, __WALL);
	}
	if (z->req)
		munmap(z->req, 4096);
	if (z->code_fd >= 0)
		close(z->code_fd);
	if (z->args_fd >= 0)
		close(z->args_fd);
}

/* Makes both files, whose first argument page is the mailbox. 0 or -errno. */
static int files_open(struct zygote *z, const struct zygote_code *code)
{
	void *req;

	z->code_fd = memfd_create("stub-code", MFD_CLOEXEC);
	z->args_fd = memfd_create("stub-args", MFD_CLOEXEC);
	if (z->code_fd < 0 || z->args_fd < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_COUNT(code->page) && code->page[i]; i++)
		if (pwrite(z->code_fd, code->page[i], 4096, (off_t)i * 4096) != 4096)
			return -errno;
	if (ftruncate(z->args_fd, 4096) < 0)
		return -errno;
	req = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, z->args_fd, 0);
	if (req == MAP_FAILED)
		return -errno;
	z->req = req;
	z->args_size = 4096;
	return 0;
}

/* Starts the zygote and waits until it is ready. Boot only. 0 or -errno. */
int zygote_start(struct zygote *z, const struct zygote_code *code)
{
	int err = files_open(z, code);
	long pid;

	if (err < 0)
		return err;
	z->req->failed = code->failed;
	z->req->pid = -EIO;
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		zygote_child(code, z->code_fd, z->args_fd);
	if (pid < 0)
		return -errno;
	z->pid = (pid_t)pid;
	err = wait_done(&z->req->done);
	return err < 0 ? err : z->req->pid;
}

/*
 * Asks for a stub process on cpu whose argument pages are at args_offset of the argument file. How it answers is its
 * code's to say; z->req->pid is its pid then, or -errno.
 */
void zygote_ask(struct zygote *z, uint64_t args_offset, int event_fd, int cpu)
{
	if (cpu != z->cpu)
		cpu_pin_task(cpu, z->pid);
	z->cpu = cpu;
	z->req->args_offset = args_offset;
	z->req->event_fd = (uint32_t)event_fd;
	z->req->pid = -EIO;
	atomic_fetch_add(&z->req->seq, 1);
	syscall(SYS_futex, &z->req->seq, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* The same for code that answers by `done`: sleeps for some 50 us. The pid, or -errno. */
pid_t zygote_clone(struct zygote *z, uint64_t args_offset, int cpu)
{
	int err;

	atomic_store(&z->req->done, 0);
	zygote_ask(z, args_offset, -1, cpu);
	err = wait_done(&z->req->done);
	return err < 0 ? err : z->req->pid;
}

/*
 * STUB_ARGS_SIZE more bytes at the end of the argument file, zero: where they are mapped here, for good, and in the
 * file. NULL: no memory.
 */
void *zygote_args_new(struct zygote *z, uint64_t *ret_offset)
{
	void *args;

	if (ftruncate(z->args_fd, (off_t)(z->args_size + STUB_ARGS_SIZE)) < 0)
		return NULL;
	args = mmap(NULL, STUB_ARGS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, z->args_fd, (off_t)z->args_size);
	if (args == MAP_FAILED)
		return NULL;
	*ret_offset = z->args_size;
	z->args_size += STUB_ARGS_SIZE;
	return args;
}
