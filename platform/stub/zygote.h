/* The process that all stub processes are cloned from; see zygote.c. */
#ifndef PLATFORM_STUB_ZYGOTE_H
#define PLATFORM_STUB_ZYGOTE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "platform/base/compiler.h"
#include "platform/stub/layout.h"

/* First page of the argument file. */
struct zygote_mailbox {
	_Atomic uint32_t seq, done;
	int32_t pid;          /* the newborn, or -errno */
	uint32_t event_fd;    /* systrap: the newborn's */
	uint64_t args_offset; /* the newborn's */
	uint64_t failed;      /* systrap, const: what is written to event_fd when there is no newborn */
};
_Static_assert(offsetof(struct zygote_mailbox, seq) == REQ_SEQ, "stub.S");
_Static_assert(offsetof(struct zygote_mailbox, done) == REQ_DONE, "stub.S");
_Static_assert(offsetof(struct zygote_mailbox, pid) == REQ_PID, "stub.S");
_Static_assert(offsetof(struct zygote_mailbox, event_fd) == REQ_EVENT_FD, "stub.S");
_Static_assert(offsetof(struct zygote_mailbox, args_offset) == REQ_ARGS_OFFSET, "stub.S");
_Static_assert(offsetof(struct zygote_mailbox, failed) == REQ_FAILED, "stub.S");

/* A backend's code: pages for the file that every stub maps. */
struct zygote_code {
	const char *page[2];  /* the second may be NULL */
	const char *entry;    /* in the first: where the zygote goes on, see zygote_child */
	int (*prepare)(void); /* what else it does in C before, async-signal-safe; NULL: nothing */
	uint64_t failed;      /* for the mailbox */
};

/* The caller allows one change at a time but for args, which may change beside. */
struct zygote {
	int code_fd, args_fd;     /* const after zygote_start */
	pid_t pid;                /* const after zygote_start; 0: there is none */
	struct zygote_mailbox *req;
	int cpu;                  /* that it is pinned to; -1: to none */
	uint64_t args_size;       /* bytes of the argument file */
};

void zygote_init(struct zygote *z);
void zygote_fini(struct zygote *z);
NODISCARD int zygote_start(struct zygote *z, const struct zygote_code *code);
void zygote_ask(struct zygote *z, uint64_t args_offset, int event_fd, int cpu);
NODISCARD pid_t zygote_clone(struct zygote *z, uint64_t args_offset, int cpu);
NODISCARD void *zygote_args_new(struct zygote *z, uint64_t *ret_offset);

#endif
