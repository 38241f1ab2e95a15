/*
 * Address spaces: four levels of page tables that the sentry edits in place, at once and while guests may run in them.
 * See README.md, "Changes of an address space".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/clock.h"
#include "platform/kvm/kvm_priv.h"

enum { KICK_NS = 2000000, LEVELS = 4, ENTRIES = 512, USER_ENTRIES = KV_R0_ROOT_FIRST, ZAP_GAP = 16 };
/* A larger mapping is made around the place that the caller faulted at, or from its start on. */
static const uint64_t MAP_MAX = 32ull << 20;
static const uint64_t TABLE_ENTRY = PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED;
static const uint64_t LARGE_REACH = KV_PAGE * ENTRIES; /* of one lowest table */

/* Frames whose translations have to go, collected while entries change: contiguous or nearly so. */
struct zap {
	struct kv_platform *p;
	uint64_t start, end; /* guest-physical */
};

static void zap_flush(struct zap *z)
{
	if (z->start != z->end)
		kv_window_zap(z->p, z->start, z->end - z->start);
	z->start = z->end = 0;
}

static void zap_add(struct zap *z, uint64_t gpa)
{
	if (z->start == z->end) {
		z->start = gpa;
		z->end = gpa + KV_PAGE;
	} else if (gpa >= z->start && gpa < z->end + ZAP_GAP * KV_PAGE && gpa / KV_SLOT == z->start / KV_SLOT) {
		z->end = MAX(z->end, gpa + KV_PAGE);
	} else {
		zap_flush(z);
		zap_add(z, gpa);
	}
}

/* ---- the tree of tables; as->mu is held ---- */

static unsigned int index_at(uint64_t addr, int level)
{
	return (unsigned int)(addr >> (12 + 9 * (level - 1))) % ENTRIES;
}

/* Bytes that one entry of a table of this level covers. */
static uint64_t entry_reach(int level)
{
	return 1ull << (12 + 9 * (level - 1));
}

static struct kv_table child_of(struct kv_platform *p, uint64_t entry)
{
	return kv_table_at(p, kv_table_number(entry & PTE_ADDR));
}

/* Lowest table for addr; entry NULL and *ret_next the next address that could have one when there is none. */
static struct kv_table lowest(struct kv_aspace *as, uint64_t addr, uint64_t *ret_next)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	struct kv_table t = as->root;

	for (int level = LEVELS; level > 1; level--) {
		uint64_t e = atomic_load_explicit(&t.entry[index_at(addr, level)], memory_order_relaxed);

		if (!(e & PTE_PRESENT)) {
			*ret_next = ALIGN_DOWN(addr, entry_reach(level)) + entry_reach(level);
			return (struct kv_table){ 0, NULL };
		}
		t = child_of(p, e);
	}
	return t;
}

static int table_add(struct kv_aspace *as, uint32_t *ret_number)
{
	if (as->table_count == KV_SPACE_TABLES)
		return -ENOSPC;
	if (as->table_count == as->table_room) {
		uint32_t room = as->table_room * 2 + 16, *grown = reallocarray(as->table, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		as->table = grown;
		as->table_room = room;
	}
	if (kv_table_new(kv_platform(as->pub.platform), ret_number) < 0)
		return -ENOSPC;
	as->table[as->table_count++] = *ret_number;
	return 0;
}

/* The same, made when it is not there. 0, -ENOSPC or -ENOMEM. */
static int lowest_make(struct kv_aspace *as, uint64_t addr, struct kv_table *ret_table)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	struct kv_table t = as->root;

	for (int level = LEVELS; level > 1; level--) {
		_Atomic uint64_t *at = &t.entry[index_at(addr, level)];
		uint64_t e = atomic_load_explicit(at, memory_order_relaxed);

		if (!(e & PTE_PRESENT)) {
			uint32_t number;
			int err = table_add(as, &number);

			if (err < 0)
				return err;
			e = kv_table_at(p, number).gpa | TABLE_ENTRY;
			atomic_store_explicit(at, e, memory_order_release);
		}
		t = child_of(p, e);
	}
	*ret_table = t;
	return 0;
}

/* Drops the references of the entries of one lowest table. p->mu is held. */
static void table_put_frames_locked(struct kv_platform *p, struct kv_table t)
{
	uint64_t gpa = 0, count = 0;

	for (unsigned int i = 0; i < ENTRIES; i++) {
		uint64_t e = atomic_load_explicit(&t.entry[i], memory_order_relaxed);

		if (!(e & PTE_PRESENT))
			continue;
		if (count && (e & PTE_ADDR) / KV_WINDOW == gpa / KV_WINDOW) {
			count++;
			continue;
		}
		if (count)
			kv_window_put_locked(p, gpa, count);
		gpa = e & PTE_ADDR;
		count = 1;
	}
	if (count)
		kv_window_put_locked(p, gpa, count);
}

static void put_frames_locked(struct kv_platform *p, struct kv_table t, int level, unsigned int entries)
{
	if (level == 1) {
		table_put_frames_locked(p, t);
		return;
	}
	for (unsigned int i = 0; i < entries; i++) {
		uint64_t e = atomic_load_explicit(&t.entry[i], memory_order_relaxed);

		if (e & PTE_PRESENT)
			put_frames_locked(p, child_of(p, e), level - 1, ENTRIES);
	}
}

/* Gives all tables and frames back. Nobody runs in as; p->mu is held. */
static void release_locked(struct kv_aspace *as)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	uint32_t root;

	if (!as->root.entry)
		return;
	put_frames_locked(p, as->root, LEVELS, USER_ENTRIES);
	kv_tables_free_locked(p, as->table, as->table_count);
	root = kv_table_number(as->root.gpa);
	kv_tables_free_locked(p, &root, 1);
	as->table_count = 0;
	as->root = (struct kv_table){ 0, NULL };
}

static int root_new(struct kv_aspace *as)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	uint32_t number;
	int err = kv_table_new(p, &number);

	if (err < 0)
		return err;
	as->root = kv_table_at(p, number);
	kv_ring0_root(p, as->root);
	atomic_store_explicit(&as->root.entry[p->kernel_index], p->kernel_entry, memory_order_release);
	return 0;
}

/* ---- life ---- */

/* A new empty address space with one reference. Any thread. 0 or -ENOMEM. */
int kv_aspace_new(struct platform *platform, struct aspace **ret_as)
{
	struct kv_platform *p = kv_platform(platform);
	struct kv_aspace *as = calloc(1, sizeof(*as));
	int err;

	if (!as)
		return -ENOMEM;
	as->pub.ops = p->pub.ops;
	as->pub.platform = platform;
	err = root_new(as);
	if (err < 0) {
		free(as);
		return err;
	}
	as->refs = 1;
	mutex_init(&as->mu, 0);
	cond_init(&as->stopped);
	list_init(&as->contexts);
	mutex_lock(&p->mu);
	list_add_tail(&p->spaces, &as->link);
	mutex_unlock(&p->mu);
	*ret_as = &as->pub;
	return 0;
}

/* Drops one reference; as->mu is held and released. */
static void put_locked(struct kv_aspace *as)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	bool last = --as->refs == 0;

	mutex_unlock(&as->mu);
	if (!last)
		return;
	mutex_lock(&p->mu);
	list_del(&as->link);
	release_locked(as);
	mutex_unlock(&p->mu);
	cond_fini(&as->stopped);
	mutex_fini(&as->mu);
	free(as->table);
	free(as);
}

/* The owner's put; contexts that still live in the space keep it until they move on. */
void kv_aspace_free(struct aspace *pub)
{
	struct kv_aspace *as;

	if (!pub)
		return;
	as = kv_aspace(pub);
	mutex_lock(&as->mu);
	put_locked(as);
}

/* ctx lives in as from now on, and holds a reference. */
void kv_aspace_attach(struct kv_aspace *as, struct kv_context *ctx)
{
	GUARD(mutex, &as->mu);
	list_add_tail(&as->contexts, &ctx->link);
	as->refs++;
	ctx->as = as;
}

/* The opposite; harmless when it lives nowhere. */
void kv_aspace_detach(struct kv_context *ctx)
{
	struct kv_aspace *as = ctx->as;

	if (!as)
		return;
	mutex_lock(&as->mu);
	list_del(&ctx->link);
	ctx->as = NULL;
	put_locked(as);
}

/* ---- who runs ---- */

/* Counts the caller among those that run guest code in as; waits while the space is being emptied. */
void kv_aspace_enter(struct kv_aspace *as)
{
	for (;;) {
		atomic_fetch_add(&as->running, 1);
		if (likely(!atomic_load(&as->stopping)))
			return;
		kv_aspace_leave(as);
		GUARD(mutex, &as->mu); /* whoever empties it holds it for as long */
	}
}

void kv_aspace_leave(struct kv_aspace *as)
{
	atomic_fetch_sub(&as->running, 1);
	/* Without the lock, which the caller may hold when it is on its way out of ring 0; who waits looks again soon. */
	if (unlikely(atomic_load(&as->stopping)))
		cond_broadcast(&as->stopped);
}

/* Returns when no vCPU runs in as; none enters until start_locked. */
static void stop_locked(struct kv_aspace *as)
{
	struct kv_context *ctx;

	atomic_store(&as->stopping, 1);
	while (atomic_load(&as->running) > 0) {
		list_for_each(ctx, &as->contexts, link)
			kv_context_kick(ctx);
		cond_wait_until(&as->stopped, &as->mu, host_monotonic_ns() + KICK_NS);
	}
}

/*
 * Empties the space: other tables, no frame. A new root is sure to be had, since the old tables are free by then. p->mu is not
 * held.
 */
static void wipe_locked(struct kv_aspace *as)
{
	struct kv_platform *p = kv_platform(as->pub.platform);

	stop_locked(as);
	mutex_lock(&p->mu);
	release_locked(as);
	mutex_unlock(&p->mu);
	as->broken = root_new(as) < 0;
	atomic_store(&as->stopping, 0);
}

/* Some space that was not looked at in this round and that nobody changes now: locked, with a reference. */
static struct kv_aspace *next_to_wipe(struct kv_platform *p, const struct kv_aspace *self, uint64_t round)
{
	struct kv_aspace *as;

	GUARD(mutex, &p->mu);
	list_for_each(as, &p->spaces, link) {
		if (as == self || as->wipe_round == round)
			continue;
		as->wipe_round = round;
		if (!mutex_trylock(&as->mu))
			continue;
		if (as->refs) {
			as->refs++;
			return as;
		}
		mutex_unlock(&as->mu); /* its last user is on the way to p->mu */
	}
	return NULL;
}

/*
 * Tables or windows are used up: empties this space, and when that was not enough, every other one too. A space is a
 * cache: its guests fault their pages in again.
 */
static void make_room_locked(struct kv_aspace *as, int attempt)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	struct kv_aspace *other;
	uint64_t round;

	log_debug("kvm: out of tables or windows: emptying %s", attempt ? "every space" : "a space");
	wipe_locked(as);
	if (!attempt)
		return;
	round = atomic_fetch_add(&p->wipe_round, 1) + 1;
	while ((other = next_to_wipe(p, as, round))) {
		wipe_locked(other);
		put_locked(other);
	}
}

/* ---- changes ---- */

static uint64_t entry_of(uint64_t gpa, uint8_t prot)
{
	return gpa | PTE_PRESENT | PTE_USER | ((prot & PLATFORM_WRITE) ? PTE_WRITE | PTE_DIRTY : 0) |
	       ((prot & PLATFORM_EXEC) ? 0 : PTE_NX);
}

/* True when a translation made from old would allow what new does not, or lead elsewhere. */
static bool narrows(uint64_t old, uint64_t new)
{
	return !(new & PTE_PRESENT) || ((old ^ new) & PTE_ADDR) || ((old & ~new) & PTE_WRITE) ||
	       ((new & ~old) & PTE_NX) || old == new;
}

/*
 * Replaces one entry. The processor, or KVM in its place, sets the accessed bit before it keeps a translation: without
 * it there is none to take away. With it the bit stays, for the next change. Adds to *z what must be zapped.
 */
static uint64_t entry_set(_Atomic uint64_t *at, uint64_t new, struct zap *z)
{
	uint64_t old = atomic_load_explicit(at, memory_order_relaxed), value;

	do {
		value = new;
		if ((new & PTE_PRESENT) && (old & PTE_PRESENT) && !((old ^ new) & PTE_ADDR))
			value |= old & PTE_ACCESSED;
	} while (!atomic_compare_exchange_weak(at, &old, value));
	if ((old & PTE_PRESENT) && (old & PTE_ACCESSED) && narrows(old, value))
		zap_add(z, old & PTE_ADDR);
	return old;
}

/* References of entries that were replaced: dropped after their translations are gone. */
struct puts {
	uint64_t gpa, count;
};

static void puts_flush(struct zap *z, struct puts *d)
{
	if (!d->count)
		return;
	zap_flush(z);
	kv_window_put(z->p, d->gpa, d->count);
	d->count = 0;
}

static void puts_add(struct zap *z, struct puts *d, uint64_t old)
{
	uint64_t gpa = old & PTE_ADDR;

	if (!(old & PTE_PRESENT))
		return;
	if (d->count && gpa / KV_WINDOW != d->gpa / KV_WINDOW)
		puts_flush(z, d);
	d->gpa = gpa;
	d->count++;
}

/* Unmaps [addr, end), or gives it prot when that is not 0. */
static void change_locked(struct kv_aspace *as, uint64_t addr, uint64_t end, uint8_t prot, struct zap *z)
{
	struct puts d = { 0, 0 };

	while (addr < end) {
		uint64_t next, stop = MIN(end, ALIGN_DOWN(addr, LARGE_REACH) + LARGE_REACH);
		struct kv_table t = lowest(as, addr, &next);

		if (!t.entry) {
			addr = next;
			continue;
		}
		for (; addr < stop; addr += KV_PAGE) {
			_Atomic uint64_t *at = &t.entry[index_at(addr, 1)];
			uint64_t e = atomic_load_explicit(at, memory_order_relaxed);

			if (!(e & PTE_PRESENT))
				continue;
			if (prot)
				entry_set(at, entry_of(e & PTE_ADDR, prot), z);
			else
				puts_add(z, &d, entry_set(at, 0, z));
		}
	}
	puts_flush(z, &d);
}

/* Maps [addr, addr + size), which lies in one window and one lowest table. 0 or -errno. */
static int map_piece_locked(struct kv_aspace *as, const struct kv_file *file, uint64_t addr, uint64_t size,
			    uint64_t offset, uint8_t prot, struct zap *z)
{
	struct puts d = { 0, 0 };
	struct kv_table t;
	uint64_t gpa;
	int err = lowest_make(as, addr, &t);

	if (err == 0)
		err = kv_window_get(z->p, file, offset, size / KV_PAGE, &gpa);
	if (err < 0)
		return err;
	for (uint64_t at = 0; at < size; at += KV_PAGE)
		puts_add(z, &d, entry_set(&t.entry[index_at(addr + at, 1)], entry_of(gpa + at, prot), z));
	puts_flush(z, &d);
	return 0;
}

static int map_range_locked(struct kv_aspace *as, const struct kv_file *file, const struct aspace_op *op,
			    uint64_t start, uint64_t end, struct zap *z)
{
	while (start < end) {
		uint64_t offset = op->offset + (start - op->addr);
		uint64_t size = MIN(end - start, ALIGN_DOWN(start, LARGE_REACH) + LARGE_REACH - start);
		int err;

		size = MIN(size, KV_WINDOW - offset % KV_WINDOW);
		err = map_piece_locked(as, file, start, size, offset, op->prot, z);
		if (err < 0)
			return err;
		start += size;
	}
	return 0;
}

static void map_locked(struct kv_aspace *as, const struct kv_context *self, const struct aspace_op *op, struct zap *z)
{
	uint64_t start = op->addr, end = op->addr + op->size, near = self ? self->pub.fault.addr : 0;
	struct kv_file file;
	int err;

	if (start < KV_USER_MIN || end < start || end > KV_USER_MAX)
		return;
	err = kv_file_of(z->p, op->host_fd, &file);
	if (op->size > MAP_MAX) {
		if (near >= start && near < end)
			start += ALIGN_DOWN(near - start, MAP_MAX);
		end = MIN(end, start + MAP_MAX);
		change_locked(as, op->addr, start, 0, z);
		change_locked(as, end, op->addr + op->size, 0, z);
	}
	for (int attempt = 0; err == 0 && attempt < 3; attempt++) {
		err = map_range_locked(as, &file, op, start, end, z);
		if (err != -ENOSPC)
			break;
		zap_flush(z);
		make_room_locked(as, attempt);
		err = as->broken ? -ENOMEM : 0;
	}
	if (err == 0)
		return;
	log_debug("kvm: refused a mapping of 0x%llx+0x%llx: %d", (unsigned long long)op->addr,
		  (unsigned long long)op->size, err);
	if (err == -ENOMEM || err == -ENOSPC)
		as->broken = true; /* the guest would fault for ever */
	else
		change_locked(as, start, end, 0, z);
}

/* platform_ops.aspace_update: at once; translations that became wrong are gone when it returns. */
void kv_aspace_update(struct aspace *pub, struct pcontext *self, const struct aspace_op *op, size_t count)
{
	struct kv_aspace *as = kv_aspace(pub);
	struct zap z = { .p = kv_platform(pub->platform) };

	GUARD(mutex, &as->mu);
	for (size_t i = 0; i < count && !as->broken; i++) {
		uint64_t end = MIN(op[i].addr + op[i].size, (uint64_t)KV_USER_MAX);

		if (op[i].kind == ASPACE_MAP)
			map_locked(as, self ? kv_context(self) : NULL, &op[i], &z);
		else
			change_locked(as, op[i].addr, end, op[i].kind == ASPACE_PROTECT ? op[i].prot : 0, &z);
	}
	zap_flush(&z);
}

/* ---- looks into a space ---- */

/*
 * Copies size bytes of guest memory, at most 8 within one page, as the guest could read them. By way of a pipe: the host may
 * have cut the file short, which is an error of write(2) but the end of whoever touches the page. 0 or -EFAULT.
 */
int kv_aspace_peek(struct kv_aspace *as, uint64_t addr, void *buf, size_t size)
{
	struct kv_platform *p = kv_platform(as->pub.platform);
	uint64_t next, e;
	struct kv_table t;

	if (addr < KV_USER_MIN || addr >= KV_USER_MAX || size > KV_PAGE - addr % KV_PAGE)
		return -EFAULT;
	GUARD(mutex, &as->mu);
	t = lowest(as, addr, &next);
	e = t.entry ? atomic_load_explicit(&t.entry[index_at(addr, 1)], memory_order_relaxed) : 0;
	if (!(e & PTE_PRESENT))
		return -EFAULT;
	GUARD(mutex, &p->peek_mu);
	if (write(p->peek_fd[1], kv_window_address(p, e & PTE_ADDR) + addr % KV_PAGE, size) != (ssize_t)size)
		return -EFAULT;
	return read(p->peek_fd[0], buf, size) == (ssize_t)size ? 0 : -EFAULT;
}

static uint64_t find_in(struct kv_platform *p, struct kv_table t, int level, unsigned int entries, uint64_t gpa)
{
	for (unsigned int i = 0; i < entries; i++) {
		uint64_t e = atomic_load_explicit(&t.entry[i], memory_order_relaxed), below;

		if (!(e & PTE_PRESENT))
			continue;
		if (level == 1) {
			if ((e & PTE_ADDR) == gpa)
				return i * KV_PAGE;
			continue;
		}
		below = find_in(p, child_of(p, e), level - 1, ENTRIES, gpa);
		if (below != UINT64_MAX)
			return i * entry_reach(level) + below;
	}
	return UINT64_MAX;
}

/* Some address at which the space maps the frame at gpa; 0: none. Slow: for what never happens. */
uint64_t kv_aspace_find(struct kv_aspace *as, uint64_t gpa)
{
	uint64_t addr;

	GUARD(mutex, &as->mu);
	addr = find_in(kv_platform(as->pub.platform), as->root, LEVELS, USER_ENTRIES, gpa);
	return addr == UINT64_MAX ? 0 : addr;
}

/* platform_ops.aspace_reserve: vCPUs are the machine's, and found at the switch. */
int kv_aspace_reserve(struct aspace *pub, struct pcontext *self)
{
	(void)pub, (void)self;
	return 0;
}
