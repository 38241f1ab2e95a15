/*
 * The archive of capstone holds a dozen processors, whose tables would cost each start of the sentry 2 MB of relocated
 * memory and 0.7 ms. Only x86 is decoded here: the entry points of all others are these, so that the linker
 * leaves their code out. No handle can be opened for them.
 */
#include <capstone/capstone.h>

#include "platform/base/compiler.h"

#define NO_ARCH(arch)                                         \
	cs_err arch##_global_init(void *handle);              \
	cs_err arch##_option(void *handle, int type, size_t value); \
	cs_err arch##_global_init(void *handle UNUSED)        \
	{                                                     \
		return CS_ERR_ARCH;                           \
	}                                                     \
	cs_err arch##_option(void *handle UNUSED, int type UNUSED, size_t value UNUSED) \
	{                                                     \
		return CS_ERR_ARCH;                           \
	}

NO_ARCH(AArch64)
NO_ARCH(ARM)
NO_ARCH(EVM)
NO_ARCH(M680X)
NO_ARCH(M68K)
NO_ARCH(Mips)
NO_ARCH(PPC)
NO_ARCH(Sparc)
NO_ARCH(SystemZ)
NO_ARCH(TMS320C64x)
NO_ARCH(XCore)
