/* The processor's FPU, and states of it in XSAVE standard form. */
#ifndef PLATFORM_HOST_FPU_H
#define PLATFORM_HOST_FPU_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the smallest image, and where MXCSR is in each. */
enum { HOST_FPU_SIZE_MIN = 576, HOST_FPU_MXCSR = 24 };

size_t host_fpu_size(void);
uint64_t host_fpu_features(void);
size_t host_fpu_initial(void *buf, size_t size);
int host_fpu_check(const void *buf, size_t size, uint64_t features);

/*
 * Every component of the calling thread's FPU state to its initial value. Not from the stub page: Intel processors refuse an image whose
 * full size would reach past the last user page, also when nothing is loaded from there.
 */
static inline __attribute__((always_inline)) void host_fpu_reset(void)
{
	_Alignas(64) static const struct {
		uint16_t fcw, fsw, ftw, fop;
		uint64_t ip, dp;
		uint32_t mxcsr, mxcsr_mask;
		uint8_t rest[576 - 32];
	} initial = { .fcw = 0x37f, .mxcsr = 0x1f80 };

	__asm__ volatile("xrstor %0" : : "m"(initial), "a"(-1), "d"(-1) : "memory");
}

#endif
