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
#define KV_USER_MAX 0x7fffffff0000
#define KV_TASK_SIZE 0x7ffffffff000

#define KV_KERNEL 0xffffc90000000000
#define KV_HANDLERS KV_KERNEL		    /* supervisor, execute: one HANDLER_SIZE slot for each vector */
#define KV_IDT (KV_KERNEL + 0x1000)	    /* supervisor, read */
#define KV_CPU (KV_KERNEL + 0x10000)	    /* two pages for each vCPU: GDT and TSS (read), exception stack (write) */
#define KV_CPU_SIZE 0x2000
#define KV_SYSCALL (KV_KERNEL + 0x10000000)  /* never mapped: where a syscall instruction lands */
#define KV_SYSCALL32 (KV_SYSCALL + 0x1000)  /* the same, from 32-bit code */

#define HANDLER_SIZE 16

/* Guest-physical. */
#define KV_GPA_KERNEL 0x100000	    /* handlers, IDT, pages of the vCPUs */
#define KV_GPA_FLUSH 0x8000000	    /* a page that nobody uses: see kv_flush_all */
#define KV_GPA_TABLES 0x100000000   /* page tables, in slots of KV_TABLE_SLOT */
#define KV_GPA_FRAMES 0x400000000   /* windows of host files, in slots of KV_SLOT, to the end of the processor's range */

/* Selectors, as Linux has them. */
#define KV_KERNEL_CS 0x10
#define KV_KERNEL_SS 0x18
#define KV_USER_CS32 0x23
#define KV_USER_SS 0x2b
#define KV_USER_CS 0x33
#define KV_TR 0x40

#endif
