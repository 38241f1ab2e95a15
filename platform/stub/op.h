/* Changes of an address space, queued and as the system calls that a stub makes for them. */
#ifndef PLATFORM_STUB_OP_H
#define PLATFORM_STUB_OP_H

#include "platform/base/compiler.h"
#include "platform/platform.h"
#include "platform/stub/layout.h"

/* One system call of a batch, in the argument pages. */
struct stub_op {
	uint64_t nr, arg[6], pad;
};
_Static_assert(sizeof(struct stub_op) == OP_SIZE, "stub.S");

/* Changes not yet applied, the oldest first. Whoever has it protects it. */
struct op_queue {
	struct aspace_op *op;
	size_t count, room; /* room is never 0 */
};

struct stub_op stub_op_encode(const struct aspace_op *op);
struct stub_op stub_op_unmap(uint64_t addr, uint64_t size);

NODISCARD int op_queue_init(struct op_queue *q);
void op_queue_fini(struct op_queue *q);
NODISCARD bool op_queue_reserve(struct op_queue *q, size_t count);
void op_queue_add(struct op_queue *q, const struct aspace_op *op, size_t count);
void op_queue_add_first(struct op_queue *q, const struct aspace_op *op);
void op_queue_replace(struct op_queue *q, const struct aspace_op *op);
void op_queue_remove(struct op_queue *q, size_t count);

#endif
