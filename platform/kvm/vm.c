/* The device, the virtual machine, its capabilities and memory slots. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/kvm/kvm_priv.h"

enum {
	CPUID_MAX = 256,
	CPUID_FEATURES = 1,
	CPUID_STRUCTURED = 7,
	CPUID_XSAVE = 0xd,
	ECX_HYPERVISOR = 1u << 31,
	ECX_UMIP = 1u << 2,
	XCR0_X87_SSE = 3,
	XFEATURE_PKRU_BIT = 9,
	MMU_PAGES = 32768, /* KVM's own tables at most: 128 MiB */
	SLOTS_OLD = 509,   /* Linux before 5.11 */
	SYNC_FIELDS = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS,
	VCPUS_MIN = 256, /* a context that must take another's costs an RCU grace period before Linux 6.13 */
	KERNEL_SIZE = (KV_CPU - KV_KERNEL) + KV_VCPUS_MAX * KV_CPU_SIZE,
};
static const uint32_t CPUID_ADDRESS_SIZES = 0x80000008u, CPUID_PARAVIRT = 0x40000000u, CPUID_PARAVIRT_END = 0x40010000u;

#define R0_CHUNKS_SIZE (KV_R0_CHUNKS_MAX * (uint64_t)KV_R0_CHUNK)
#define GPA_TOP_SPARED (16ull << 30)

/* PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE; UMIP where there is one */
static const uint64_t CR4_BASE = 0x50620, CR4_UMIP = 0x800;

static int device_fd = -1; /* set before the sandbox is served, then const */

/* Takes the descriptor of /dev/kvm that somebody with the right to has opened. Before probe and open. */
void kv_device_take(int fd)
{
	device_fd = fd;
}

/* A descriptor of the device that the caller closes. */
static int device_open(void)
{
	int fd = device_fd >= 0 ? fcntl(device_fd, F_DUPFD_CLOEXEC, 3) : open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int check(int fd, unsigned long what)
{
	int r = ioctl(fd, KVM_CHECK_EXTENSION, what);

	return MAX(r, 0);
}

static struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *c, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

/* Bytes of an XSAVE image in standard form with these features. */
static size_t xsave_size(struct kvm_cpuid2 *c, uint64_t xcr0)
{
	size_t size = KV_XSAVE_MIN;

	for (uint32_t i = 2; i < 63; i++) {
		struct kvm_cpuid_entry2 *e = xcr0 >> i & 1 ? cpuid_find(c, CPUID_XSAVE, i) : NULL;

		if (e)
			size = MAX(size, (size_t)e->eax + e->ebx);
	}
	return MIN(size, sizeof(struct kvm_xsave));
}

/* What the processor of the guest says it can: all that KVM can give, without the leaves that name KVM. */
static int read_cpuid(struct kv_platform *p, int fd)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));
	struct kvm_cpuid_entry2 *e;
	uint32_t kept = 0;

	if (!c)
		return -ENOMEM;
	p->cpuid = c;
	c->nent = CPUID_MAX;
	if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, c) < 0)
		return -errno;
	for (uint32_t i = 0; i < c->nent; i++) {
		uint32_t f = c->entries[i].function;

		if (f < CPUID_PARAVIRT || f >= CPUID_PARAVIRT_END)
			c->entries[kept++] = c->entries[i];
	}
	c->nent = kept;
	e = cpuid_find(c, CPUID_FEATURES, 0);
	if (e)
		e->ecx &= ~(uint32_t)ECX_HYPERVISOR;
	e = cpuid_find(c, CPUID_STRUCTURED, 0);
	p->cr4 = CR4_BASE | (e && (e->ecx & ECX_UMIP) ? CR4_UMIP : 0);
	e = cpuid_find(c, CPUID_XSAVE, 0);
	p->xcr0 = XCR0_X87_SSE | (e ? (uint64_t)e->edx << 32 | e->eax : 0);
	p->xsave_size = xsave_size(c, p->xcr0);
	e = cpuid_find(c, CPUID_XSAVE, XFEATURE_PKRU_BIT);
	p->pkru_offset = e ? e->ebx : 0;
	if (p->pkru_offset < KV_XSAVE_MIN || p->pkru_offset > sizeof(struct kvm_xsave) - sizeof(uint32_t))
		p->xcr0 &= ~(1ull << XFEATURE_PKRU_BIT);
	return 0;
}

/* How many memory slots and vCPUs are of use. */
static void read_limits(struct kv_platform *p)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(p->cpuid, CPUID_ADDRESS_SIZES, 0);
	unsigned int bits = e ? e->eax & 0xff : 36;
	uint64_t room, slots = (uint64_t)check(p->vm_fd, KVM_CAP_NR_MEMSLOTS);
	uint32_t vcpus = (uint32_t)check(p->vm_fd, KVM_CAP_MAX_VCPUS);
	cpu_set_t cpus;
	uint32_t wanted = VCPUS_MIN;

	bits = MIN(bits, 46u);
	bits = MAX(bits, 36u);
	room = ((1ull << bits) - KV_GPA_FRAMES) / KV_SLOT;
	slots = MAX(slots, (uint64_t)SLOTS_OLD) - KV_MEM_FRAMES;
	/* At the end of the range, but for what old AMD processors use there: the sentry's chunks of ring-0 mode. */
	if (1ull << bits > KV_GPA_FRAMES + 3 * R0_CHUNKS_SIZE) {
		room -= (R0_CHUNKS_SIZE + GPA_TOP_SPARED) / KV_SLOT;
		p->chunk_gpa = (1ull << bits) - R0_CHUNKS_SIZE - GPA_TOP_SPARED;
	}
	slots = MIN(slots, room);
	p->slots_max = (uint32_t)MIN(slots, (uint64_t)KV_SLOTS_MAX);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		wanted = MAX(wanted, (uint32_t)CPU_COUNT(&cpus) * 4);
	wanted = MIN(wanted, (uint32_t)KV_VCPUS_MAX);
	p->vcpus_max = MAX(MIN(vcpus, wanted), 1u);
}

/* Puts size bytes at hva behind the guest-physical address gpa; size 0 takes the slot away. 0 or -errno. */
int kv_memory_slot(struct kv_platform *p, uint32_t number, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region r = { .slot = number,
						 .guest_phys_addr = gpa,
						 .memory_size = size,
						 .userspace_addr = (uint64_t)(uintptr_t)hva };

	return ioctl(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}

/* Handlers and the interrupt table: every vector on the exception stack, so that no guest stack is ever written. */
static void kernel_fill(uint8_t *kernel, bool ring0)
{
	enum { GATE_KERNEL = 0x8e01, GATE_USER = 0xee01, VEC_BREAKPOINT = 3, VEC_OVERFLOW = 4, VEC_INT80 = 0x80 };
	uint64_t *idt = (uint64_t *)(void *)(kernel + (KV_IDT - KV_KERNEL));

	memcpy(kernel, kv_handlers, (size_t)(kv_handlers_end - kv_handlers));
	if (ring0)
		kv_ring0_kernel_fill(kernel);
	for (uint64_t i = 0; i < 256; i++) {
		uint64_t handler = (ring0 ? KV_R0_HANDLERS : KV_HANDLERS) + i * HANDLER_SIZE;
		uint64_t gate = i == VEC_BREAKPOINT || i == VEC_OVERFLOW || i == VEC_INT80 ? GATE_USER : GATE_KERNEL;

		idt[2 * i] = (handler & 0xffff) | (uint64_t)KV_KERNEL_CS << 16 | gate << 32 |
			     (handler >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = handler >> 32;
	}
}

static int device_check(int fd, const char **ret_step)
{
	*ret_step = "/dev/kvm is too old";
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return -EOPNOTSUPP;
	*ret_step = "/dev/kvm lacks what this backend needs";
	if (!check(fd, KVM_CAP_USER_MEMORY) || !check(fd, KVM_CAP_SYNC_MMU) || !check(fd, KVM_CAP_XSAVE) ||
	    !check(fd, KVM_CAP_XCRS) || !check(fd, KVM_CAP_VCPU_EVENTS) ||
	    (check(fd, KVM_CAP_SYNC_REGS) & SYNC_FIELDS) != SYNC_FIELDS)
		return -EOPNOTSUPP;
	return 0;
}

/* Whether the device is there and new enough. 0, or -errno with a sentence in *ret_step. */
int kv_device_check(const char **ret_step)
{
	int fd = device_open(), err;

	*ret_step = "/dev/kvm cannot be opened";
	if (fd < 0)
		return fd;
	err = device_check(fd, ret_step);
	close(fd);
	return err;
}

static int make_machine(struct kv_platform *p, int fd)
{
	int err;

	p->vm_fd = ioctl(fd, KVM_CREATE_VM, 0);
	if (p->vm_fd < 0)
		return -errno;
	err = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (err < (int)sizeof(struct kvm_run))
		return -EOPNOTSUPP;
	p->run_size = (size_t)err;
	err = read_cpuid(p, fd);
	if (err < 0)
		return err;
	read_limits(p);
	/* A shadow of our tables is to stay; without this the bound would follow from the slots that are there now. */
	(void)!ioctl(p->vm_fd, KVM_SET_NR_MMU_PAGES, (unsigned long)MMU_PAGES);
	p->kernel = mmap(NULL, KERNEL_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->kernel == MAP_FAILED) {
		p->kernel = NULL;
		return -errno;
	}
	err = kv_ring0_open(p, fd);
	if (err < 0)
		return err;
	kernel_fill(p->kernel, p->ring0 != NULL);
	return kv_memory_slot(p, KV_MEM_KERNEL, KV_GPA_KERNEL, KERNEL_SIZE, p->kernel);
}

/* Opens the device and makes the machine with its first memory slot. 0 or -errno. */
int kv_vm_open(struct kv_platform *p)
{
	int fd = device_open(), err;

	if (fd < 0)
		return fd;
	err = make_machine(p, fd);
	close(fd);
	return err;
}

/* Frees what kv_vm_open made, whole or half; all vCPUs are closed. */
void kv_vm_close(struct kv_platform *p)
{
	if (p->vm_fd >= 0)
		close(p->vm_fd);
	if (p->kernel)
		munmap(p->kernel, KERNEL_SIZE);
	kv_ring0_close(p);
	free(p->cpuid);
}
