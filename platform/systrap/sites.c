/*
 * The rewritten system call sites of an address space. The guest's page stays what it is in the sentry's eyes; the guest
 * executes a copy of it, a frame of our own, in which sites jump to trampolines. Whatever changes the page's range undoes that.
 *
 * What other task threads read without as->mu: sites are only added, never change but for `live`, and their
 * trampolines stay as long as the space. A trampoline that is executed after its site was undone does what the
 * instructions did that the thread had begun with.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/systrap/systrap_priv.h"

enum {
	POOL_FRAMES = 4096,  /* of all spaces */
	POOL_KEPT = 64,      /* free frames whose memory is not given back */
	SPACE_PAGES = 64,    /* rewritten pages of one space */
	BUCKETS = 256,
	HOT_AFTER = 64,      /* calls from one place before its rewriting is tried, */
	HOT_AGAIN = 16,      /* and so many times more before that is tried again */
	SI_STEP = 2,         /* TRAP_TRACE */
	EFLAGS_TF = 0x100,
	UD2 = 0x0b0f,
};

/* Frames of a memfd that the sentry maps whole. Frame numbers begin at 1; 0 is none. */
struct sites_pool {
	struct mutex mu; /* protects all below but fd, map; taken after st_aspace.mu */
	int fd;
	uint8_t *map;
	uint64_t entry;  /* const: the fast path's, or 0 */
	struct site_decoder *decoder;
	uint32_t used, free_count;
	uint16_t free, next[POOL_FRAMES + 1];
};

struct site {
	uint64_t ip;              /* behind the syscall instruction */
	struct site_shape shape;
	uint16_t next;            /* in its bucket, by number + 1 */
	_Atomic bool live;        /* the guest executes the rewritten page */
};

/* A page of the guest that shows one of our frames. */
struct site_page {
	uint64_t addr, offset;
	int host_fd;              /* what mm believes to be there, with offset */
	uint8_t prot;
	uint16_t frame;
};

/* Of one address space, from its first rewritten site to its end. as->mu protects what is not atomic. */
struct sites {
	_Atomic uint32_t count;
	_Atomic uint32_t generation;                        /* changes with everything undone */
	_Atomic uint16_t bucket[BUCKETS];                   /* number + 1 of the newest site */
	struct site *_Atomic chunk[TRAMP_PAGE_COUNT];       /* TRAMP_PER_PAGE sites each */
	uint16_t tramp_frame[TRAMP_PAGE_COUNT];
	bool tramp_mapped[TRAMP_PAGE_COUNT];
	bool lost;                                          /* the host has refused a mapping: no more of this */
	uint16_t retired;                                   /* frames to free when the queue was applied */
	uint32_t page_count;
	struct site_page page[SPACE_PAGES];
};

/* ---- frames ---- */

/* Boot only. 0 or -errno. */
int st_sites_open(struct st_platform *p)
{
	struct sites_pool *pool = calloc(1, sizeof(*pool));
	uint16_t first;
	void *map;

	if (!pool)
		return -ENOMEM;
	p->sites = pool;
	mutex_init(&pool->mu, 0);
	pool->map = MAP_FAILED;
	pool->fd = memfd_create("stub-sites", MFD_CLOEXEC);
	if (pool->fd < 0 || ftruncate(pool->fd, (off_t)POOL_FRAMES * SITE_PAGE) < 0)
		return -errno;
	map = mmap(NULL, (size_t)POOL_FRAMES * SITE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, pool->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	pool->map = map;
	memcpy(&first, systrap_fast_entry, sizeof(first));
	if (first != UD2)
		pool->entry = STUB_FAST + (uint64_t)(systrap_fast_entry - systrap_fast_page_start);
	return 0;
}

/* Also half opened. */
void st_sites_close(struct st_platform *p)
{
	struct sites_pool *pool = p->sites;

	if (!pool)
		return;
	if (pool->map != MAP_FAILED)
		munmap(pool->map, (size_t)POOL_FRAMES * SITE_PAGE);
	if (pool->fd >= 0)
		close(pool->fd);
	st_decoder_free(pool->decoder);
	mutex_fini(&pool->mu);
	free(pool);
}

static struct sites_pool *pool_of(const struct st_aspace *as)
{
	return st_platform(as->pub.platform)->sites;
}

static uint64_t frame_offset(uint16_t frame)
{
	return (uint64_t)(frame - 1) * SITE_PAGE;
}

static uint8_t *frame_bytes(struct sites_pool *pool, uint16_t frame)
{
	return pool->map + frame_offset(frame);
}

/* A frame, or 0 when there is none left. Its contents are another space's, or zero. */
static uint16_t frame_new(struct sites_pool *pool)
{
	uint16_t frame;

	GUARD(mutex, &pool->mu);
	frame = pool->free;
	if (frame) {
		pool->free = pool->next[frame];
		pool->free_count--;
	} else if (pool->used < POOL_FRAMES) {
		frame = (uint16_t)++pool->used;
	}
	return frame;
}

static void frame_free(struct sites_pool *pool, uint16_t frame)
{
	GUARD(mutex, &pool->mu);
	if (pool->free_count >= POOL_KEPT)
		(void)!fallocate(pool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)frame_offset(frame), SITE_PAGE);
	pool->next[frame] = pool->free;
	pool->free = frame;
	pool->free_count++;
}

/* The frame is still mapped until the queue was applied. */
static void frame_retire(struct sites_pool *pool, struct sites *s, uint16_t frame)
{
	pool->next[frame] = s->retired; /* of a frame in use: nobody else's word */
	s->retired = frame;
}

/* ---- the table ---- */

static struct sites *sites_of(struct st_aspace *as)
{
	return as ? atomic_load_explicit(&as->sites, memory_order_acquire) : NULL;
}

static struct site *site_at(struct sites *s, uint32_t n)
{
	return &atomic_load_explicit(&s->chunk[n / TRAMP_PER_PAGE], memory_order_acquire)[n % TRAMP_PER_PAGE];
}

static uint64_t tramp_address(uint32_t n)
{
	return STUB_SITES + (uint64_t)n * TRAMP_SIZE;
}

static uint64_t site_start(const struct site *t)
{
	return t->ip - SITE_CALL - site_before(&t->shape);
}

static unsigned int bucket_of(uint64_t ip)
{
	return (unsigned int)((ip * 0x9e3779b97f4a7c15ull) >> 56);
}

/* Number + 1 of the next site with this ip after number + 1 = from; from 0 begins. 0: no more. */
static uint32_t site_find(struct sites *s, uint64_t ip, uint32_t from)
{
	uint32_t n = from ? site_at(s, from - 1)->next :
			    atomic_load_explicit(&s->bucket[bucket_of(ip)], memory_order_acquire);

	while (n && site_at(s, n - 1)->ip != ip)
		n = site_at(s, n - 1)->next;
	return n;
}

/*
 * Number + 1 of the live site in which an instruction began at rip before it was rewritten, and where its trampoline has
 * that; 0: none.
 */
static uint32_t site_inside(struct sites *s, uint64_t rip, uint64_t *ret_at)
{
	static const struct {
		uint8_t kind, to_ip, at;
	} inside[] = {
		{ SITE_CMP, 0, TRAMP_BEHIND },
		{ SITE_MOV, SITE_CALL, TRAMP_LEA },
		{ SITE_PAIR, SITE_CALL, TRAMP_LEA },
		{ SITE_PAIR, SITE_CALL + SITE_SECOND, TRAMP_LEA - SITE_SECOND },
	};

	for (size_t i = 0; i < ARRAY_COUNT(inside); i++) {
		const uint64_t ip = rip + inside[i].to_ip;

		for (uint32_t n = site_find(s, ip, 0); n; n = site_find(s, ip, n)) {
			const struct site *t = site_at(s, n - 1);

			if (t->shape.kind != inside[i].kind || !atomic_load(&t->live))
				continue;
			*ret_at = tramp_address(n - 1) + inside[i].at;
			return n;
		}
	}
	return 0;
}

/* The site whose trampoline contains address, or NULL. */
static struct site *site_of_trampoline(struct sites *s, uint64_t address)
{
	uint64_t n = (address - STUB_SITES) / TRAMP_SIZE;

	if (!s || address < STUB_SITES || n >= atomic_load_explicit(&s->count, memory_order_acquire))
		return NULL;
	return site_at(s, (uint32_t)n);
}

/* ---- what a thread's registers mean ---- */

/* The guest's address behind the system call that was made at ip; the same for calls that no trampoline made. */
uint64_t st_sites_ip(struct st_aspace *as, uint64_t ip)
{
	const struct site *t;

	if (likely(ip - STUB_SITES >= STUB_SITES_SIZE))
		return ip;
	t = site_of_trampoline(sites_of(as), ip);
	return t && ip % TRAMP_SIZE == TRAMP_BEHIND ? t->ip : ip;
}

/* Registers of a thread in a trampoline become those of the same place in the guest's own code. Any thread. */
void st_sites_canonical(struct st_aspace *as, struct guest_regs *regs)
{
	uint64_t at = regs->rip % TRAMP_SIZE;
	const struct site *t;

	if (likely(regs->rip - STUB_SITES >= STUB_SITES_SIZE))
		return;
	t = site_of_trampoline(sites_of(as), regs->rip);
	if (!t)
		return;
	if (at < TRAMP_LEA)
		regs->rip = t->ip - SITE_CALL - (TRAMP_LEA - at);
	else if (at <= TRAMP_SYSCALL)
		regs->rip = t->ip - SITE_CALL;
	else if (at == TRAMP_BEHIND)
		regs->rip = t->ip;
	else
		regs->rip = site_start(t) + t->shape.size;
}

/*
 * The opposite, for registers that a thread is about to get: spares it the fault at an instruction that a rewritten site
 * has swallowed. With the trap flag it must meet that fault, which undoes the page.
 */
void st_sites_redirect(struct st_aspace *as, struct guest_regs *regs)
{
	struct sites *s = sites_of(as);

	if (unlikely(s) && !(regs->eflags & EFLAGS_TF))
		(void)site_inside(s, regs->rip, &regs->rip);
}

/* A number that changes when sites are undone: what a run begins with, for st_sites_trap. */
uint32_t st_sites_generation(struct st_aspace *as)
{
	struct sites *s = sites_of(as);

	return likely(!s) ? 0 : atomic_load(&s->generation);
}

/* ---- undoing ---- */

/* Sites of the page at addr are not live any more. as->mu is held. */
static void page_dead(struct sites *s, uint64_t addr)
{
	uint32_t count = atomic_load(&s->count);

	for (uint32_t n = 0; n < count; n++)
		if (ALIGN_DOWN(site_start(site_at(s, n)), (uint64_t)SITE_PAGE) == addr)
			atomic_store(&site_at(s, n)->live, false);
	atomic_fetch_add(&s->generation, 1);
}

/* Takes the i-th page out: its frame is freed when the queue was applied. as->mu is held. */
static struct site_page page_forget(struct st_aspace *as, struct sites *s, uint32_t i)
{
	struct site_page page = s->page[i];

	s->page[i] = s->page[--s->page_count];
	page_dead(s, page.addr);
	frame_retire(pool_of(as), s, page.frame);
	return page;
}

static struct aspace_op original(const struct site_page *page, uint8_t prot)
{
	return (struct aspace_op){ .kind = ASPACE_MAP,
				   .addr = page->addr,
				   .size = SITE_PAGE,
				   .host_fd = page->host_fd,
				   .offset = page->offset,
				   .prot = prot };
}

/*
 * Changes are about to be queued: pages in their ranges are not rewritten any more. One that only changes its permissions
 * gets its own frame back first. as->mu is held.
 */
void st_sites_changed(struct st_aspace *as, const struct aspace_op *op, size_t count)
{
	struct sites *s = sites_of(as);

	if (likely(!s))
		return;
	for (size_t k = 0; k < count; k++) {
		uint32_t i = 0;

		while (i < s->page_count) {
			struct site_page page;
			struct aspace_op map;

			if (s->page[i].addr - op[k].addr >= op[k].size) {
				i++;
				continue;
			}
			page = page_forget(as, s, i);
			map = original(&page, op[k].prot);
			if (op[k].kind == ASPACE_PROTECT)
				st_aspace_queue(as, &map, 1);
		}
	}
}

/* The queue was applied: no thread executes what was replaced. as->mu is held. */
void st_sites_drained(struct st_aspace *as)
{
	struct sites *s = sites_of(as);
	uint16_t frame;

	if (likely(!s))
		return;
	atomic_fetch_add(&s->generation, 1);
	while ((frame = s->retired)) {
		s->retired = pool_of(as)->next[frame];
		frame_free(pool_of(as), frame);
	}
}

/* The queue was replaced by one that unmaps everything of the guest. as->mu is held. */
void st_sites_forget(struct st_aspace *as)
{
	struct sites *s = sites_of(as);

	if (!s)
		return;
	while (s->page_count)
		(void)page_forget(as, s, 0);
	memset(s->tramp_mapped, 0, sizeof(s->tramp_mapped));
}

/*
 * The host has refused a change, and the guest's range was unmapped. From the first of the queue's operations on our pages
 * become nothing, and no more are rewritten here. as->mu is held.
 */
void st_sites_lost(struct st_aspace *as, size_t first)
{
	struct sites *s = sites_of(as);

	if (!s)
		return;
	while (s->page_count)
		(void)page_forget(as, s, 0);
	s->lost = true;
	for (size_t i = first; i < as->queue.count; i++)
		if (as->queue.op[i].kind == ASPACE_MAP && as->queue.op[i].host_fd == pool_of(as)->fd &&
		    as->queue.op[i].addr >= STUB_GUEST_MIN)
			as->queue.op[i].kind = ASPACE_UNMAP;
}

/* At the end of the space: nobody runs in it. */
void st_sites_free(struct st_aspace *as)
{
	struct sites *s = sites_of(as);

	if (!s)
		return;
	st_sites_forget(as);
	st_sites_drained(as);
	for (size_t i = 0; i < TRAMP_PAGE_COUNT; i++) {
		if (s->tramp_frame[i])
			frame_free(pool_of(as), s->tramp_frame[i]);
		free(atomic_load(&s->chunk[i]));
	}
	free(s);
}

/*
 * Whether a signal that the processor raised at rip, a raw value, is due to rewriting: then the thread goes on with
 * its registers as they are. Called when the thread is not counted as running. A step never ends in a trampoline:
 * the site is made what it was.
 */
bool st_sites_trap(struct st_context *ctx, int32_t signo, int32_t code, uint64_t rip)
{
	struct st_aspace *as = ctx->as;
	struct sites *s = sites_of(as);
	const struct site *t = NULL;
	struct aspace_op map;

	if (likely(!s))
		return false;
	if (signo == SIGTRAP ? code != SI_STEP || !site_of_trampoline(s, rip) :
			       signo != SIGILL && (signo != SIGSEGV || code != SI_KERNEL))
		return false;
	GUARD(mutex, &as->mu);
	if (signo == SIGTRAP) {
		t = site_of_trampoline(s, rip);
	} else {
		uint64_t at;
		uint32_t n = site_inside(s, rip, &at);

		if (!n) /* undone meanwhile? Then its own code is there now, or what has replaced it */
			return atomic_load(&s->generation) != ctx->sites_generation;
		t = site_at(s, n - 1);
	}
	if (signo != SIGTRAP && !ctx->stepping && !(ctx->pub.regs.eflags & EFLAGS_TF))
		return true; /* st_sites_redirect sends it to the trampoline */
	for (uint32_t i = 0; i < s->page_count; i++) {
		struct site_page page = s->page[i];

		if (page.addr != ALIGN_DOWN(site_start(t), (uint64_t)SITE_PAGE))
			continue;
		(void)page_forget(as, s, i);
		map = original(&page, page.prot);
		st_aspace_queue(as, &map, 1);
		st_aspace_apply(as, ctx->pair.cpu);
		break;
	}
	return true;
}

/* ---- rewriting ---- */

/* Counts a call that ctx's thread has made by its own instruction. Task thread. */
void st_sites_count(struct st_context *ctx)
{
	uint64_t ip = ctx->pub.syscall.ip;
	struct site_heat *set = ctx->heat[bucket_of(ip) % HEAT_SETS], *coldest = set;

	for (size_t i = 0; i < HEAT_WAYS; i++) {
		if (set[i].ip == ip) {
			if (unlikely(++set[i].count == set[i].limit)) {
				set[i].limit = MIN(set[i].limit, UINT32_MAX / HOT_AGAIN) * HOT_AGAIN;
				ctx->pub.hot_ip = ip;
			}
			return;
		}
		if (set[i].count < coldest->count)
			coldest = &set[i];
	}
	*coldest = (struct site_heat){ .ip = ip, .count = 1, .limit = HOT_AFTER };
}

/* as's sites; made with the first. NULL: no memory. as->mu is held. */
static struct sites *sites_get(struct st_aspace *as)
{
	struct sites *s = sites_of(as);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (s)
		atomic_store_explicit(&as->sites, s, memory_order_release);
	return s;
}

/* Whether the instructions of shape in the page at addr touch those of a live site. as->mu is held. */
static bool overlaps(struct sites *s, uint64_t addr, const struct site_shape *shape)
{
	uint64_t start = addr + shape->start;
	uint32_t count = atomic_load(&s->count);

	for (uint32_t n = 0; n < count; n++) {
		const struct site *t = site_at(s, n);

		if (atomic_load(&t->live) && start < site_start(t) + t->shape.size && site_start(t) < start + shape->size)
			return true;
	}
	return false;
}

/* Adds a site whose trampoline is written but reached by nobody yet: its number + 1, or 0. as->mu is held. */
static uint32_t site_add(struct st_aspace *as, struct sites *s, uint64_t ip, const struct site_shape *shape)
{
	struct sites_pool *pool = pool_of(as);
	uint32_t n = atomic_load(&s->count), chunk = n / TRAMP_PER_PAGE;
	struct site *t;

	if (n == SITE_MAX)
		return 0;
	if (!atomic_load(&s->chunk[chunk])) {
		struct site *new = calloc(TRAMP_PER_PAGE, sizeof(*new));

		if (!new)
			return 0;
		atomic_store_explicit(&s->chunk[chunk], new, memory_order_release);
	}
	if (!s->tramp_frame[chunk]) {
		s->tramp_frame[chunk] = frame_new(pool);
		if (!s->tramp_frame[chunk])
			return 0;
		memset(frame_bytes(pool, s->tramp_frame[chunk]), 0xcc, SITE_PAGE);
	}
	st_trampoline_write(shape, ALIGN_DOWN(ip - SITE_CALL, (uint64_t)SITE_PAGE), tramp_address(n), pool->entry,
			    frame_bytes(pool, s->tramp_frame[chunk]) + n % TRAMP_PER_PAGE * TRAMP_SIZE);
	t = site_at(s, n);
	t->ip = ip;
	t->shape = *shape;
	t->next = atomic_load(&s->bucket[bucket_of(ip)]);
	atomic_store_explicit(&s->count, n + 1, memory_order_release);
	atomic_store_explicit(&s->bucket[bucket_of(ip)], (uint16_t)(n + 1), memory_order_release);
	return n + 1;
}

/* The site of ip with this shape, or a new one. */
static uint32_t site_get(struct st_aspace *as, struct sites *s, uint64_t ip, const struct site_shape *shape)
{
	for (uint32_t n = site_find(s, ip, 0); n; n = site_find(s, ip, n))
		if (memcmp(&site_at(s, n - 1)->shape, shape, sizeof(*shape)) == 0)
			return n;
	return site_add(as, s, ip, shape);
}

/* Writes the page with the sites that are live in it, and site number new. as->mu is held. */
static void page_compose(struct sites *s, const struct platform_page *page, uint32_t new, uint8_t *to)
{
	uint32_t count = atomic_load(&s->count);

	memcpy(to, page->bytes, SITE_PAGE);
	for (uint32_t n = 0; n < count; n++) {
		struct site *t = site_at(s, n);

		if (ALIGN_DOWN(site_start(t), (uint64_t)SITE_PAGE) != page->addr || (!atomic_load(&t->live) && n != new))
			continue;
		if (memcmp(page->bytes + t->shape.start, t->shape.bytes, t->shape.size) == 0)
			st_site_write(&t->shape, (uint32_t)tramp_address(n), to);
		else
			atomic_store(&t->live, false); /* a program's file was written to */
	}
}

static struct aspace_op frame_op(struct st_aspace *as, uint64_t addr, uint16_t frame)
{
	return (struct aspace_op){ .kind = ASPACE_MAP,
				   .addr = addr,
				   .size = SITE_PAGE,
				   .host_fd = pool_of(as)->fd,
				   .offset = frame_offset(frame),
				   .prot = PLATFORM_READ | PLATFORM_EXEC,
				   .populate = true };
}

/* Has the guest execute frame in place of the page, and maps the trampoline. as->mu is held. */
static void page_show(struct st_aspace *as, struct sites *s, const struct platform_page *page, uint16_t frame,
		      uint32_t n)
{
	struct aspace_op op[2] = { frame_op(as, STUB_SITES + (uint64_t)(n / TRAMP_PER_PAGE) * SITE_PAGE,
					    s->tramp_frame[n / TRAMP_PER_PAGE]),
				   frame_op(as, page->addr, frame) };
	bool mapped = s->tramp_mapped[n / TRAMP_PER_PAGE];
	struct site_page new = { .addr = page->addr, .offset = page->offset, .host_fd = page->host_fd,
				 .prot = page->prot, .frame = frame };
	uint32_t i = 0;

	while (i < s->page_count && s->page[i].addr != page->addr)
		i++;
	if (i < s->page_count)
		frame_retire(pool_of(as), s, s->page[i].frame);
	else
		s->page_count++;
	s->page[i] = new;
	s->tramp_mapped[n / TRAMP_PER_PAGE] = true;
	atomic_store(&site_at(s, n)->live, true);
	st_aspace_queue(as, op + mapped, 2u - mapped);
}

static bool page_known(const struct sites *s, uint64_t addr)
{
	for (uint32_t i = 0; i < s->page_count; i++)
		if (s->page[i].addr == addr)
			return true;
	return false;
}

/* platform_ops.site_rewrite. */
int st_site_rewrite(struct aspace *pub, struct pcontext *self, uint64_t ip, const struct platform_page *page)
{
	struct st_aspace *as = st_aspace(pub);
	struct sites_pool *pool = pool_of(as);
	struct site_shape shape;
	struct sites *s;
	uint16_t frame;
	bool can = false;
	uint32_t n;

	GUARD(mutex, &as->mu);
	s = sites_get(as);
	if (!s)
		return -ENOMEM;
	if (s->lost || as->broken || ALIGN_DOWN(ip - SITE_CALL, (uint64_t)SITE_PAGE) != page->addr)
		return -EOPNOTSUPP;
	mutex_lock(&pool->mu);
	if (!pool->decoder)
		pool->decoder = st_decoder_new();
	if (pool->decoder)
		can = st_site_decode(pool->decoder, page->bytes, (size_t)(ip - page->addr),
				     (uint64_t)self->syscall.nr, &shape);
	mutex_unlock(&pool->mu);
	if (!can || overlaps(s, page->addr, &shape))
		return -EOPNOTSUPP;
	if (s->page_count == SPACE_PAGES && !page_known(s, page->addr))
		return -ENOMEM;
	n = site_get(as, s, ip, &shape);
	frame = n ? frame_new(pool) : 0;
	if (!frame)
		return -ENOMEM;
	page_compose(s, page, n - 1, frame_bytes(pool, frame));
	page_show(as, s, page, frame, n - 1);
	st_aspace_apply(as, st_context(self)->pair.cpu);
	log_debug("systrap: call %lld at 0x%llx rewritten", (long long)self->syscall.nr, (unsigned long long)ip);
	return 0;
}
