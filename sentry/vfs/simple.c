/* Synthetic trees; see simple.h. */
#include <stdlib.h>

#include "sentry/state/desc.h"
#include "sentry/vfs/simple.h"
#include "sentry/vfs/vfs_priv.h"

#define STORE_MAX 4096u

struct simple_child {
	struct list_node node;
	int64_t cookie; /* position of this entry; those after it are higher */
	struct inode *inode; /* reference */
	char name[];
};

/* One generated text, shared by the readers of an open file. */
struct snapshot {
	struct refcount refs;
	size_t size;
	char *text; /* owned */
};

/* An open text file. */
struct text_file {
	struct mutex mu; /* LOCK_OBJECT: snap */
	struct snapshot *snap;
};

STATE_DESC(simple_inode, S_EMBED(simple_inode, 1, inode, inode), S_NOSAVE(simple_inode, ops, "by name"),
	   S_NOSAVE(simple_inode, data, "by the tree's own descriptor"), S_VAL(simple_inode, 2, num),
	   S_LIST(simple_inode, 3, children, simple_child), S_VAL(simple_inode, 4, next_cookie));
STATE_DESC(simple_child, S_NOSAVE(simple_child, node, "linked again"), S_VAL(simple_child, 1, cookie),
	   S_REF(simple_child, 2, inode, inode));
STATE_DESC(snapshot, S_NOSAVE(snapshot, refs, "recounted"), S_VAL(snapshot, 1, size), S_BYTES(snapshot, 2, text));
STATE_DESC(text_file, S_NOSAVE(text_file, mu, "free at a safe point"), S_REF(text_file, 1, snap, snapshot));

const struct superblock_ops simple_superblock_ops = { .free = NULL };

static const struct inode_ops plain_inode_ops, full_inode_ops;
static const struct file_ops text_file_ops, dir_file_ops;

struct simple_inode *simple_of(struct inode *i)
{
	if (i->ops != &plain_inode_ops && i->ops != &full_inode_ops)
		return NULL;
	return container_of(i, struct simple_inode, inode);
}

static struct simple_inode *self(struct inode *i)
{
	return container_of(i, struct simple_inode, inode);
}

static const struct simple_ops empty_ops = { .name = "static" };

struct inode *simple_new_ino(struct superblock *sb, const struct simple_ops *ops, uint32_t mode,
			     uint64_t ino, void *data, uint64_t num)
{
	struct simple_inode *s = malloc(sizeof(*s));
	bool full;

	if (!s)
		return NULL;
	ops = ops ? ops : &empty_ops;
	full = ops->revalidate || ops->follow || ops->refresh || ops->permission;
	inode_init(&s->inode, full ? &full_inode_ops : &plain_inode_ops, sb, ino, mode);
	s->inode.fops = S_ISDIR(mode) ? &dir_file_ops : &text_file_ops;
	s->ops = ops;
	s->data = data;
	s->num = num;
	s->next_cookie = 2;
	list_init(&s->children);
	return &s->inode;
}

struct inode *simple_new(struct superblock *sb, const struct simple_ops *ops, uint32_t mode, void *data,
			 uint64_t num)
{
	return simple_new_ino(sb, ops, mode, ino_next(), data, num);
}

static void child_free(struct simple_child *c)
{
	list_del(&c->node);
	inode_put(c->inode);
	free(c);
}

static void simple_free(struct inode *i)
{
	struct simple_inode *s = self(i);
	struct simple_child *c, *tmp;

	list_for_each_safe(c, tmp, &s->children, node)
		child_free(c);
	if (s->ops->free)
		s->ops->free(s);
	inode_fini(i);
	free(s);
}

static struct simple_child *child_find(struct simple_inode *dir, const char *name)
{
	struct simple_child *c;

	list_for_each(c, &dir->children, node) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

int simple_add(struct inode *dir, const char *name, struct inode *child)
{
	struct simple_inode *d = self(dir);
	size_t size = strlen(name) + 1;
	struct simple_child *c;

	if (!child)
		return -ENOMEM;
	c = malloc(sizeof(*c) + size);
	if (!c) {
		inode_put(child);
		return -ENOMEM;
	}
	memcpy(c->name, name, size);
	c->inode = child;
	mutex_lock(&dir->mu);
	c->cookie = d->next_cookie++;
	list_add_tail(&d->children, &c->node);
	if (S_ISDIR(child->mode))
		dir->nlink++;
	mutex_unlock(&dir->mu);
	dcache_forget(dir, name); /* a negative entry */
	return 0;
}

int simple_add_dir(struct inode *dir, const char *name, struct inode **ret_dir)
{
	struct inode *child = simple_new(dir->sb, NULL, S_IFDIR | 0555, NULL, 0);
	int r = simple_add(dir, name, child);

	if (r == 0)
		*ret_dir = child; /* borrowed: lives as long as its parent */
	return r;
}

int simple_add_file(struct inode *dir, const char *name, uint32_t mode, const struct simple_ops *ops,
		    void *data)
{
	return simple_add(dir, name, simple_new(dir->sb, ops, S_IFREG | (mode & 07777), data, 0));
}

static int64_t static_readlink(struct simple_inode *s, char *buf, size_t size)
{
	size_t len = strlen(s->data);

	len = MIN(len, size);
	memcpy(buf, s->data, len);
	return (int64_t)len;
}

static void static_link_free(struct simple_inode *s)
{
	free(s->data);
}

static const struct simple_ops static_link_ops = { .name = "link",
						    .readlink = static_readlink,
						    .free = static_link_free };

int simple_add_link(struct inode *dir, const char *name, const char *target)
{
	char *text = strdup(target);
	struct inode *child = text ? simple_new(dir->sb, &static_link_ops, S_IFLNK | 0777, text, 0) : NULL;

	if (text && !child)
		free(text);
	if (child)
		child->size = strlen(target);
	return simple_add(dir, name, child);
}

void simple_remove(struct inode *dir, const char *name)
{
	struct simple_child *c;

	mutex_lock(&dir->mu);
	c = child_find(self(dir), name);
	if (c) {
		list_del(&c->node);
		if (S_ISDIR(c->inode->mode))
			dir->nlink--;
	}
	mutex_unlock(&dir->mu);
	if (c)
		child_free(c);
	dcache_forget(dir, name);
}

static int simple_lookup(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode)
{
	struct simple_inode *d = self(dir);
	struct simple_child *c;

	(void)rest;
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	c = child_find(d, name);
	if (c) {
		*ret_inode = inode_get(c->inode);
		return 0;
	}
	return d->ops->lookup ? d->ops->lookup(d, name, ret_inode) : -ENOENT;
}

static int simple_revalidate(struct inode *dir, const char *name, struct inode *inode)
{
	struct simple_inode *d = self(dir);

	return d->ops->revalidate ? d->ops->revalidate(d, name, inode) : 1;
}

static int64_t simple_readlink(struct inode *i, char *buf, size_t size)
{
	struct simple_inode *s = self(i);

	return s->ops->readlink ? s->ops->readlink(s, buf, size) : -EINVAL;
}

static int simple_follow(struct inode *i, const struct cred *cred, struct path *ret_path)
{
	struct simple_inode *s = self(i);

	return s->ops->follow ? s->ops->follow(s, cred, ret_path) : 1;
}

static int simple_refresh(struct inode *i)
{
	struct simple_inode *s = self(i);

	if (s->ops->refresh)
		s->ops->refresh(s);
	return 0;
}

static int simple_permission(struct inode *i, const struct cred *cred, unsigned mask)
{
	struct simple_inode *s = self(i);

	return s->ops->permission ? s->ops->permission(s, cred, mask) : generic_permission(i, cred, mask);
}

static int simple_setattr(struct inode *i, const struct kattr *a)
{
	/* Opening with O_TRUNC is how shells write to these files. */
	if (a->mask & ATTR_SIZE && !(a->mask & (ATTR_MODE | ATTR_UID | ATTR_GID)))
		return 0;
	if (!self(i)->ops->allow_setattr)
		return -EPERM;
	inode_apply_attr(i, a);
	return 0;
}

static void simple_getattr(struct inode *i, struct kstat *st)
{
	(void)i;
	st->blocks = 0;
	st->blksize = 4096;
}

static int simple_open(struct inode *i, struct file *f)
{
	struct simple_inode *s = self(i);
	struct text_file *tf;
	const struct file_ops *before = f->ops;
	int r = s->ops->open ? s->ops->open(s, f) : 0;

	if (r < 0 || f->ops != before || !S_ISREG(i->mode))
		return r;
	tf = calloc(1, sizeof(*tf));
	if (!tf)
		return -ENOMEM;
	mutex_init(&tf->mu, LOCK_OBJECT);
	f->data = tf;
	return 0;
}

static const struct inode_ops plain_inode_ops = {
	.name = "simple",
	.free = simple_free,
	.lookup = simple_lookup,
	.readlink = simple_readlink,
	.getattr = simple_getattr,
	.setattr = simple_setattr,
	.open = simple_open,
};

static const struct inode_ops full_inode_ops = {
	.name = "simple",
	.free = simple_free,
	.lookup = simple_lookup,
	.revalidate = simple_revalidate,
	.readlink = simple_readlink,
	.follow = simple_follow,
	.refresh = simple_refresh,
	.permission = simple_permission,
	.getattr = simple_getattr,
	.setattr = simple_setattr,
	.open = simple_open,
};

static void snapshot_put(struct snapshot *s)
{
	if (s && refcount_put(&s->refs)) {
		free(s->text);
		free(s);
	}
}

/* Generates the text anew and makes it the file's; a reference in *ret. */
static int text_generate(struct simple_inode *s, struct file *f, struct snapshot **ret)
{
	struct text_file *tf = f->data;
	struct snapshot *n = calloc(1, sizeof(*n)), *old;
	struct seq q;
	int r;

	if (!n)
		return -ENOMEM;
	seq_init(&q);
	r = s->ops->show(s, f, &q);
	if (r == 0 && q.failed)
		r = -ENOMEM;
	if (r < 0) {
		seq_fini(&q);
		free(n);
		return r;
	}
	refcount_init(&n->refs, 2);
	n->text = q.text;
	n->size = q.size;
	mutex_lock(&tf->mu);
	old = tf->snap;
	tf->snap = n;
	mutex_unlock(&tf->mu);
	snapshot_put(old);
	*ret = n;
	return 0;
}

static int64_t text_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct simple_inode *s = self(f->inode);
	struct text_file *tf = f->data;
	struct snapshot *n;
	int64_t r = 0;

	if (!s->ops->show)
		return -EINVAL;
	mutex_lock(&tf->mu);
	n = *pos ? tf->snap : NULL;
	if (n)
		refcount_get(&n->refs);
	mutex_unlock(&tf->mu);
	if (!n) {
		int err = text_generate(s, f, &n);

		if (err < 0)
			return err;
	}
	if ((uint64_t)*pos < n->size) {
		r = uio_write(u, n->text + *pos, MIN(n->size - (uint64_t)*pos, u->resid));
		if (r > 0)
			*pos += r;
	}
	snapshot_put(n);
	return r;
}

static int64_t text_write(struct file *f, struct uio *u, int64_t *pos)
{
	struct simple_inode *s = self(f->inode);
	size_t max = s->ops->store_max ? s->ops->store_max : STORE_MAX;
	uint64_t size = u->resid;
	char *text;
	int64_t r;

	if (!s->ops->store)
		return -EINVAL;
	if (size > max)
		return -EINVAL;
	text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	r = uio_read(u, text, size);
	if (r >= 0 && (uint64_t)r < size)
		r = -EFAULT;
	if (r >= 0) {
		text[size] = 0;
		r = s->ops->store(s, f, text, size, *pos);
	}
	free(text);
	if (r > 0)
		*pos += r;
	return r;
}

static void text_release(struct file *f)
{
	struct text_file *tf = f->data;

	if (!tf)
		return;
	snapshot_put(tf->snap);
	mutex_fini(&tf->mu);
	free(tf);
}

static const struct file_ops text_file_ops = {
	.name = "text",
	.release = text_release,
	.read = text_read,
	.write = text_write,
};

/* Emits static children from *pos on; false when the buffer is full. */
static bool emit_static(struct simple_inode *s, struct dir_emit *d, int64_t *pos)
{
	struct simple_child *c;

	GUARD(mutex, &s->inode.mu);
	list_for_each(c, &s->children, node) {
		if (c->cookie < *pos)
			continue;
		if (!d->emit(d, c->name, strlen(c->name), c->inode->ino, (uint8_t)(c->inode->mode >> 12 & 15),
			     c->cookie + 1))
			return false;
		*pos = c->cookie + 1;
	}
	return true;
}

static int dir_iterate(struct file *f, struct dir_emit *d, int64_t *pos)
{
	struct simple_inode *s = self(f->inode);

	if (*pos < SIMPLE_DYNAMIC) {
		if (!emit_static(s, d, pos))
			return 0;
		*pos = SIMPLE_DYNAMIC;
	}
	return s->ops->iterate ? s->ops->iterate(s, f, d, pos) : 0;
}

static const struct file_ops dir_file_ops = { .name = "simple directory", .iterate = dir_iterate };
