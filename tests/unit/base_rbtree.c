/* rbtree: order, colours and black heights hold through random inserts and erases. */
#include "platform/base/rbtree.h"

#include <stdio.h>
#include <stdlib.h>

static int passed, failed;
#define CHECK(c) ((c) ? passed++ : (failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

struct item {
	struct rb_node node;
	unsigned int key;
	bool in;
};

static void insert(struct rb_tree *t, struct item *it)
{
	struct rb_node **link = &t->root, *parent = NULL;

	while (*link) {
		parent = *link;
		link = it->key < rb_entry(parent, struct item, node)->key ? &parent->left : &parent->right;
	}
	rb_insert(t, parent, link, &it->node);
}

/* Black height, or -1 when a rule is broken. */
static int height(const struct rb_node *n)
{
	int l, r;

	if (!n)
		return 1;
	if (n->red && ((n->left && n->left->red) || (n->right && n->right->red)))
		return -1;
	if ((n->left && n->left->parent != n) || (n->right && n->right->parent != n))
		return -1;
	l = height(n->left);
	r = height(n->right);
	return l < 0 || l != r ? -1 : l + !n->red;
}

static bool ordered(const struct rb_tree *t, unsigned int count)
{
	unsigned int n = 0;
	struct rb_node *prev = NULL;

	for (struct rb_node *it = rb_first(t); it; prev = it, it = rb_next(it), n++)
		if (rb_prev(it) != prev || (prev && rb_entry(prev, struct item, node)->key >
							    rb_entry(it, struct item, node)->key))
			return false;
	return n == count && rb_last(t) == prev;
}

int main(void)
{
	enum { N = 500 };
	static struct item items[N];
	struct rb_tree t = { NULL };
	unsigned int count = 0;

	srandom(1);
	CHECK(rb_first(&t) == NULL && rb_last(&t) == NULL);
	for (int step = 0; step < 20000; step++) {
		struct item *it = &items[random() % N];

		if (it->in) {
			rb_erase(&t, &it->node);
			count--;
		} else {
			it->key = (unsigned int)random() % 1000;
			insert(&t, it);
			count++;
		}
		it->in = !it->in;
		if (step % 50 == 0)
			CHECK(height(t.root) > 0 && ordered(&t, count));
	}
	for (int i = 0; i < N; i++)
		if (items[i].in)
			rb_erase(&t, &items[i].node);
	CHECK(t.root == NULL);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
