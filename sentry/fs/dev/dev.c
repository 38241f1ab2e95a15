/* Memory devices: mem(4), null(4), random(4), full(4); /dev/tty and /dev/ptmx lead to devpts. */
#include "sentry/fs/dev/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sentry/core/random.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/fs/tmpfs/tmpfs.h"

#define MEM_MAJOR 1u
#define TTY_MAJOR 5u
#define RANDOM_CHUNK 256u
#define ZERO_MAP_SIZE (1ull << 46) /* as far as a mapping can reach */

enum mem_minor { MEM_NULL = 3, MEM_ZERO = 5, MEM_FULL = 7, MEM_RANDOM = 8, MEM_URANDOM = 9, MEM_KMSG = 11 };

static int64_t null_read(struct file *f, struct uio *u, int64_t *pos)
{
	(void)f;
	(void)u;
	(void)pos;
	return 0;
}

/* Takes everything without looking at it, bad addresses included, as Linux does. */
static int64_t null_write(struct file *f, struct uio *u, int64_t *pos)
{
	int64_t n = (int64_t)u->resid;

	(void)f;
	(void)pos;
	uio_advance(u, u->resid);
	return n;
}

static int64_t zero_read(struct file *f, struct uio *u, int64_t *pos)
{
	(void)f;
	(void)pos;
	return uio_zero(u, u->resid);
}

static int64_t full_write(struct file *f, struct uio *u, int64_t *pos)
{
	(void)f;
	(void)pos;
	return u->resid ? -ENOSPC : 0;
}

static int64_t random_read(struct file *f, struct uio *u, int64_t *pos)
{
	uint8_t buf[RANDOM_CHUNK];
	int64_t done = 0, r = 0;

	(void)f;
	(void)pos;
	while (u->resid) {
		size_t chunk = MIN(u->resid, (uint64_t)sizeof(buf));

		random_fill(buf, chunk);
		r = uio_write(u, buf, chunk);
		if (r < 0)
			break;
		done += r;
		if ((size_t)r < chunk)
			break;
	}
	return done ? done : r;
}

/* Positions mean nothing on these devices: lseek gives 0. */
static int64_t mem_seek(struct file *f, int64_t offset, int whence)
{
	(void)f;
	(void)offset;
	(void)whence;
	return 0;
}

static int64_t random_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	int32_t bits = 256;

	(void)f;
	if (cmd != 0x80045200) /* RNDGETENTCNT */
		return -EINVAL;
	return copy_out_struct(um, UADDR(arg), &bits);
}

/* A mapping of /dev/zero is anonymous memory: an unnamed tmpfs file of the open file's own. */
static int zero_mmap(struct file *f, bool shared, uint8_t prot, struct mappable **ret)
{
	struct inode *i = __atomic_load_n((struct inode **)&f->data, __ATOMIC_ACQUIRE), *made = NULL;
	void *expected = NULL;

	(void)shared;
	(void)prot;
	if (!i) {
		struct kattr size = { .mask = ATTR_SIZE, .size = ZERO_MAP_SIZE };
		int r = tmpfs_unnamed(0600, f->cred, &made);

		if (r < 0)
			return r;
		mutex_lock(&made->mu);
		tmpfs_init_seals(made, 0);
		r = made->ops->setattr(made, &size);
		mutex_unlock(&made->mu);
		if (r == 0 && !__atomic_compare_exchange_n(&f->data, &expected, made, false, __ATOMIC_ACQ_REL,
							   __ATOMIC_ACQUIRE)) {
			inode_put(made);
			made = expected;
		}
		if (r < 0) {
			inode_put(made);
			return r;
		}
		i = made;
	}
	*ret = i->mappable;
	return 0;
}

static void zero_release(struct file *f)
{
	inode_put(f->data);
}

static int64_t kmsg_read(struct file *f, struct uio *u, int64_t *pos)
{
	(void)f;
	(void)u;
	(void)pos;
	return -EAGAIN;
}

static uint32_t kmsg_poll(struct file *f, uint32_t events)
{
	(void)f;
	return events & (POLLOUT | POLLWRNORM);
}

static const struct file_ops null_ops = { .name = "null", .read = null_read, .write = null_write, .seek = mem_seek };
static const struct file_ops zero_ops = {
	.name = "zero",
	.release = zero_release,
	.read = zero_read,
	.write = null_write,
	.seek = mem_seek,
	.mmap = zero_mmap,
};
static const struct file_ops full_ops = { .name = "full", .read = zero_read, .write = full_write, .seek = mem_seek };
static const struct file_ops random_ops = {
	.name = "random",
	.read = random_read,
	.write = null_write,
	.seek = mem_seek,
	.ioctl = random_ioctl,
};
static const struct file_ops kmsg_ops = { .name = "kmsg", .read = kmsg_read, .write = null_write, .poll = kmsg_poll };

static int mem_open(struct inode *i, struct file *f)
{
	switch (minor(i->rdev)) {
	case MEM_NULL:
		f->ops = &null_ops;
		return 0;
	case MEM_ZERO:
		f->ops = &zero_ops;
		return 0;
	case MEM_FULL:
		f->ops = &full_ops;
		return 0;
	case MEM_RANDOM:
	case MEM_URANDOM:
		f->ops = &random_ops;
		return 0;
	case MEM_KMSG:
		f->ops = &kmsg_ops;
		return 0;
	default:
		return -ENXIO;
	}
}

static int tty_open(struct inode *i, struct file *f)
{
	(void)i;
	return tty_open_current(f);
}

static int ptmx_open(struct inode *i, struct file *f)
{
	(void)i;
	return devpts_open_ptmx(f);
}

static struct chrdev mem_chrdev = {
	.major = MEM_MAJOR,
	.minor_first = 1,
	.minor_count = 11,
	.name = "mem",
	.open = mem_open,
};
static struct chrdev tty_chrdev = {
	.major = TTY_MAJOR,
	.minor_first = 0,
	.minor_count = 1,
	.name = "/dev/tty",
	.open = tty_open,
};
static struct chrdev ptmx_chrdev = {
	.major = TTY_MAJOR,
	.minor_first = 2,
	.minor_count = 1,
	.name = "/dev/ptmx",
	.open = ptmx_open,
};

struct node {
	const char *name, *target; /* target: a link */
	uint32_t mode;
	unsigned major, minor;
};

static const struct node nodes[] = {
	{ "null", NULL, S_IFCHR | 0666, MEM_MAJOR, MEM_NULL },
	{ "zero", NULL, S_IFCHR | 0666, MEM_MAJOR, MEM_ZERO },
	{ "full", NULL, S_IFCHR | 0666, MEM_MAJOR, MEM_FULL },
	{ "random", NULL, S_IFCHR | 0666, MEM_MAJOR, MEM_RANDOM },
	{ "urandom", NULL, S_IFCHR | 0666, MEM_MAJOR, MEM_URANDOM },
	{ "kmsg", NULL, S_IFCHR | 0644, MEM_MAJOR, MEM_KMSG },
	{ "tty", NULL, S_IFCHR | 0666, TTY_MAJOR, 0 },
	{ "ptmx", "pts/ptmx", 0, 0, 0 },
	{ "fd", "/proc/self/fd", 0, 0, 0 },
	{ "stdin", "/proc/self/fd/0", 0, 0, 0 },
	{ "stdout", "/proc/self/fd/1", 0, 0, 0 },
	{ "stderr", "/proc/self/fd/2", 0, 0, 0 },
	{ "pts", NULL, S_IFDIR | 0755, 0, 0 },
	{ "shm", NULL, S_IFDIR | 01777, 0, 0 },
	{ "mqueue", NULL, S_IFDIR | 0755, 0, 0 },
};

static int add_node(struct inode *dir, const struct node *n, const struct cred *cred)
{
	struct inode *made = NULL;
	int r;

	GUARD(mutex, &dir->mu);
	if (n->target)
		r = dir->ops->symlink(dir, n->name, n->target, cred, &made);
	else if (S_ISDIR(n->mode))
		r = dir->ops->mkdir(dir, n->name, n->mode, cred, &made);
	else
		r = dir->ops->mknod(dir, n->name, n->mode, makedev(n->major, n->minor), cred, &made);
	inode_put(made);
	return r;
}

static int devtmpfs_mount(const struct fs_type *t, const char *source, uint64_t flags, const char *data,
			  const struct cred *cred, struct superblock **ret_sb)
{
	struct superblock *sb;
	int r = tmpfs_new(t->name, data && *data ? data : "mode=755", cred, &sb);

	(void)source;
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(nodes); i++)
		r = add_node(sb->root, &nodes[i], cred);
	if (r < 0) {
		superblock_put(sb);
		return r;
	}
	sb->readonly = flags & 1; /* MS_RDONLY */
	*ret_sb = sb;
	return 0;
}

static struct fs_type devtmpfs_type = { .name = "devtmpfs", .nodev = true, .mount = devtmpfs_mount };

int dev_init(void)
{
	chrdev_register(&mem_chrdev);
	chrdev_register(&tty_chrdev);
	chrdev_register(&ptmx_chrdev);
	fs_type_register(&devtmpfs_type);
	return 0;
}
