/*
 * Births of address spaces and guest threads on the systrap backend, when nothing goes as it should: another thread of the
 * guest writes where the newborn does, the host has no descriptor, stubs are killed. Nothing may be left behind.
 */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "platform/systrap/systrap_priv.h"
#include "tests/lib/test.h"

enum { CODE = 0x400000, LOOP_GETPID = 0, STORE = 32, IDLE_PROCESSES = 16 };

static struct platform *platform;
static int code_fd;

static const struct platform_ops *const ops = &platform_systrap;

static void open_platform(void)
{
	/* 1: mov $39,%eax; syscall; jmp 1b */
	static const uint8_t loop_getpid[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };
	static const uint8_t store[] = { 0x89, 0x07, 0xeb, 0xfc }; /* 1: mov %eax,(%rdi); jmp 1b */

	code_fd = memfd_create("code", 0);
	CHECK(code_fd >= 0 && ftruncate(code_fd, 4096) == 0);
	CHECK(pwrite(code_fd, loop_getpid, sizeof(loop_getpid), LOOP_GETPID) == sizeof(loop_getpid));
	CHECK(pwrite(code_fd, store, sizeof(store), STORE) == sizeof(store));
	CHECK_EQ(ops->open(code_fd, &platform), 0);
}

static struct aspace *space_new(void)
{
	const struct aspace_op op = { .kind = ASPACE_MAP, .addr = CODE, .size = 4096, .host_fd = code_fd,
				      .prot = PLATFORM_READ | PLATFORM_EXEC };
	struct aspace *as;

	CHECK_EQ(ops->aspace_new(platform, &as), 0);
	ops->aspace_update(as, NULL, &op, 1);
	return as;
}

static struct pcontext *context_at(uint64_t offset)
{
	struct pcontext *ctx;

	CHECK_EQ(ops->context_new(platform, &ctx), 0);
	ctx->regs.rip = CODE + offset;
	platform_regs_dirty(ctx);
	return ctx;
}

/* A whole guest process with one system call. */
static bool guest_runs(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(LOOP_GETPID);
	bool ok = ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == 39;

	ops->context_free(ctx);
	ops->aspace_free(as);
	return ok;
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int count = 0;

	CHECK(d != NULL);
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

/* The stubs: processes whose parent is this one. */
static int stubs(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int count = 0;

	CHECK(d != NULL);
	while ((e = readdir(d))) {
		char path[300], state;
		int parent = 0;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		f = e->d_name[0] >= '0' && e->d_name[0] <= '9' ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		count += fscanf(f, "%*d (%*[^)]) %c %d", &state, &parent) == 2 && parent == getpid();
		fclose(f);
	}
	closedir(d);
	return count;
}

/* Killed stubs take a moment. */
static int stubs_at_last(int most)
{
	int n = stubs();

	for (int i = 0; i < 2000 && n > most; i++) {
		usleep(1000);
		n = stubs();
	}
	return n;
}

struct sibling {
	struct aspace *as;
	uint64_t address;
	uint32_t value;
	_Atomic(struct pcontext *) ctx;
	_Atomic int faults;
	_Atomic bool stop;
	pthread_t thread;
};

static void *sibling_main(void *arg)
{
	struct sibling *s = arg;
	struct pcontext *ctx = context_at(STORE);

	ctx->regs.rdi = s->address;
	ctx->regs.rax = s->value;
	s->ctx = ctx;
	while (!s->stop && ops->context_switch(ctx, s->as) != SWITCH_DEAD)
		s->faults++;
	ops->context_free(ctx);
	return NULL;
}

/* Where the next newborn of as has its mailbox. */
static uint64_t next_mailbox(struct aspace *as)
{
	struct st_platform *p = st_platform(platform);
	struct area_slot *slot = list_first(&st_aspace(as)->mapper->areas, struct area_slot, link);

	return st_area_address(slot ? slot : list_first(&p->areas, struct area_slot, link)) + AREA_MAILBOX;
}

/* A thread stores value in the newborn's mailbox from before its birth on. Returns what came of the birth. */
static int hostile_birth(uint32_t value)
{
	struct sibling s = { .as = space_new(), .value = value };
	struct pcontext *ctx = context_at(LOOP_GETPID);
	int err;

	CHECK_EQ(ops->context_switch(ctx, s.as), SWITCH_SYSCALL);
	CHECK_EQ(ops->aspace_reserve(s.as, ctx), 0);
	s.address = next_mailbox(s.as);
	CHECK_EQ(pthread_create(&s.thread, NULL, sibling_main, &s), 0);
	for (int i = 0; i < 100 && s.faults < 2; i++) /* unless the area is mapped already */
		usleep(100);
	err = ops->aspace_reserve(s.as, ctx);
	s.stop = true;
	ops->context_interrupt(s.ctx);
	pthread_join(s.thread, NULL);
	if (err == -ESRCH) /* the host's processes of this guest are dead; no other is */
		CHECK_EQ(ops->context_switch(ctx, s.as), SWITCH_DEAD);
	ops->context_free(ctx);
	ops->aspace_free(s.as);
	CHECK(guest_runs());
	return err;
}

TEST_TIMED(hostile_births, 60)
{
	static const uint32_t values[] = { (uint32_t)-1, (uint32_t)-EMFILE, 0, 1, 4, 5, 100, INT32_MAX };
	int fds, born = 0;

	open_platform();
	CHECK(guest_runs());
	fds = descriptors();
	for (int round = 0; round < 5; round++)
		for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
			int err = hostile_birth(values[i]);

			CHECK(err == 0 || err == -EAGAIN || err == -ESRCH);
			born += err == 0;
		}
	CHECK(born > 0); /* what the sibling writes does not decide */
	CHECK(descriptors() <= fds + IDLE_PROCESSES);
	CHECK(stubs_at_last(IDLE_PROCESSES) <= IDLE_PROCESSES);
	ops->close(platform);
	CHECK_EQ(stubs_at_last(0), 0);
}

/* Each number of descriptors that is too small: an error, not the end of anything, and nothing lost. */
TEST_TIMED(no_descriptors, 60)
{
	struct rlimit limit, less;
	struct aspace *as;
	struct pcontext *ctx;
	int fds, refused = 0;

	open_platform();
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	as = space_new();
	ctx = context_at(LOOP_GETPID);
	CHECK_EQ(ops->context_switch(ctx, as), SWITCH_SYSCALL);
	do /* the limit is on numbers: no holes */
		fds = dup(code_fd);
	while (fds < descriptors() - 4); /* ., .. and the directory itself were counted */
	close(fds);
	for (int more = 0; more < 4; more++) {
		struct aspace *child = space_new();
		int err;

		less = limit;
		less.rlim_cur = (rlim_t)(fds + more);
		CHECK(setrlimit(RLIMIT_NOFILE, &less) == 0);
		CHECK_EQ(prlimit(st_platform(platform)->zygote.pid, RLIMIT_NOFILE, &less, NULL), 0);
		err = ops->aspace_prepare(child, ctx);
		CHECK(err == 0 || err == -EAGAIN || err == -ENOMEM);
		refused += err < 0;
		CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
		CHECK_EQ(prlimit(st_platform(platform)->zygote.pid, RLIMIT_NOFILE, &limit, NULL), 0);
		ops->aspace_free(child);
		/* idle mappers would spare the next one its descriptors */
		for (struct mapper *m; (m = list_first(&st_platform(platform)->idle, struct mapper, link));) {
			CHECK(st_mapper_take(st_platform(platform)) == m);
			st_mapper_give(st_platform(platform), m, false, false);
		}
		CHECK_EQ(ops->context_switch(ctx, as), SWITCH_SYSCALL);
	}
	CHECK(refused >= 2); /* the eventfd, the listener */
	ops->context_free(ctx);
	ops->aspace_free(as);
	CHECK(guest_runs());
	CHECK(descriptors() <= fds + 8);
	ops->close(platform);
	CHECK_EQ(stubs_at_last(0), 0);
}

/* An idle mapper or its thread was killed by the host: the next guest may die of it, the one after that runs. */
TEST_TIMED(killed_while_idle, 60)
{
	int ran = 0;

	open_platform();
	for (int i = 0; i < 3; i++) {
		struct mapper *m;

		CHECK(guest_runs() || guest_runs());
		m = list_first(&st_platform(platform)->idle, struct mapper, link);
		CHECK(m != NULL);
		kill(list_first(&m->waiting, struct stub_thread, link)->pid, SIGKILL);
		usleep(20000);
		ran += guest_runs();
	}
	CHECK_EQ(ran, 3); /* a dead thread is noticed and replaced */
	ops->close(platform);
	CHECK_EQ(stubs_at_last(0), 0);
}

/* Many processes one after the other and many at once: bounded leftovers. */
TEST_TIMED(many, 60)
{
	enum { N = 40 };
	struct aspace *as[N];
	struct pcontext *ctx[N];
	int fds;

	open_platform();
	for (int i = 0; i < 300; i++)
		CHECK(guest_runs());
	fds = descriptors();
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < N; i++) {
			as[i] = space_new();
			ctx[i] = context_at(LOOP_GETPID);
			CHECK_EQ(ops->context_switch(ctx[i], as[i]), SWITCH_SYSCALL);
		}
		for (int i = 0; i < N; i++) {
			ops->context_free(ctx[i]);
			ops->aspace_free(as[i]);
		}
	}
	CHECK(stubs_at_last(IDLE_PROCESSES) <= IDLE_PROCESSES);
	CHECK(descriptors() <= fds + N + IDLE_PROCESSES); /* the pages' eventfds are kept */
	ops->close(platform);
	CHECK_EQ(stubs_at_last(0), 0);
}
