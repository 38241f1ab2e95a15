/* FPU states in XSAVE standard form. */
#include <errno.h>
#include <string.h>

#include "platform/kvm/kvm_priv.h"

enum { XSAVE_MXCSR = 24, XSAVE_MXCSR_MASK = 28, XSAVE_HEADER = 512, XSAVE_HEADER_SIZE = 64, XFEATURES_X87_SSE = 3, XFEATURE_PKRU = 1 << 9 };

/* Fills buf, of KV_XSAVE_MIN bytes at least, with the initial state. */
void kv_fpu_initial(void *buf, size_t size)
{
	const uint16_t fcw = 0x37f;
	const uint32_t mxcsr = 0x1f80;
	const uint64_t features = XFEATURES_X87_SSE;

	memset(buf, 0, size);
	memcpy(buf, &fcw, sizeof(fcw));
	memcpy((char *)buf + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy((char *)buf + XSAVE_HEADER, &features, sizeof(features));
}

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

static uint32_t mxcsr_mask(void)
{
	_Alignas(16) uint8_t image[512];
	uint32_t mask;

	__asm__ volatile("fxsave %0" : "=m"(image));
	memcpy(&mask, image + XSAVE_MXCSR_MASK, sizeof(mask));
	return mask ? mask : 0xffbf;
}

/*
 * Whether the guest's processor would load this image: 0 or -EINVAL. It may be longer than that processor's own, as the host can
 * have components that the guest has not; these must be in their initial state.
 */
int kv_fpu_check(const struct kv_platform *p, const void *buf, size_t size)
{
	uint64_t header[XSAVE_HEADER_SIZE / 8];
	uint32_t mxcsr;

	if (size < KV_XSAVE_MIN)
		return -EINVAL;
	memcpy(header, (const char *)buf + XSAVE_HEADER, sizeof(header));
	memcpy(&mxcsr, (const char *)buf + XSAVE_MXCSR, sizeof(mxcsr));
	if ((header[0] & ~p->xcr0) || (mxcsr & ~mxcsr_mask()))
		return -EINVAL;
	for (size_t i = 1; i < ARRAY_COUNT(header); i++)
		if (header[i])
			return -EINVAL;
	return 0;
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

	memcpy(&mxcsr, (const char *)state + XSAVE_MXCSR, sizeof(mxcsr));
	return code_of(mxcsr & ~(mxcsr >> 7) & 0x3f);
}
