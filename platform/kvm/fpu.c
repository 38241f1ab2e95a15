/* What KVM and the guest's exceptions need to know of FPU states. */
#include <string.h>

#include "platform/kvm/kvm_priv.h"

enum { XSAVE_HEADER = 512, XFEATURE_PKRU = 1 << 9 };

/*
 * KVM_SET_XSAVE puts what an image does not have into its initial state, but for the protection keys, which would stay those of
 * the vCPU's last owner: they are named, as 0.
 */
void kv_fpu_complete(const struct kv_platform *p, void *state)
{
	const uint32_t all_allowed = 0;
	uint64_t features;

	memcpy(&features, (char *)state + XSAVE_HEADER, sizeof(features));
	if (!(p->xcr0 & XFEATURE_PKRU) || (features & XFEATURE_PKRU))
		return;
	features |= XFEATURE_PKRU;
	memcpy((char *)state + XSAVE_HEADER, &features, sizeof(features));
	memcpy((char *)state + p->pkru_offset, &all_allowed, sizeof(all_allowed));
}

/*
 * Whether the guest's processor would load this image: 0 or -EINVAL. It may be longer than that processor's own, as the host can
 * have components that the guest has not; these must be in their initial state.
 */
int kv_fpu_check(const struct kv_platform *p, const void *buf, size_t size)
{
	return host_fpu_check(buf, size, p->xcr0);
}

/* The signal code for a set of exception bits, which x87 and SSE have in common. */
static int code_of(unsigned int pending)
{
	if (pending & 0x01)
		return FPE_FLTINV;
	if (pending & 0x04)
		return FPE_FLTDIV;
	if (pending & 0x08)
		return FPE_FLTOVF;
	if (pending & 0x12) /* denormal operands and underflow */
		return FPE_FLTUND;
	return pending & 0x20 ? FPE_FLTRES : 0;
}

/* The signal code of an x87 exception, from a state's status and control words. */
int kv_fpu_x87_code(const void *state)
{
	uint16_t words[2];

	memcpy(words, state, sizeof(words)); /* control, status */
	return code_of(words[1] & ~(unsigned int)words[0] & 0x3f);
}

/* The same of an SSE exception. */
int kv_fpu_sse_code(const void *state)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, (const char *)state + HOST_FPU_MXCSR, sizeof(mxcsr));
	return code_of(mxcsr & ~(mxcsr >> 7) & 0x3f);
}
