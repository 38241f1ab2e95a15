/* Addresses and offsets shared by stub.S and the C side. The guest's range ends below STUB_REQ. */
#ifndef PLATFORM_PTRACE_STUB_LAYOUT_H
#define PLATFORM_PTRACE_STUB_LAYOUT_H

#include "platform/stub/layout.h"

#define STUB_GUEST_MIN 0x10000
#define STUB_GUEST_MAX 0x7fffffff0000

#endif
