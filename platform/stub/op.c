/* Changes of an address space: the queue, and their encoding for the batch code of stub.S. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "platform/stub/op.h"

enum { ROOM_MIN = 16, ROOM_KEPT = 4096 /* an empty queue with more gives it back */ };

/* An empty queue. 0 or -ENOMEM. */
int op_queue_init(struct op_queue *q)
{
	*q = (struct op_queue){ .op = calloc(ROOM_MIN, sizeof(*q->op)), .room = ROOM_MIN };
	return q->op ? 0 : -ENOMEM;
}

/* Also of a queue whose op_queue_init has failed. */
void op_queue_fini(struct op_queue *q)
{
	free(q->op);
}

/* Makes room for count more changes. false: no memory, nothing has changed. */
bool op_queue_reserve(struct op_queue *q, size_t count)
{
	size_t room = MAX(q->room * 2, q->count + count + ROOM_MIN);
	struct aspace_op *grown;

	if (q->room - q->count >= count)
		return true;
	grown = reallocarray(q->op, room, sizeof(*grown));
	if (!grown)
		return false;
	q->op = grown;
	q->room = room;
	return true;
}

/* True when b continues a: the same kind, side by side, and for a mapping also in the file. */
static bool op_continues(const struct aspace_op *a, const struct aspace_op *b)
{
	if (a->kind != b->kind || a->addr + a->size != b->addr)
		return false;
	if (a->kind == ASPACE_UNMAP)
		return true;
	return a->prot == b->prot &&
	       (a->kind == ASPACE_PROTECT || (a->host_fd == b->host_fd && a->populate == b->populate &&
					      a->offset + a->size == b->offset));
}

/* Appends changes, for which there is room; one that continues the last becomes part of it. */
void op_queue_add(struct op_queue *q, const struct aspace_op *op, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (q->count && op_continues(&q->op[q->count - 1], &op[i]))
			q->op[q->count - 1].size += op[i].size;
		else
			q->op[q->count++] = op[i];
	}
}

/* Puts a change, for which there is room, before all others. */
void op_queue_add_first(struct op_queue *q, const struct aspace_op *op)
{
	memmove(q->op + 1, q->op, q->count++ * sizeof(*q->op));
	q->op[0] = *op;
}

/* Forgets all changes but this one. Never fails. */
void op_queue_replace(struct op_queue *q, const struct aspace_op *op)
{
	q->op[0] = *op;
	q->count = 1;
}

/* The first count changes are done. */
void op_queue_remove(struct op_queue *q, size_t count)
{
	struct aspace_op *less;

	q->count -= count;
	memmove(q->op, q->op + count, q->count * sizeof(*q->op));
	if (q->count || q->room <= ROOM_KEPT)
		return;
	less = reallocarray(q->op, ROOM_MIN, sizeof(*less));
	if (!less)
		return;
	q->op = less;
	q->room = ROOM_MIN;
}

static uint64_t host_prot(uint8_t prot)
{
	return (uint64_t)(((prot & PLATFORM_READ) ? PROT_READ : 0) | ((prot & PLATFORM_WRITE) ? PROT_WRITE : 0) |
			  ((prot & PLATFORM_EXEC) ? PROT_EXEC : 0));
}

/* The system call that unmaps a range. */
struct stub_op stub_op_unmap(uint64_t addr, uint64_t size)
{
	return (struct stub_op){ .nr = SYS_munmap, .arg = { addr, size } };
}

/* The system call that does a change; its file is one of the sentry's descriptors, which stubs share. */
struct stub_op stub_op_encode(const struct aspace_op *op)
{
	if (op->kind == ASPACE_UNMAP)
		return stub_op_unmap(op->addr, op->size);
	if (op->kind == ASPACE_PROTECT)
		return (struct stub_op){ .nr = SYS_mprotect,
					 .arg = { op->addr, op->size, host_prot(op->prot) } };
	return (struct stub_op){ .nr = SYS_mmap,
				 .arg = { op->addr, op->size, host_prot(op->prot),
					  MAP_SHARED | MAP_FIXED | (op->populate ? MAP_POPULATE : 0u),
					  (uint64_t)op->host_fd, op->offset } };
}
