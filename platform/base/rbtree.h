/*
 * Intrusive red-black tree. The user walks down to find the place of a new node and calls
 * rb_insert; ordering lives with the user, as in Linux's lib/rbtree.c, so no callback is needed.
 */
#ifndef PLATFORM_BASE_RBTREE_H
#define PLATFORM_BASE_RBTREE_H

#include "platform/base/compiler.h"

struct rb_node {
	struct rb_node *parent, *left, *right;
	bool red;
};

struct rb_tree {
	struct rb_node *root;
};

/* Links n at *link below parent (parent is NULL for an empty tree) and rebalances. */
void rb_insert(struct rb_tree *tree, struct rb_node *parent, struct rb_node **link, struct rb_node *n);
/* Unlinks n, which must be in tree. */
void rb_erase(struct rb_tree *tree, struct rb_node *n);
/* First, last, successor, predecessor in order; NULL at the ends. */
struct rb_node *rb_first(const struct rb_tree *tree);
struct rb_node *rb_last(const struct rb_tree *tree);
struct rb_node *rb_next(const struct rb_node *n);
struct rb_node *rb_prev(const struct rb_node *n);

#define rb_entry(node, type, member) container_of(node, type, member)

#endif
