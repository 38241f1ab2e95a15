/* Memory accounts. The charges themselves are in memfile.c, under its lock. */
#include "sentry/mm/account.h"

#include <stdatomic.h>

#include "sentry/mm/account_priv.h"
#include "sentry/state/desc.h"

/* Up to so much a scan takes no more than some milliseconds. */
#define SCAN_CHEAP (128ull << 20)

static struct memory_account accounts[ACCOUNTS_MAX]; /* the first: nobody's */
static memory_relief_fn relief;			      /* const after boot */
static _Thread_local struct memory_account *self;
static _Thread_local uint64_t refused; /* bytes of the last allocation that failed for the limit; 0: none since it was asked for */
static _Thread_local uint64_t exceed;  /* bytes */

struct memory_account *memory_account_open(void)
{
	for (unsigned i = 1; i < ACCOUNTS_MAX; i++) {
		struct memory_account *a = &accounts[i];

		if (a->open || a->charged || atomic_exchange(&a->open, true))
			continue;
		a->limit = MEMORY_NO_LIMIT;
		a->peak = a->failures = 0;
		return a;
	}
	return NULL;
}

void memory_account_close(struct memory_account *a)
{
	if (a)
		a->open = false;
}

uint64_t memory_account_room(const struct memory_account *a)
{
	uint64_t limit = a->limit, charged = a->charged;

	return limit == MEMORY_NO_LIMIT ? MEMORY_NO_LIMIT : limit > charged ? limit - charged : 0;
}

uint64_t memory_account_excess(const struct memory_account *a)
{
	uint64_t limit = a->limit, charged = a->charged;

	return charged > limit ? charged - limit : 0;
}

unsigned account_id(const struct memory_account *a)
{
	return (unsigned)(a - accounts);
}

struct memory_account *account_by_id(unsigned id)
{
	return &accounts[id % ACCOUNTS_MAX];
}

bool account_charge(struct memory_account *a, uint64_t size)
{
	uint64_t charged = atomic_load_explicit(&a->charged, memory_order_relaxed) + size;
	uint64_t limit = atomic_load_explicit(&a->limit, memory_order_relaxed);

	if (unlikely(charged > limit)) {
		if (charged - limit > exceed) {
			refused = size;
			return false;
		}
	}
	atomic_store_explicit(&a->charged, charged, memory_order_relaxed);
	return true;
}

void account_uncharge(struct memory_account *a, uint64_t size)
{
	atomic_store_explicit(&a->charged, atomic_load_explicit(&a->charged, memory_order_relaxed) - size,
			      memory_order_relaxed);
}

static void note_peak(struct memory_account *a, uint64_t used)
{
	uint64_t peak = a->peak;

	while (peak < used && !atomic_compare_exchange_weak(&a->peak, &peak, used))
		;
}

void memory_account_use(struct memory_account *a, struct memory_use *ret)
{
	uint64_t by_kind[MEMFILE_KINDS] = { 0 };

	memfile_scan(main_memfile, account_id(a), by_kind);
	*ret = (struct memory_use){ by_kind[MEMFILE_ANON], by_kind[MEMFILE_TMPFS], by_kind[MEMFILE_PIPE], 0 };
	ret->total = ret->anon + ret->shmem + ret->pipe;
	note_peak(a, ret->total);
}

uint64_t memory_account_used(struct memory_account *a)
{
	struct memory_use use;
	uint64_t used;

	bool alone = true;

	for (unsigned i = 1; i < ACCOUNTS_MAX; i++)
		alone &= &accounts[i] == a || !accounts[i].charged;
	if (!alone || a->charged <= SCAN_CHEAP) {
		memory_account_use(a, &use);
		return use.total;
	}
	used = MIN(memfile_held(main_memfile), (uint64_t)a->charged);
	note_peak(a, used);
	return used;
}

void memory_set_self(struct memory_account *a)
{
	self = a;
}

struct memory_account *memory_self(void)
{
	return self ? self : &accounts[0];
}

void memory_set_relief(memory_relief_fn fn)
{
	relief = fn;
}

bool memory_relieve(bool in_call)
{
	uint64_t size = refused;

	refused = 0;
	if (!size || !self || !relief)
		return false;
	atomic_fetch_add(&self->failures, 1);
	return relief(self, size, in_call);
}

void memory_exceed(uint64_t size)
{
	exceed = size;
}

/* Boot: nobody's account has no limit. */
void accounts_init(void)
{
	accounts[0].limit = MEMORY_NO_LIMIT;
	accounts[0].open = true;
}

STATE_DESC(memory_account, S_VAL(memory_account, 1, limit), S_VAL(memory_account, 2, charged),
	   S_VAL(memory_account, 3, peak), S_VAL(memory_account, 4, failures), S_VAL(memory_account, 5, open));
