/*
 * The kernel half's only code: 256 handlers, each of which leaves the virtual machine at once. The sentry reads the vector
 * from the instruction pointer and the rest from the exception stack. Copied to KV_HANDLERS; nobody else runs it.
 */
#include "platform/kvm/layout.h"

	.section .rodata
	.globl kv_handlers, kv_handlers_end
	.balign HANDLER_SIZE
kv_handlers:
	.rept 256
	hlt
	.byte 0xeb, 0xfd /* jmp back to the hlt: reached only if the sentry resumed it */
	.balign HANDLER_SIZE, 0xf4
	.endr
kv_handlers_end:
	.section .note.GNU-stack, "", @progbits
