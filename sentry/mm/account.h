/*
 * Memory accounts: what each container uses of the guest memory file, and its limit. A frame is charged to the
 * account of the thread that allocated it and given back to that account when it is freed, whoever frees it.
 * Analogue: mm/memcontrol.c.
 *
 * Frames are charged when they are handed out, in blocks, before the guest touches them; so a charge
 * is an upper bound of what is used, and as long as it is below the limit nobody has to look. At the limit the
 * kernel's handler takes back what was not touched (mm_trim), after which the charge is exact.
 */
#ifndef SENTRY_MM_ACCOUNT_H
#define SENTRY_MM_ACCOUNT_H

#include "platform/base/compiler.h"
#include "sentry/core/mappable.h"

#define MEMORY_NO_LIMIT UINT64_MAX

struct memory_account {
	_Atomic uint64_t limit;	   /* bytes; MEMORY_NO_LIMIT: none */
	_Atomic uint64_t charged;  /* bytes; written under the memory file's lock */
	_Atomic uint64_t peak;	   /* bytes used: the most that anybody saw */
	_Atomic uint64_t failures; /* allocations that were refused for the limit */
	_Atomic bool open;	   /* has an owner; a closed one is used again when nothing is charged */
};

/* An account without a limit; NULL when there are too many (memory of ended containers may keep theirs). Any thread. */
struct memory_account *memory_account_open(void);
/* The owner is gone; frames charged to it may be left. NULL is fine. */
void memory_account_close(struct memory_account *a);
/* Bytes that can still be charged. */
uint64_t memory_account_room(const struct memory_account *a);

/* Bytes that were charged beyond the limit. */
uint64_t memory_account_excess(const struct memory_account *a);

/* Pages that are there, not only handed out, in bytes; looks at every frame of the account. Any thread, may take long. */
struct memory_use { uint64_t anon, shmem, pipe, total; };
void memory_account_use(struct memory_account *a, struct memory_use *ret);

/* The total alone; cheaper, and up to 4 MiB too much, when it is large and nobody else has memory. */
uint64_t memory_account_used(struct memory_account *a);

/* Which account the calling thread's allocations are charged to; NULL (every thread's first): nobody's, no limit. */
void memory_set_self(struct memory_account *a);
struct memory_account *memory_self(void);

/*
 * What the kernel does when an allocation of size bytes failed for a limit; set once at boot. Called on the thread
 * that failed, without mm locks. in_call: other locks may be held, it does not sleep; else it may sleep as long
 * as the task is not killed. True: try again.
 */
typedef bool (*memory_relief_fn)(struct memory_account *a, uint64_t size, bool in_call);
void memory_set_relief(memory_relief_fn fn);
/* Lets the calling thread's allocations exceed the limit by at most size bytes, until it is told 0: a system call
 * goes to its end before the task settles what it took too much. */
void memory_exceed(uint64_t size);

#endif
