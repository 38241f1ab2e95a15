/* FPU states in XSAVE standard form. */
#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "platform/systrap/systrap_priv.h"

enum { XSAVE_MXCSR = 24, XSAVE_MXCSR_MASK = 28, XSAVE_HEADER = 512, XSAVE_HEADER_SIZE = 64, XSAVE_MIN = 576,
       XFEATURES_X87_SSE = 3 };

/* Size of the host's image; larger than XSAVE_ROOM: this backend cannot work. Asked once: cpuid is slow. */
size_t st_fpu_size(void)
{
	static _Atomic uint32_t known;
	uint32_t a = 0, b = 0, c = 0, d = 0;

	if (!known) {
		if (!__get_cpuid_count(0xd, 0, &a, &b, &c, &d) || b < XSAVE_MIN)
			b = XSAVE_MIN;
		known = b;
	}
	return known;
}

/* Fills buf with the initial FPU state; returns the bytes used, 0 when size is too small. */
size_t st_fpu_initial(void *buf, size_t size)
{
	const uint16_t fcw = 0x37f;
	const uint32_t mxcsr = 0x1f80;
	const uint64_t features = XFEATURES_X87_SSE;

	if (size < XSAVE_MIN)
		return 0;
	memset(buf, 0, size);
	memcpy(buf, &fcw, sizeof(fcw));
	memcpy((char *)buf + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy((char *)buf + XSAVE_HEADER, &features, sizeof(features));
	return XSAVE_MIN;
}

static uint32_t mxcsr_mask(void)
{
	_Alignas(16) uint8_t image[512];
	uint32_t mask;

	__asm__ volatile("fxsave %0" : "=m"(image));
	memcpy(&mask, image + XSAVE_MXCSR_MASK, sizeof(mask));
	return mask ? mask : 0xffbf;
}

static uint64_t xcr0(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

/* Whether the processor would load this image: 0 or -EINVAL. */
int st_fpu_check(const void *buf, size_t size)
{
	uint64_t header[XSAVE_HEADER_SIZE / 8];
	uint32_t mxcsr;

	if (size < XSAVE_MIN || size > st_fpu_size())
		return -EINVAL;
	memcpy(header, (const char *)buf + XSAVE_HEADER, sizeof(header));
	memcpy(&mxcsr, (const char *)buf + XSAVE_MXCSR, sizeof(mxcsr));
	if ((header[0] & ~xcr0()) || (mxcsr & ~mxcsr_mask()))
		return -EINVAL;
	for (size_t i = 1; i < ARRAY_COUNT(header); i++)
		if (header[i])
			return -EINVAL;
	return 0;
}
