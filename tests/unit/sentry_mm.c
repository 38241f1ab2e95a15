/* Address spaces on the null platform: mappings, copies, fork, changes, limits, the frame allocator. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/platform.h"
#include "sentry/mm/account.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"

static int passed, failed;
#define CHECK(c) ((c) ? (void)passed++ : (void)(failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

enum { P = 4096 };
#define UNLIMITED { UINT64_MAX, UINT64_MAX, 8 << 20, UINT64_MAX }

static int file_refs;
static uint64_t host_size = 3 * P;

/* One host file as a mappable: frames are the file's own pages. */
struct test_file {
	struct frame_file ff;
	struct mappable m;
	uint8_t *window;
	long frames, users;
} host;

static void host_get(struct frame_file *ff, uint64_t offset, uint64_t size)
{
	(void)ff, (void)offset;
	host.frames += (long)(size / P);
}

static void host_put(struct frame_file *ff, uint64_t offset, uint64_t size)
{
	(void)ff, (void)offset;
	host.frames -= (long)(size / P);
}

static void *host_window(struct frame_file *ff, uint64_t offset, uint64_t size, uint64_t *ret_size)
{
	(void)ff;
	*ret_size = size;
	return host.window + offset;
}

static const struct frame_file_ops host_frame_ops = { "test", host_get, host_put, host_window };

static int host_translate(struct mappable *m, uint64_t offset, uint64_t size, bool write, struct frame_run *ret)
{
	(void)m, (void)write;
	if (offset >= host_size)
		return -EFAULT;
	*ret = (struct frame_run){ &host.ff, offset, MIN(size, ALIGN_UP(host_size, (uint64_t)P) - offset) };
	host_get(&host.ff, offset, ret->size);
	return 0;
}

static void host_ref(struct mappable *m)
{
	(void)m;
	host.users++;
}

static void host_unref(struct mappable *m)
{
	(void)m;
	host.users--;
}

static const struct mappable_ops host_ops = { .translate = host_translate, .get = host_ref, .put = host_unref };

static struct file *test_file_get(struct file *f)
{
	file_refs++;
	return f;
}

static void test_file_put(struct file *f)
{
	(void)f;
	file_refs--;
}

static int test_file_mmap(struct file *f, bool shared, uint32_t prot, struct mappable **ret)
{
	(void)f, (void)shared, (void)prot;
	*ret = &host.m;
	return 0;
}

const struct mm_file_ops mm_file_ops = { test_file_get, test_file_put, test_file_mmap };

static int64_t map(struct mm *mm, uint64_t addr, uint64_t size, uint32_t prot, uint32_t flags, bool file, uint64_t offset)
{
	struct mm_map_args a = { .addr = addr, .size = size, .prot = prot, .flags = flags, .offset = offset,
				 .limits = UNLIMITED, .file = file ? (struct file *)(void *)&host : NULL };

	return mm_mmap(mm, &a);
}

static int64_t map_anon(struct mm *mm, uint64_t size)
{
	return map(mm, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, false, 0);
}

static uint64_t get(struct mm *mm, uint64_t addr)
{
	uint64_t v = 0xbad;

	return copy_in(mm_umem(mm), &v, UADDR(addr), 8) < 0 ? 0xfa017 : v;
}

static bool put(struct mm *mm, uint64_t addr, uint64_t v)
{
	return copy_out(mm_umem(mm), UADDR(addr), &v, 8) == 0;
}

static uint64_t frames_in_use(void)
{
	struct memory_usage u;

	memory_usage(&u);
	return u.total;
}

static void test_map_and_copy(void)
{
	struct mm *mm;
	uint64_t a, b;

	CHECK(mm_new(&mm) == 0);
	a = (uint64_t)map_anon(mm, 3 * P);
	CHECK((int64_t)a > 0 && a % P == 0);
	CHECK(get(mm, a) == 0 && put(mm, a + 2 * P - 4, 0x1122334455667788) && get(mm, a + 2 * P - 4) == 0x1122334455667788);
	CHECK(!put(mm, a + 3 * P - 4, 1) && get(mm, a + 3 * P) == 0xfa017);
	char buf[3 * P];
	CHECK(mm_umem(mm)->ops->copy_in(mm_umem(mm), buf, UADDR(a + 2 * P), sizeof(buf)) == P);
	CHECK(mm_munmap(mm, a + P, P) == 0 && get(mm, a + P) == 0xfa017 && get(mm, a) == 0);
	CHECK(map(mm, a + P, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, false, 0) == (int64_t)(a + P));
	CHECK(get(mm, a + P) == 0 && !put(mm, a + P, 1));
	CHECK(map(mm, a, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | 0x100000, false, 0) == -EEXIST);
	CHECK(map(mm, a + 1, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, false, 0) == -EINVAL);
	CHECK(mm_mprotect(mm, a, 3 * P, PROT_NONE, &(struct mm_limits)UNLIMITED) == 0 && get(mm, a) == 0xfa017);
	CHECK(mm_mprotect(mm, a, 3 * P, PROT_READ | PROT_WRITE, &(struct mm_limits)UNLIMITED) == 0 && put(mm, a + P, 5));
	CHECK(mm_mprotect(mm, a, 4 * P, PROT_READ, &(struct mm_limits)UNLIMITED) == -ENOMEM && !put(mm, a, 1));
	/* many mappings: no overlap, all usable, holes are reused */
	for (int i = 0; i < 300; i++) {
		b = (uint64_t)map(mm, 0, P * (1 + (uint64_t)i % 7), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, false, 0);
		CHECK((int64_t)b > 0 && put(mm, b, b));
		if (i % 3 == 0)
			CHECK(mm_munmap(mm, b, P * (1 + (uint64_t)i % 7)) == 0);
		else
			CHECK(get(mm, b) == b);
	}
	mm_put(mm);
}

static void test_fork(void)
{
	struct mm *mm, *child = NULL, *grand = NULL;
	uint64_t a, s;

	CHECK(mm_new(&mm) == 0);
	a = (uint64_t)map_anon(mm, 100 * P);
	s = (uint64_t)map(mm, 0, 2 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, false, 0);
	for (uint64_t i = 0; i < 100; i++)
		CHECK(put(mm, a + i * P, i + 1));
	CHECK(put(mm, s, 77) && mm_fork(mm, NULL, &child) == 0 && mm_fork(child, NULL, &grand) == 0);
	CHECK(get(child, a + 5 * P) == 6 && put(child, a + 5 * P, 1000) && get(mm, a + 5 * P) == 6);
	CHECK(put(mm, a + 50 * P, 2000) && get(child, a + 50 * P) == 51 && get(grand, a + 50 * P) == 51);
	CHECK(put(child, s, 78) && get(mm, s) == 78 && get(grand, s) == 78);
	mm_put(mm);
	CHECK(get(child, a + 5 * P) == 1000 && get(child, a + 99 * P) == 100);
	mm_put(grand);
	for (uint64_t i = 0; i < 100; i++)
		CHECK(put(child, a + i * P, i));
	CHECK(get(child, a + 70 * P) == 70);
	mm_put(child);
}

static void test_file(void)
{
	struct mm *mm, *child;
	uint64_t p, s;

	CHECK(mm_new(&mm) == 0);
	memset(host.window, 'a', 3 * P);
	p = (uint64_t)map(mm, 0, 4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, true, 0);
	s = (uint64_t)map(mm, 0, 2 * P, PROT_READ | PROT_WRITE, MAP_SHARED, true, P);
	CHECK(get(mm, p) == 0x6161616161616161 && get(mm, p + 3 * P) == 0xfa017);
	CHECK(put(mm, s, 9) && *(uint64_t *)(void *)(host.window + P) == 9);
	CHECK(put(mm, p + 2 * P, 10) && *(uint64_t *)(void *)(host.window + 2 * P) == 0x6161616161616161);
	CHECK(mm_fork(mm, NULL, &child) == 0 && get(child, p + 2 * P) == 10 && put(child, s, 11) && get(mm, s) == 11);
	host_size = P;
	mappable_invalidate(&host.m, P, UINT64_MAX - P);
	CHECK(get(mm, s) == 0xfa017 && get(child, s) == 0xfa017 && get(mm, p + 2 * P) == 10);
	host_size = 3 * P;
	CHECK(get(mm, s) == 11);
	CHECK(mm_munmap(mm, s, P) == 0 && get(mm, s + P) == 0x6161616161616161);
	CHECK(mm_msync(mm, s + P, P, MS_SYNC) == 0 && mm_msync(mm, s, P, MS_SYNC) == -ENOMEM);
	mm_put(child);
	mm_put(mm);
	CHECK(host.frames == 0 && host.users == 0 && file_refs == 0);
}

static void test_mremap(void)
{
	const struct mm_limits l = UNLIMITED;
	struct mm *mm;
	uint64_t a, b;

	CHECK(mm_new(&mm) == 0);
	a = (uint64_t)map_anon(mm, 8 * P);
	for (uint64_t i = 0; i < 8; i++)
		put(mm, a + i * P, i + 1);
	CHECK(mm_mremap(mm, a, 8 * P, 4 * P, 0, 0, &l) == (int64_t)a && get(mm, a + 4 * P) == 0xfa017);
	CHECK(mm_mremap(mm, a, 4 * P, 6 * P, 0, 0, &l) == (int64_t)a && get(mm, a + 4 * P) == 0 && get(mm, a + 3 * P) == 4);
	b = (uint64_t)mm_mremap(mm, a, 6 * P, 4096 * P, MREMAP_MAYMOVE, 0, &l);
	CHECK((int64_t)b > 0 && get(mm, b + 2 * P) == 3 && put(mm, b + 4000 * P, 1));
	CHECK(b == a || get(mm, a) == 0xfa017);
	CHECK(mm_mremap(mm, b, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, 0x10000000, &l) == 0x10000000);
	CHECK(get(mm, 0x10000000 + P) == 2 && get(mm, b + P) == 0xfa017 && get(mm, b + 2 * P) == 3);
	CHECK(mm_mremap(mm, b, P, 2 * P, 0, 0, &l) == -EFAULT && mm_mremap(mm, b + 1, P, P, 0, 0, &l) == -EINVAL);
	mm_put(mm);
}

static void test_advice_and_locks(void)
{
	struct mm *mm, *child;
	uint8_t vec[8];
	uint64_t a;

	CHECK(mm_new(&mm) == 0);
	a = (uint64_t)map_anon(mm, 8 * P);
	for (uint64_t i = 0; i < 8; i++)
		put(mm, a + i * P, i + 1);
	CHECK(mm_madvise(mm, a + P, 2 * P, 4) == 0 && get(mm, a + P) == 0 && get(mm, a + 3 * P) == 4);
	CHECK(mm_fork(mm, NULL, &child) == 0);
	CHECK(mm_madvise(child, a + 3 * P, P, 4) == 0 && get(child, a + 3 * P) == 0 && get(mm, a + 3 * P) == 4);
	mm_put(child);
	CHECK(mm_madvise(mm, a + 4 * P, P, 18) == 0 && mm_madvise(mm, a + 5 * P, P, 10) == 0);
	CHECK(mm_fork(mm, NULL, &child) == 0);
	CHECK(get(child, a + 4 * P) == 0 && get(child, a + 5 * P) == 0xfa017 && get(child, a + 6 * P) == 7);
	mm_put(child);
	CHECK(mm_madvise(mm, a, 9 * P, 3) == -ENOMEM && mm_madvise(mm, a + 1, P, 3) == -EINVAL && mm_madvise(mm, a, P, 77) == -EINVAL);
	CHECK(mm_mlock(mm, a, 2 * P, true, false, 0, false) == -EPERM && mm_mlock(mm, a, 2 * P, true, false, P, false) == -ENOMEM);
	CHECK(mm_mlock(mm, a, 2 * P, true, false, 2 * P, false) == 0 && mm_madvise(mm, a, P, 4) == -EINVAL);
	CHECK(mm_mincore(mm, a, 8 * P, vec) == 0 && vec[0] == 1 && vec[7] == 1);
	CHECK(mm_mlock(mm, a, 2 * P, false, false, 0, false) == 0);
	CHECK(mm_mincore(mm, a, 9 * P, (uint8_t[9]){ 0 }) == -ENOMEM);
	mm_put(mm);
}

static void test_brk_stack_limits(void)
{
	const struct mm_limits l = UNLIMITED;
	struct mm_limits small = UNLIMITED;
	struct mm_map_args stack = { .addr = 0x7ff000000000, .size = 32 * P, .prot = PROT_READ | PROT_WRITE,
				     .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, .grows_down = true, .limits = UNLIMITED };
	struct platform_fault f = { .access = PLATFORM_READ | PLATFORM_WRITE };
	struct mm_usage u;
	struct mm *mm;
	int signo, code;

	CHECK(mm_new(&mm) == 0);
	mm_set_brk(mm, 0x600000);
	CHECK(mm_brk(mm, 0, &l) == 0x600000 && mm_brk(mm, 0x621000, &l) == 0x621000 && put(mm, 0x620000, 3));
	CHECK(mm_brk(mm, 0x610000, &l) == 0x610000 && get(mm, 0x620000) == 0xfa017);
	small.data = 0x20000;
	CHECK(mm_brk(mm, 0x700000, &small) == 0x610000);
	CHECK(mm_mmap(mm, &stack) == 0x7ff000000000);
	f.addr = 0x7ff000000000 - 64 * P;
	CHECK(mm_fault(mm, &f, 0, &signo, &code) == 0 && put(mm, f.addr, 1));
	f.addr = 0x7ff000000000 - 16ull * (1 << 20);
	CHECK(mm_fault(mm, &f, 0, &signo, &code) == -EFAULT && signo == 11 && code == 1);
	f.addr = 0x600000;
	f.access = PLATFORM_EXEC;
	CHECK(mm_fault(mm, &f, 0, &signo, &code) == -EFAULT && code == 2);
	small = l;
	small.as = 10 * P;
	CHECK(mm_mmap(mm, &(struct mm_map_args){ .size = P, .flags = MAP_PRIVATE | MAP_ANONYMOUS, .limits = small }) == -ENOMEM);
	mm_usage(mm, &u);
	CHECK(u.vsize >= 32 * P + 0x10000 && u.rss_anon >= 1 * P);
	mm_put(mm);
}

static int count_vma(const struct vma_info *v, void *arg)
{
	int *n = arg;

	(void)v;
	return ++*n > 1000;
}

static void test_futex_and_pins(void)
{
	struct mm *mm, *child;
	struct futex_key k1, k2, k3;
	struct umem_pin pin = { 0 };
	uint64_t a, s;
	uint32_t v = 0;
	int n = 0;

	CHECK(mm_new(&mm) == 0);
	a = (uint64_t)map_anon(mm, 4 * P);
	s = (uint64_t)map(mm, 0, P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, false, 0);
	CHECK(mm_fork(mm, NULL, &child) == 0);
	CHECK(mm_futex_key(mm, UADDR(s + 8), true, &k1) == 0 && mm_futex_key(child, UADDR(s + 8), true, &k2) == 0);
	CHECK(mm_futex_key(child, UADDR(a), true, &k3) == 0 && !k3.shared);
	CHECK(k1.a == k2.a && k1.b == k2.b && k1.offset == 8);
	CHECK(mm_umem(mm)->ops->load32(mm_umem(mm), UADDR(s), &v) == 0 && v == 0);
	CHECK(mm_umem(mm)->ops->cmpxchg32(mm_umem(mm), UADDR(s), &v, 9) == 1);
	CHECK(mm_umem(child)->ops->cmpxchg32(mm_umem(child), UADDR(s), &v, 10) == 0 && v == 9);
	CHECK(mm_umem(mm)->ops->load32(mm_umem(mm), UADDR(1), &v) == -EFAULT);
	futex_key_put(&k1);
	futex_key_put(&k2);
	CHECK(mm_umem(mm)->ops->pin(mm_umem(mm), UADDR(a + 100), 3 * P, true, &pin) == 3 * P && pin.size == 3 * P);
	memset(pin.iov[0].iov_base, 1, pin.iov[0].iov_len);
	CHECK(mm_munmap(mm, a, P) == 0);
	mm_umem(mm)->ops->unpin(mm_umem(mm), &pin);
	CHECK(get(mm, a + P) == 0x0101010101010101 && get(child, a + P) == 0);
	CHECK(mm_for_each_vma(mm, 0, true, count_vma, &n) == 0 && n == 2);
	mm_put(child);
	mm_put(mm);
}

/* A host file that was cut short: the copy stops, the sentry lives. */
static void test_truncated(void)
{
	struct mm *mm;
	uint64_t a;
	char buf[2 * P];

	CHECK(mm_new(&mm) == 0);
	a = (uint64_t)map(mm, 0, 2 * P, PROT_READ, MAP_PRIVATE, true, 0);
	CHECK(get(mm, a + P) != 0xfa017);
	CHECK(ftruncate(host.ff.host_fd, P) == 0);
	CHECK(mm_umem(mm)->ops->copy_in(mm_umem(mm), buf, UADDR(a + P), P) == -EFAULT);
	CHECK(mm_umem(mm)->ops->copy_in(mm_umem(mm), buf, UADDR(a), 2 * P) == P);
	CHECK(ftruncate(host.ff.host_fd, 3 * P) == 0);
	mm_put(mm);
}

static void test_allocator(void)
{
	struct frame_run run[512];
	struct frame_file *ff = memfile_frames(main_memfile);
	uint64_t before = frames_in_use(), size;
	uint8_t *p;

	srandom(3);
	memset(run, 0, sizeof(run));
	for (int i = 0; i < 40000; i++) {
		struct frame_run *r = &run[random() % 512];

		if (r->size) {
			p = memfile_window(main_memfile, r->offset);
			if (*(uint64_t *)(void *)p != (uint64_t)(uintptr_t)r) {
				CHECK(!"frame was overwritten");
				break;
			}
			ff->ops->put(ff, r->offset, r->size);
			r->size = 0;
			continue;
		}
		size = (uint64_t)(1 + random() % (i % 7 ? 20 : 700)) * P;
		if (memfile_alloc(main_memfile, size, MEMFILE_ANON, r) < 0)
			break;
		p = memfile_window(main_memfile, r->offset);
		if (*(uint64_t *)(void *)p || *(uint64_t *)(void *)(p + r->size - 8)) {
			CHECK(!"frame is not zero");
			break;
		}
		*(uint64_t *)(void *)p = (uint64_t)(uintptr_t)r;
		*(uint64_t *)(void *)(p + r->size - 8) = (uint64_t)(uintptr_t)r;
	}
	for (int i = 0; i < 512; i++)
		if (run[i].size)
			ff->ops->put(ff, run[i].offset, run[i].size);
	CHECK(frames_in_use() <= before);
}

static unsigned relieved;
static struct mm *relief_mm;

/* What the kernel does first: takes back what was not touched. */
static bool relief(struct memory_account *a, uint64_t size, bool in_call)
{
	CHECK(in_call && size > 0);
	relieved++;
	return relief_mm && mm_trim(relief_mm, P) > 0 && memory_account_room(a) >= size;
}

/* An account's limit: who goes beyond gets errors, others do not notice, and what is freed can be used again. */
static void test_account_limit(void)
{
	struct memory_account *a = memory_account_open(), *b = memory_account_open();
	struct memory_use use;
	struct mm *mm;
	uint64_t at, done = 0;

	CHECK(mm_new(&mm) == 0);
	CHECK(a && b && a != b);
	memory_set_relief(relief);
	relieved = 0;
	relief_mm = NULL;
	memory_set_self(a);
	a->limit = 8 << 20;
	at = (uint64_t)map_anon(mm, 256 << 20);
	while (done < 256 << 20 && put(mm, at + done, 1))
		done += P;
	CHECK(done == 8 << 20 && relieved == 1 && a->failures == 1);
	CHECK(a->charged == 8 << 20 && memory_account_room(a) == 0 && memory_account_excess(a) == 0);
	memory_account_use(a, &use);
	CHECK(use.total == 8 << 20 && use.anon == use.total && a->peak == use.total);
	memory_account_use(b, &use);
	CHECK(use.total == 0);
	memory_exceed(64 << 10); /* a call that is under way */
	CHECK(put(mm, at + done, 1) && memory_account_excess(a) == P);
	memory_exceed(0);
	CHECK(!put(mm, at + done + P, 1));
	memory_set_self(b); /* another container's thread */
	CHECK(put(mm, at + done + P, 1) && b->charged >= P && a->charged == (8 << 20) + P);
	memory_set_self(a);
	CHECK(mm_munmap(mm, at, 256 << 20) == 0);
	CHECK(a->charged == 0 && b->charged == 0);
	at = (uint64_t)map_anon(mm, P);
	CHECK(put(mm, at, 1) && a->charged == P);
	mm_put(mm);
	CHECK(a->charged == 0);
	memory_set_self(NULL);
	memory_account_close(a);
	memory_account_close(b);
}

/* Accounts of ended containers are used again once nothing is charged to them. */
static void test_account_reuse(void)
{
	struct memory_account *a = memory_account_open(), *b = NULL;
	struct mm *mm;
	bool distinct = true;

	CHECK(mm_new(&mm) == 0);
	memory_set_self(a);
	CHECK(a && put(mm, (uint64_t)map_anon(mm, P), 1));
	memory_set_self(NULL);
	memory_account_close(a);
	for (int i = 0; i < 5000 && distinct; i++) {
		b = memory_account_open();
		distinct = b && b != a && b->limit == MEMORY_NO_LIMIT && b->charged == 0;
		if (b)
			b->limit = P;
		memory_account_close(b);
	}
	CHECK(distinct && a->charged > 0);
	mm_put(mm);
	CHECK(a->charged == 0);
}

/* At the limit what was handed out and not touched comes back, and no written byte is lost. */
static void test_trim(void)
{
	struct memory_account *a = memory_account_open();
	struct memory_use use;
	struct mm *mm, *child;
	uint64_t at, dense, n = 0;
	bool same = true;

	CHECK(mm_new(&mm) == 0);
	CHECK(a);
	memory_set_relief(relief);
	relief_mm = mm;
	relieved = 0;
	memory_set_self(a);
	at = (uint64_t)map_anon(mm, 64 << 20);
	dense = (uint64_t)map_anon(mm, 12 << 20);
	for (uint64_t i = 0; i < 64 << 20; i += 1 << 20) /* one page of each MiB */
		CHECK(put(mm, at + i + (i >> 20) * P, i));
	CHECK(a->charged >= 64 << 20);
	a->limit = 16 << 20; /* charged is above now, used is not */
	while (n < 12 << 20 && put(mm, dense + n, n + 1))
		n += P;
	CHECK(n == 12 << 20 && relieved >= 1 && a->charged <= 16 << 20);
	for (uint64_t i = 0; i < 64 << 20; i += 1 << 20)
		same &= get(mm, at + i + (i >> 20) * P) == i && get(mm, at + i + (i >> 20) * P + P) == 0;
	for (uint64_t i = 0; i < n; i += P)
		same &= get(mm, dense + i) == i + 1;
	CHECK(same);
	a->limit = MEMORY_NO_LIMIT;
	/* shared at a fork: pages that nobody wrote come back when both have dropped them */
	CHECK(mm_fork(mm, NULL, &child) == 0);
	(void)mm_trim(mm, P);
	(void)mm_trim(child, P);
	memory_account_use(a, &use);
	CHECK(a->charged == use.total && use.total >= n);
	CHECK(get(child, at) == 0 && get(child, dense + P) == P + 1 && get(mm, dense) == 1);
	mm_put(child);
	mm_put(mm);
	CHECK(a->charged == 0);
	memory_set_self(NULL);
	memory_account_close(a);
}

int main(void)
{
	struct platform *platform = NULL;
	struct memfile *mf;

	host.ff = (struct frame_file){ .ops = &host_frame_ops, .host_file = true, .writable = true };
	host.ff.host_fd = memfd_create("file", 0);
	CHECK(ftruncate(host.ff.host_fd, 3 * P) == 0);
	host.window = mmap(NULL, 3 * P, PROT_READ | PROT_WRITE, MAP_SHARED, host.ff.host_fd, 0);
	mappable_init(&host.m, &host_ops);
	CHECK(memfile_new(&mf) == 0 && platform_null.open(memfile_fd(mf), &platform) == 0);
	CHECK(mm_init(platform, mf) == 0);
	test_map_and_copy();
	test_fork();
	test_file();
	test_mremap();
	test_advice_and_locks();
	test_brk_stack_limits();
	test_futex_and_pins();
	test_truncated();
	test_allocator();
	test_account_limit();
	test_account_reuse();
	test_trim();
	CHECK(frames_in_use() == 0);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
