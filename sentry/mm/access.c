/* The umem operations: how the rest of the sentry reaches guest memory. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/mm/account.h"
#include "sentry/mm/mm_priv.h"

static struct mm *mm_of(struct umem *um)
{
	return container_of(um, struct mm, umem);
}

static int access_fault(struct mm *mm, uint64_t addr, bool write, uint8_t need)
{
	struct vma *v;

	GUARD(mm, mm);
	v = fault_vma(mm, addr);
	if (!v || !(v->prot & need))
		return -EFAULT;
	return fault_locked(mm, v, addr, write ? WANT_WRITE : WANT_READ, NULL);
}

/*
 * The frames behind addr, ready for the access, with mm->pmu held on success: *ret_ptr is addressable
 * for *ret_size bytes, at least one and at most size. -EFAULT, -ENOMEM (as -EFAULT).
 */
static int access_begin(struct mm *mm, uint64_t addr, uint64_t size, bool write, uint8_t **ret_ptr,
			uint64_t *ret_size, struct pma **ret_pma)
{
	const uint8_t need = write ? PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC;

	if (addr >= mm_platform_ops->max_addr)
		return -EFAULT;
	for (int i = 0; i < 100; i++) {
		struct pma *p;
		int err;

		mutex_lock(&mm->pmu);
		p = pma_find(mm, addr);
		if (p && (p->prot & need) && (!write || (p->flags & PMA_WRITE))) {
			uint64_t at = addr - p->start, n = MIN(size, p->end - addr), got;
			uint8_t *ptr = p->ff->ops->window(p->ff, p->offset + ALIGN_DOWN(at, PAGE),
							  ALIGN_UP((at & PAGE_MASK) + n, PAGE), &got);

			if (ptr && got > (at & PAGE_MASK)) {
				*ret_ptr = ptr + (at & PAGE_MASK);
				*ret_size = MIN(n, got - (at & PAGE_MASK));
				*ret_pma = p;
				return 0;
			}
		}
		mutex_unlock(&mm->pmu);
		err = access_fault(mm, addr, write, need);
		if (err < 0 && !(err == -ENOMEM && memory_relieve(true)))
			return -EFAULT;
	}
	return -EFAULT;
}

static int64_t access_copy(struct mm *mm, uint64_t addr, uint8_t *buf, size_t size, bool write)
{
	size_t done = 0;

	raw_thread_init();
	while (done < size) {
		struct pma *p;
		uint64_t n, copied;
		uint8_t *ptr;

		if (access_begin(mm, addr + done, size - done, write, &ptr, &n, &p) < 0)
			break;
		copied = write ? raw_copy(ptr, buf + done, n) : raw_copy(buf + done, ptr, n);
		mutex_unlock(&mm->pmu);
		done += copied;
		if (copied < n)
			break;
	}
	return done || !size ? (int64_t)done : -EFAULT;
}

static int64_t mm_copy_in(struct umem *um, void *dst, uaddr_t src, size_t size)
{
	return access_copy(mm_of(um), src.v, dst, size, false);
}

static int64_t mm_copy_out(struct umem *um, uaddr_t dst, const void *src, size_t size)
{
	union {
		const void *in;
		uint8_t *buf;
	} p = { .in = src }; /* only read when writing to the guest */

	return access_copy(mm_of(um), dst.v, p.buf, size, true);
}

/* Adds one piece to what is pinned; joins it with the last when they touch. False: no room. */
static bool pin_add(struct umem_pin *pin, struct pma *p, uint64_t addr, uint8_t *ptr, uint64_t n)
{
	uint64_t offset = p->offset + ALIGN_DOWN(addr - p->start, PAGE);
	uint64_t size = ALIGN_UP((addr & PAGE_MASK) + n, PAGE);
	struct iovec *last = pin->count ? &pin->iov[pin->count - 1] : NULL;

	if (pin->ref_count == UMEM_PIN_MAX)
		return false;
	if (last && (uint8_t *)last->iov_base + last->iov_len == ptr) {
		last->iov_len += n;
	} else {
		if (pin->count == UMEM_PIN_MAX)
			return false;
		pin->iov[pin->count++] = (struct iovec){ ptr, n };
	}
	p->ff->ops->get(p->ff, offset, size);
	pin->ref[pin->ref_count].ff = p->ff;
	pin->ref[pin->ref_count].offset = offset;
	pin->ref[pin->ref_count++].size = size;
	pin->size += n;
	return true;
}

static int64_t mm_pin(struct umem *um, uaddr_t addr, size_t size, bool write, struct umem_pin *pin)
{
	struct mm *mm = mm_of(um);
	size_t done = 0;

	while (done < size) {
		struct pma *p;
		uint64_t n;
		uint8_t *ptr;
		bool added;

		if (access_begin(mm, addr.v + done, size - done, write, &ptr, &n, &p) < 0)
			break;
		added = pin_add(pin, p, addr.v + done, ptr, n);
		mutex_unlock(&mm->pmu);
		if (!added)
			break;
		done += n;
	}
	return done || !size ? (int64_t)done : -EFAULT;
}

static void mm_unpin(struct umem *um, struct umem_pin *pin)
{
	(void)um;
	for (unsigned int i = 0; i < pin->ref_count; i++)
		pin->ref[i].ff->ops->put(pin->ref[i].ff, pin->ref[i].offset, pin->ref[i].size);
	pin->count = pin->ref_count = 0;
	pin->size = 0;
}

static int mm_load32(struct umem *um, uaddr_t addr, uint32_t *ret_val)
{
	struct mm *mm = mm_of(um);
	struct pma *p;
	uint64_t n;
	uint8_t *ptr;
	int err;

	if (addr.v % sizeof(uint32_t))
		return -EFAULT;
	raw_thread_init();
	err = access_begin(mm, addr.v, sizeof(uint32_t), false, &ptr, &n, &p);
	if (err < 0)
		return err;
	err = raw_load32(ptr, ret_val);
	mutex_unlock(&mm->pmu);
	return err;
}

static int mm_cmpxchg32(struct umem *um, uaddr_t addr, uint32_t *expected, uint32_t desired)
{
	struct mm *mm = mm_of(um);
	struct pma *p;
	uint64_t n;
	uint8_t *ptr;
	int r;

	if (addr.v % sizeof(uint32_t))
		return -EFAULT;
	raw_thread_init();
	r = access_begin(mm, addr.v, sizeof(uint32_t), true, &ptr, &n, &p);
	if (r < 0)
		return r;
	r = raw_cmpxchg32(ptr, expected, desired);
	mutex_unlock(&mm->pmu);
	return r;
}

const struct umem_ops mm_umem_ops = {
	.copy_in = mm_copy_in,
	.copy_out = mm_copy_out,
	.pin = mm_pin,
	.unpin = mm_unpin,
	.load32 = mm_load32,
	.cmpxchg32 = mm_cmpxchg32,
};

/*
 * The identity of a futex word (futex(2)). Private words and words in private mappings belong to the
 * mm; words in shared mappings to the file, which the key keeps alive. 0 or -EFAULT.
 */
int mm_futex_key(struct mm *mm, uaddr_t addr, bool shared, struct futex_key *ret_key)
{
	struct vma *v;

	if (addr.v >= mm_platform_ops->max_addr)
		return -EFAULT;
	*ret_key = (struct futex_key){ .a = (uint64_t)(uintptr_t)mm,
				       .b = ALIGN_DOWN(addr.v, PAGE),
				       .offset = (uint32_t)(addr.v & PAGE_MASK) };
	if (!shared)
		return 0;
	GUARD(mm, mm);
	v = fault_vma(mm, addr.v);
	if (!v || !(v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
		return -EFAULT;
	if (!(v->flags & VMA_SHARED))
		return 0;
	ret_key->held = v->mappable;
	ret_key->a = (uint64_t)(uintptr_t)(v->mappable->ops->identity ? v->mappable->ops->identity(v->mappable) : v->mappable);
	ret_key->b = ALIGN_DOWN(v->offset + (addr.v - v->start), PAGE);
	ret_key->shared = true;
	v->mappable->ops->get(v->mappable);
	return 0;
}

void futex_key_put(struct futex_key *key)
{
	if (key->shared)
		key->held->ops->put(key->held);
	key->shared = false;
}
