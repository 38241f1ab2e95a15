/* Intrusive doubly linked list with a head; a node that is not on a list points to itself. */
#ifndef PLATFORM_BASE_LIST_H
#define PLATFORM_BASE_LIST_H

#include "platform/base/compiler.h"

struct list_node {
	struct list_node *prev, *next;
};

#define LIST_INIT(name) { &(name), &(name) }

static inline void list_init(struct list_node *n)
{
	n->prev = n->next = n;
}

static inline bool list_empty(const struct list_node *head)
{
	return head->next == head;
}

static inline void list_insert_(struct list_node *n, struct list_node *prev, struct list_node *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}

/* Adds n at the front or the back of head; n must not be on a list. */
static inline void list_add(struct list_node *head, struct list_node *n)
{
	list_insert_(n, head, head->next);
}

static inline void list_add_tail(struct list_node *head, struct list_node *n)
{
	list_insert_(n, head->prev, head);
}

/* Unlinks n and leaves it pointing to itself; harmless on a node that is not linked. */
static inline void list_del(struct list_node *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

/* Moves all of from's nodes to the back of to; from ends empty. */
static inline void list_splice_tail(struct list_node *to, struct list_node *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_first(head, type, member)                                                             \
	(list_empty(head) ? (type *)NULL : list_entry((head)->next, type, member))
#define list_last(head, type, member)                                                              \
	(list_empty(head) ? (type *)NULL : list_entry((head)->prev, type, member))
#define list_for_each(it, head, member)                                                            \
	for (it = list_entry((head)->next, __typeof__(*it), member); &it->member != (head);        \
	     it = list_entry(it->member.next, __typeof__(*it), member))
/* Safe against removal of the current entry; tmp is another pointer of the same type. */
#define list_for_each_safe(it, tmp, head, member)                                                  \
	for (it = list_entry((head)->next, __typeof__(*it), member),                               \
	    tmp = list_entry(it->member.next, __typeof__(*it), member);                            \
	     &it->member != (head);                                                                \
	     it = tmp, tmp = list_entry(tmp->member.next, __typeof__(*tmp), member))

#endif
