/* FPU states in XSAVE standard form. */
#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "platform/base/compiler.h"
#include "platform/host/fpu.h"

enum { MXCSR_MASK = 28, HEADER = 512, HEADER_SIZE = 64, FEATURES_X87_SSE = 3 };

/* Size of the processor's whole image. Asked once: cpuid costs a virtual machine exit. */
size_t host_fpu_size(void)
{
	static _Atomic uint32_t known;
	uint32_t a = 0, b = 0, c = 0, d = 0;

	if (!known) {
		if (!__get_cpuid_count(0xd, 0, &a, &b, &c, &d) || b < HOST_FPU_SIZE_MIN)
			b = HOST_FPU_SIZE_MIN;
		known = b;
	}
	return known;
}

/* The components that this process may use: XCR0. */
uint64_t host_fpu_features(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

/* Fills all of buf with the initial state; returns the bytes that say so, 0 when size is too small. */
size_t host_fpu_initial(void *buf, size_t size)
{
	const uint16_t fcw = 0x37f;
	const uint32_t mxcsr = 0x1f80;
	const uint64_t features = FEATURES_X87_SSE;

	if (size < HOST_FPU_SIZE_MIN)
		return 0;
	memset(buf, 0, size);
	memcpy(buf, &fcw, sizeof(fcw));
	memcpy((char *)buf + HOST_FPU_MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy((char *)buf + HEADER, &features, sizeof(features));
	return HOST_FPU_SIZE_MIN;
}

static uint32_t mxcsr_mask(void)
{
	_Alignas(16) uint8_t image[512];
	uint32_t mask;

	__asm__ volatile("fxsave %0" : "=m"(image));
	memcpy(&mask, image + MXCSR_MASK, sizeof(mask));
	return mask ? mask : 0xffbf;
}

/*
 * Whether a processor with these components would load the image: 0 or -EINVAL. How long an image may be is for
 * the caller to say.
 */
int host_fpu_check(const void *buf, size_t size, uint64_t features)
{
	uint64_t header[HEADER_SIZE / 8];
	uint32_t mxcsr;

	if (size < HOST_FPU_SIZE_MIN)
		return -EINVAL;
	memcpy(header, (const char *)buf + HEADER, sizeof(header));
	memcpy(&mxcsr, (const char *)buf + HOST_FPU_MXCSR, sizeof(mxcsr));
	if ((header[0] & ~features) || (mxcsr & ~mxcsr_mask()))
		return -EINVAL;
	for (size_t i = 1; i < ARRAY_COUNT(header); i++)
		if (header[i])
			return -EINVAL;
	return 0;
}
