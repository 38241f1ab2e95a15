/* The mqueue file system (mq_overview(7)): the named message queues of an ipc namespace as files. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/ipc/ipc_priv.h"
#include "sentry/ipc/mqueue_priv.h"
#include "sentry/state/desc.h"

#define MQUEUE_MAGIC 0x19800202u
#define FILE_SIZE 80 /* what Linux says */

struct mqueue_inode {
	struct inode inode;   /* first member */
	struct mqueue *queue; /* reference; const */
};

STATE_DESC(mqueue_inode, S_EMBED(mqueue_inode, 1, inode, inode), S_REF(mqueue_inode, 2, queue, mqueue));

static struct ipc_ns *ns_of(const struct inode *i)
{
	return i->sb->data;
}

static void queue_inode_free(struct inode *i)
{
	struct mqueue_inode *m = container_of(i, struct mqueue_inode, inode);

	mqueue_put(m->queue);
	inode_fini(i);
	free(m);
}

static int queue_inode_open(struct inode *i, struct file *f)
{
	return mqueue_open_file(container_of(i, struct mqueue_inode, inode)->queue, f);
}

/* The queue has mode and owner, too: mq_open looks there. */
static int queue_inode_setattr(struct inode *i, const struct kattr *attr)
{
	if (attr->mask & ATTR_SIZE)
		return 0; /* O_TRUNC */
	inode_apply_attr(i, attr);
	mqueue_set_owner(ns_of(i), container_of(i, struct mqueue_inode, inode)->queue, i->uid, i->gid, i->mode & 0777);
	return 0;
}

static const struct inode_ops queue_inode_ops = {
	.name = "mqueue",
	.free = queue_inode_free,
	.open = queue_inode_open,
	.setattr = queue_inode_setattr,
};

/* An inode for the queue, whose reference is taken over in any case. */
static int queue_inode_new(struct superblock *sb, struct mqueue *q, struct inode **ret_inode)
{
	struct mqueue_inode *m = calloc(1, sizeof(*m));
	struct mqueue_facts facts;

	if (!m) {
		mqueue_put(q);
		return -ENOMEM;
	}
	mqueue_facts(sb->data, q, &facts);
	inode_init(&m->inode, &queue_inode_ops, sb, facts.ino, S_IFREG | facts.mode);
	m->inode.uid = facts.uid;
	m->inode.gid = facts.gid;
	m->inode.size = FILE_SIZE;
	m->queue = q;
	*ret_inode = &m->inode;
	return 0;
}

static int dir_lookup(struct inode *dir, const char *name, const char *rest UNUSED, struct inode **ret_inode)
{
	struct mqueue *q = mqueue_find(ns_of(dir), name);

	return q ? queue_inode_new(dir->sb, q, ret_inode) : -ENOENT;
}

/* mq_open and mq_unlink change the directory behind the cache. */
static int dir_revalidate(struct inode *dir, const char *name, struct inode *inode)
{
	struct mqueue *q = mqueue_find(ns_of(dir), name);
	bool same = inode ? q == container_of(inode, struct mqueue_inode, inode)->queue : !q;

	mqueue_put(q);
	return same;
}

static int dir_create(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred UNUSED,
		      struct inode **ret_inode)
{
	struct mqueue *q;
	int err = mqueue_create(ns_of(dir), name, mode & 0777, &q);

	return err < 0 ? err : queue_inode_new(dir->sb, q, ret_inode);
}

static int dir_unlink(struct inode *dir, const char *name, struct inode *victim)
{
	int err = mqueue_remove(ns_of(dir), name);

	if (err < 0)
		return err;
	mutex_lock_nested(&victim->mu);
	victim->nlink = 0;
	mutex_unlock(&victim->mu);
	return 0;
}

static int dir_setattr(struct inode *i, const struct kattr *attr)
{
	inode_apply_attr(i, attr);
	return 0;
}

static void dir_free(struct inode *i)
{
	inode_fini(i);
	free(i);
}

static const struct inode_ops dir_inode_ops = {
	.name = "mqueue directory",
	.free = dir_free,
	.lookup = dir_lookup,
	.revalidate = dir_revalidate,
	.create = dir_create,
	.unlink = dir_unlink,
	.setattr = dir_setattr,
};

static int dir_iterate(struct file *f, struct dir_emit *d, int64_t *pos)
{
	char name[NAME_MAX_GUEST + 1];
	uint64_t ino;
	int64_t at;

	while ((at = mqueue_next(ns_of(f->inode), *pos, name, &ino)) > 0) {
		if (!d->emit(d, name, strlen(name), ino, 8 /* DT_REG */, at + 1))
			return 0;
		*pos = at + 1;
	}
	return 0;
}

static const struct file_ops dir_file_ops = { .name = "mqueue directory", .iterate = dir_iterate };

static void super_free(struct superblock *sb)
{
	ipc_ns_put(sb->data);
}

static const struct superblock_ops super_ops = { .free = super_free };

int mqueue_fs_new(struct ipc_ns *ns, struct superblock **ret_sb)
{
	struct superblock *sb = superblock_new(&super_ops, "mqueue", MQUEUE_MAGIC, ns->user_ns);
	struct inode *root = calloc(1, sizeof(*root));

	if (sb)
		sb->data = ipc_ns_get(ns);
	if (!sb || !root) {
		superblock_put(sb);
		free(root);
		return -ENOMEM;
	}
	inode_init(root, &dir_inode_ops, sb, ino_next(), S_IFDIR | 01777);
	root->fops = &dir_file_ops;
	root->nlink = 2;
	sb->root = root;
	*ret_sb = sb;
	return 0;
}

static int mqueue_mount(const struct fs_type *type UNUSED, const char *source UNUSED, uint64_t flags UNUSED,
			const char *data UNUSED, const struct cred *cred UNUSED, struct superblock **ret_sb)
{
	return current ? mqueue_fs_new(current->ns->ipc, ret_sb) : -EINVAL;
}

static struct fs_type mqueue_type = {
	.name = "mqueue",
	.user_mountable = true,
	.nodev = true,
	.mount = mqueue_mount,
};

void mqueue_fs_register(void)
{
	fs_type_register(&mqueue_type);
}
