/* Signal frames: what is written is what sigreturn reads back, and nothing privileged gets through. */
#include "sentry/arch/sigframe.h"
#include "tests/lib/test.h"

#define BASE 0x10000ull
static uint8_t memory[64 << 10];

static int64_t fake_in(struct umem *um, void *dst, uaddr_t src, size_t size)
{
	(void)um;
	if (src.v < BASE || src.v - BASE > sizeof(memory) - size)
		return -EFAULT;
	memcpy(dst, memory + (src.v - BASE), size);
	return (int64_t)size;
}

static int64_t fake_out(struct umem *um, uaddr_t dst, const void *src, size_t size)
{
	(void)um;
	if (dst.v < BASE || dst.v - BASE > sizeof(memory) - size)
		return -EFAULT;
	memcpy(memory + (dst.v - BASE), src, size);
	return (int64_t)size;
}

static const struct umem_ops ops = { .copy_in = fake_in, .copy_out = fake_out };
static struct umem um = { &ops };
static uint8_t fpu[16384] __attribute__((aligned(64))), back[16384] __attribute__((aligned(64)));

static struct arch_signal signal_args(void)
{
	static uint8_t info[128];
	struct arch_signal s = { .handler = 0x401000, .restorer = 0x402000, .flags = 0x04000000, .signo = 10,
				 .info = info, .mask = 0x55, .altstack = { .flags = 2 } };

	s.fpu = fpu;
	s.fpu_size = arch_fpu_initial(fpu, sizeof(fpu));
	return s;
}

TEST(round_trip)
{
	struct guest_regs regs = { .rip = 0x401234, .rsp = BASE + 60000, .rax = 1, .r15 = 15 };
	struct guest_regs at;
	struct arch_signal s = signal_args();
	struct arch_sigreturn r = { .fpu = back, .fpu_max = sizeof(back) };

	regs.rdi = 7;
	regs.eflags = 0x246;
	at = regs;
	CHECK_EQ(arch_signal_frame(&um, &s, &at), 0);
	CHECK_EQ(at.rip, 0x401000);
	CHECK_EQ(at.rdi, 10);
	CHECK_EQ(at.rsp % 16, 8);
	CHECK(at.rsp < regs.rsp - 128);
	at.rsp += 8; /* the handler returns: the restorer's address is popped */
	CHECK_EQ(arch_signal_return(&um, &at, &r), 0);
	CHECK_EQ(r.regs.rip, regs.rip);
	CHECK_EQ(r.regs.rsp, regs.rsp);
	CHECK_EQ(r.regs.r15, 15);
	CHECK_EQ(r.regs.rdi, 7);
	CHECK_EQ(r.mask, 0x55);
	CHECK_EQ(r.fpu_size, s.fpu_size);
	CHECK(memcmp(back, fpu, 464) == 0);
}

TEST(altstack)
{
	struct guest_regs regs = { .rsp = BASE + 60000 }, at = regs;
	struct arch_signal s = signal_args();

	s.flags |= 0x08000000;
	s.altstack = (struct arch_altstack){ BASE + 4096, 16384, 0 };
	CHECK_EQ(arch_signal_frame(&um, &s, &at), 0);
	CHECK(at.rsp > s.altstack.sp && at.rsp < s.altstack.sp + s.altstack.size);
	CHECK(arch_on_altstack(&s.altstack, at.rsp));
	/* Too small for a frame: refused, not written below. */
	s.altstack.size = 256;
	at = regs;
	CHECK_EQ(arch_signal_frame(&um, &s, &at), -EFAULT);
	CHECK_EQ(at.rsp, regs.rsp);
}

TEST(bad_stack_and_missing_restorer)
{
	struct guest_regs regs = { .rsp = BASE + 100 }, at = regs;
	struct arch_signal s = signal_args();

	CHECK_EQ(arch_signal_frame(&um, &s, &at), -EFAULT);
	at.rsp = BASE + 60000;
	s.flags = 0;
	CHECK_EQ(arch_signal_frame(&um, &s, &at), -EFAULT);
}

TEST(hostile_frame_is_sanitised)
{
	struct guest_regs at = { .rsp = BASE + 1000 };
	struct arch_sigreturn r = { .fpu = back, .fpu_max = sizeof(back) };

	memset(memory, 0xff, sizeof(memory));
	/* An fpstate pointer into nowhere. */
	CHECK_EQ(arch_signal_return(&um, &at, &r), -EFAULT);
	memset(memory, 0xff, sizeof(memory));
	memset(memory + 992 + 8 + 40 + 184, 0, 8); /* no fpstate */
	CHECK_EQ(arch_signal_return(&um, &at, &r), 0);
	CHECK_EQ(r.regs.cs, 0x33);
	CHECK_EQ(r.regs.ss, 0x2b);
	CHECK_EQ(r.regs.eflags & 0x3000, 0);	/* no i/o privilege */
	CHECK_EQ(r.regs.eflags & 0x20000, 0);	/* no virtual 8086 mode */
	CHECK_EQ(r.regs.eflags & 0x200, 0x200); /* interrupts stay on */
	CHECK_EQ(r.fpu_size, 0);
}
