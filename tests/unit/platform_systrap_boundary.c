/* The tests of platform_boundary.c on the systrap backend. */
#include "platform/systrap/systrap_priv.h"

#define PLATFORM platform_systrap
#define STUB_FAST_PAGE 0x7fffffff8000
#define STUB_MAPPINGS 5 /* area, command line, fast path, arguments, stub code */
#define STUB_WRITABLE 1 /* the command line */
#include "tests/unit/platform_boundary.c"
