/*
 * Guest-virtual and guest-physical addresses, shared by entry.S and the C side.
 *
 * Every root has the kernel half in common: one entry of the top table, whose tables belong to the platform. Nothing in it is
 * accessible to the guest's user mode.
 */
#ifndef PLATFORM_KVM_LAYOUT_H
#define PLATFORM_KVM_LAYOUT_H

/* Guest-virtual. User addresses end at KV_USER_MAX. */
#define KV_USER_MIN 0x10000
#define KV_USER_MAX 0x54ffffff0000
#define KV_TASK_SIZE 0x7ffffffff000

#define KV_KERNEL 0xffffc90000000000
#define KV_HANDLERS KV_KERNEL		    /* supervisor, execute: one HANDLER_SIZE slot for each vector */
#define KV_IDT (KV_KERNEL + 0x1000)	    /* supervisor, read */
#define KV_R0_HANDLERS (KV_KERNEL + 0x2000) /* ring-0 mode's handlers */
#define KV_R0_HANDLERS_SIZE 0x2000
/* For each vCPU: GDT and TSS (read), exception stack (write); in ring-0 mode also data (write) and entry code (execute) */
#define KV_CPU (KV_KERNEL + 0x10000)
#define KV_CPU_SIZE 0x4000
#define KV_CPU_STACK_END 0x2000
#define KV_CPU_DATA 0x2000
#define KV_CPU_STUB 0x3000
#define KV_SYSCALL (KV_KERNEL + 0x10000000)  /* never mapped: where a syscall instruction lands */
#define KV_SYSCALL32 (KV_SYSCALL + 0x1000)  /* the same, from 32-bit code */

#define HANDLER_SIZE 16

/* Guest-physical. */
#define KV_GPA_KERNEL 0x100000	    /* handlers, IDT, pages of the vCPUs */
#define KV_GPA_FLUSH 0x8000000	    /* a page that nobody uses: see kv_flush_all */
#define KV_GPA_TABLES 0x100000000   /* page tables, in slots of KV_TABLE_SLOT */
#define KV_GPA_FRAMES 0x400000000   /* windows of host files, in slots of KV_SLOT, to the end of the processor's range */

/*
 * Ring-0 mode. The sentry's addresses, from KV_R0_WINDOW to the end of the lower half, are mirrored at the same place, supervisor,
 * in chunks that are one entry of a third-level table.
 */
#define KV_R0_WINDOW 0x550000000000
#define KV_R0_WINDOW_END 0x800000000000
#define R0_WINDOW_SHIFTED 0x55 /* KV_R0_WINDOW >> 40 */
#define KV_R0_CHUNK 0x40000000
#define KV_GPA_R0_TABLES 0x200000000

#define R0_CR0 0x80050033 /* PE MP ET NE WP AM PG */
#define R0_CR0_TS 8

/* The data page of a vCPU */
#define R0_REGS 0	/* struct guest_regs of the context that runs */
#define R0_CSP 8	/* stack of the C code that called kv_ring0_user */
#define R0_FS 16	/* the thread's FS base */
#define R0_USER_SP 24
#define R0_FPU 32	/* where the user's XSAVE image goes */
#define R0_XMASK 40
#define R0_FPU_SAVED 48 /* 32 bits: it is there, and not in the processor */
#define R0_C_FPU 52	/* 32 bits: C code has used the FPU since it came from the user */
#define R0_KICKED 56	/* 32 bits: no way into user mode */
#define R0_MXCSR 60

/* What kv_ring0_user returns besides vectors */
#define R0_CALL 0x100
#define R0_CALL32 0x101
#define R0_AGAIN 0x102
#define R0_HOST 0x103 /* on the host; the context says why */

/* Selectors, as Linux has them. */
#define KV_KERNEL_CS 0x10
#define KV_KERNEL_SS 0x18
#define KV_USER_CS32 0x23
#define KV_USER_SS 0x2b
#define KV_USER_CS 0x33
#define KV_TR 0x40

#endif
