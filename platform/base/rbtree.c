/* Red-black tree: the textbook algorithm with parent links; NULL leaves count as black. */
#include "platform/base/rbtree.h"

static bool is_red(const struct rb_node *n)
{
	return n && n->red;
}

/* Puts n (may be NULL) where old was below old's parent. */
static void replace_child(struct rb_tree *tree, struct rb_node *parent, struct rb_node *old,
			  struct rb_node *n)
{
	if (!parent)
		tree->root = n;
	else if (parent->left == old)
		parent->left = n;
	else
		parent->right = n;
	if (n)
		n->parent = parent;
}

static void rotate_left(struct rb_tree *tree, struct rb_node *n)
{
	struct rb_node *up = n->right;

	n->right = up->left;
	if (up->left)
		up->left->parent = n;
	replace_child(tree, n->parent, n, up);
	up->left = n;
	n->parent = up;
}

static void rotate_right(struct rb_tree *tree, struct rb_node *n)
{
	struct rb_node *up = n->left;

	n->left = up->right;
	if (up->right)
		up->right->parent = n;
	replace_child(tree, n->parent, n, up);
	up->right = n;
	n->parent = up;
}

/* Links n at *link below parent and rebalances. Any context; the caller protects the tree. */
void rb_insert(struct rb_tree *tree, struct rb_node *parent, struct rb_node **link, struct rb_node *n)
{
	n->parent = parent;
	n->left = n->right = NULL;
	n->red = true;
	*link = n;
	while (is_red(n->parent)) {
		struct rb_node *p = n->parent, *g = p->parent;
		bool left = p == g->left;
		struct rb_node *uncle = left ? g->right : g->left;

		if (is_red(uncle)) {
			p->red = uncle->red = false;
			g->red = true;
			n = g;
			continue;
		}
		if (n == (left ? p->right : p->left)) {
			if (left)
				rotate_left(tree, p);
			else
				rotate_right(tree, p);
			p = n;
		}
		p->red = false;
		g->red = true;
		if (left)
			rotate_right(tree, g);
		else
			rotate_left(tree, g);
		break;
	}
	tree->root->red = false;
}

/* Restores the black height after a black node went away below parent; n took its place. */
static void erase_fixup(struct rb_tree *tree, struct rb_node *parent, struct rb_node *n)
{
	while (n != tree->root && !is_red(n)) {
		bool left = n == parent->left;
		struct rb_node *s = left ? parent->right : parent->left;

		if (s->red) {
			s->red = false;
			parent->red = true;
			if (left)
				rotate_left(tree, parent);
			else
				rotate_right(tree, parent);
			s = left ? parent->right : parent->left;
		}
		if (!is_red(s->left) && !is_red(s->right)) {
			s->red = true;
			n = parent;
			parent = n->parent;
			continue;
		}
		if (!is_red(left ? s->right : s->left)) {
			(left ? s->left : s->right)->red = false;
			s->red = true;
			if (left)
				rotate_right(tree, s);
			else
				rotate_left(tree, s);
			s = left ? parent->right : parent->left;
		}
		s->red = parent->red;
		parent->red = false;
		(left ? s->right : s->left)->red = false;
		if (left)
			rotate_left(tree, parent);
		else
			rotate_right(tree, parent);
		n = tree->root;
		break;
	}
	if (n)
		n->red = false;
}

/* Unlinks n, which must be in tree. Any context; the caller protects the tree. */
void rb_erase(struct rb_tree *tree, struct rb_node *n)
{
	struct rb_node *child, *parent;
	bool removed_red;

	if (n->left && n->right) {
		struct rb_node *next = n->right;

		while (next->left)
			next = next->left;
		removed_red = next->red;
		child = next->right;
		parent = next->parent == n ? next : next->parent;
		if (next->parent != n) {
			replace_child(tree, next->parent, next, child);
			next->right = n->right;
			n->right->parent = next;
		}
		next->left = n->left;
		n->left->parent = next;
		next->red = n->red;
		replace_child(tree, n->parent, n, next);
	} else {
		removed_red = n->red;
		child = n->left ? n->left : n->right;
		parent = n->parent;
		replace_child(tree, parent, n, child);
	}
	if (!removed_red)
		erase_fixup(tree, parent, child);
	n->parent = n->left = n->right = NULL;
}

/* First node in order, or NULL. */
struct rb_node *rb_first(const struct rb_tree *tree)
{
	struct rb_node *n = tree->root;

	while (n && n->left)
		n = n->left;
	return n;
}

/* Last node in order, or NULL. */
struct rb_node *rb_last(const struct rb_tree *tree)
{
	struct rb_node *n = tree->root;

	while (n && n->right)
		n = n->right;
	return n;
}

/* Successor of n, or NULL. */
struct rb_node *rb_next(const struct rb_node *n)
{
	struct rb_node *p;

	if (n->right) {
		for (p = n->right; p->left;)
			p = p->left;
		return p;
	}
	for (p = n->parent; p && n == p->right; p = p->parent)
		n = p;
	return p;
}

/* Predecessor of n, or NULL. */
struct rb_node *rb_prev(const struct rb_node *n)
{
	struct rb_node *p;

	if (n->left) {
		for (p = n->left; p->right;)
			p = p->right;
		return p;
	}
	for (p = n->parent; p && n == p->left; p = p->parent)
		n = p;
	return p;
}
