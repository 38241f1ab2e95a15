/* What the processor offers, where its features decide and not the host kernel. */
#ifndef PLATFORM_HOST_PROCESSOR_H
#define PLATFORM_HOST_PROCESSOR_H

#include <stdbool.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Whether guests of /dev/kvm have a supervisor mode that the processor makes, which ring-0 mode of the kvm platform needs. */
static inline bool host_processor_virtualises(void)
{
#if defined(__x86_64__)
	enum { VMX = 1u << 5, SVM = 1u << 2, FSGSBASE = 1 };
	unsigned int a, b, c, d;
	bool vmx = __get_cpuid(1, &a, &b, &c, &d) && (c & VMX);
	bool svm = __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c & SVM);

	return (vmx || svm) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & FSGSBASE);
#else
	return false;
#endif
}

#endif
