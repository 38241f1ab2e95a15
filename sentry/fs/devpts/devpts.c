/* The devpts file system: a directory with a node for each pty of the instance, and ptmx. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "sentry/fs/devpts/tty_priv.h"
#include "sentry/state/desc.h"
#include "sentry/vfs/simple.h"

#define DEVPTS_MAGIC 0x1cd1
#define PTY_MAX 4096u
#define PTY_SLAVE_MAJOR 136
#define TTYAUX_MAJOR 5

struct devpts {
	struct refcount refs;	/* the superblock's, and one per pty */
	struct mutex mu;	/* LOCK_FS_DATA: used, root */
	struct inode *root;	/* borrowed; NULL after unmount */
	struct superblock *sb;	/* borrowed, as root */
	uint8_t used[PTY_MAX / 8];
	uint32_t mode, ptmx_mode, max;
	uint32_t uid, gid;
	bool uid_set, gid_set;
};

STATE_DESC(devpts, S_NOSAVE(devpts, refs, "recounted"), S_NOSAVE(devpts, mu, "unheld at a safe point"),
	   S_WEAK(devpts, 1, root, inode), S_WEAK(devpts, 2, sb, superblock), S_VAL(devpts, 3, used),
	   S_VAL(devpts, 4, mode), S_VAL(devpts, 5, ptmx_mode), S_VAL(devpts, 6, max), S_VAL(devpts, 7, uid),
	   S_VAL(devpts, 8, gid), S_VAL(devpts, 9, uid_set), S_VAL(devpts, 10, gid_set));

void devpts_put(struct devpts *d)
{
	if (!d || !refcount_put(&d->refs))
		return;
	mutex_fini(&d->mu);
	free(d);
}

static void sb_free(struct superblock *sb)
{
	struct devpts *d = sb->data;

	mutex_lock(&d->mu);
	d->root = NULL;
	d->sb = NULL;
	mutex_unlock(&d->mu);
	devpts_put(d);
}

static const struct superblock_ops devpts_sb_ops = { .free = sb_free };

static void slave_free(struct simple_inode *s)
{
	tty_put(pty_tty(s->data));
}

static const struct simple_ops slave_node_ops = { .name = "pts", .free = slave_free, .allow_setattr = true };
static void host_node_free(struct simple_inode *s)
{
	tty_put(s->data);
}

static const struct simple_ops host_node_ops = { .name = "pts host", .free = host_node_free, .allow_setattr = true };
static const struct simple_ops ptmx_node_ops = { .name = "ptmx", .allow_setattr = true };

/* Lowest free number, or -ENOSPC. */
static int take_index(struct devpts *d)
{
	GUARD(mutex, &d->mu);

	for (unsigned i = 0; i < MIN(d->max, PTY_MAX); i++) {
		if (d->used[i / 8] & (1u << (i % 8)))
			continue;
		d->used[i / 8] |= (uint8_t)(1u << (i % 8));
		return (int)i;
	}
	return -ENOSPC;
}

static void give_index(struct devpts *d, unsigned index)
{
	GUARD(mutex, &d->mu);
	d->used[index / 8] &= (uint8_t)~(1u << (index % 8));
}

/* The root with a reference while mounted, else NULL. */
static struct inode *root_get(struct devpts *d)
{
	GUARD(mutex, &d->mu);
	return d->root ? inode_get(d->root) : NULL;
}

void devpts_remove(struct devpts *d, unsigned index)
{
	AUTO(inode_put) struct inode *root = root_get(d);
	char name[16];

	snprintf(name, sizeof(name), "%u", index);
	if (root)
		simple_remove(root, name);
	give_index(d, index);
}

/* Number index of the directory, owned as the mount options and the opener say: data is what ops wants, with
 * a reference on t. */
static int add_node(struct devpts *d, const struct simple_ops *ops, void *data, struct tty *t, unsigned index,
		    const struct cred *cred)
{
	AUTO(inode_put) struct inode *root = root_get(d);
	struct inode *node;
	char name[16];

	if (!root)
		return -EIO;
	snprintf(name, sizeof(name), "%u", index);
	node = simple_new_ino(d->sb, ops, S_IFCHR | d->mode, index + 3, data, index);
	if (!node)
		return -ENOMEM;
	tty_get(t);
	node->rdev = makedev(PTY_SLAVE_MAJOR, index);
	node->uid = d->uid_set ? KUID(d->uid) : cred->fsuid;
	node->gid = d->gid_set ? KGID(d->gid) : cred->fsgid;
	return simple_add(root, name, node);
}

static int open_new_pty(struct devpts *d, struct file *f)
{
	struct pty *p;
	int index = take_index(d), ret;

	if (index < 0)
		return index;
	refcount_get(&d->refs);
	ret = pty_new(d, (unsigned)index, &p);
	if (ret < 0) {
		devpts_put(d);
		give_index(d, (unsigned)index);
		return ret;
	}
	ret = add_node(d, &slave_node_ops, p, pty_tty(p), (unsigned)index, f->cred);
	if (ret < 0) {
		give_index(d, (unsigned)index);
		tty_put(pty_tty(p));
		return ret;
	}
	return pty_open_master(p, f);
}

static struct devpts *devpts_of(struct superblock *sb)
{
	return sb && sb->ops == &devpts_sb_ops ? sb->data : NULL;
}

int devpts_host_reserve(struct superblock *sb, struct devpts **ret_d)
{
	struct devpts *d = devpts_of(sb);
	int index = d ? take_index(d) : -ENODEV;

	if (index >= 0) {
		refcount_get(&d->refs);
		*ret_d = d;
	}
	return index;
}

int devpts_host_add(struct devpts *d, unsigned index, struct tty *t, const struct cred *cred)
{
	return add_node(d, &host_node_ops, t, t, index, cred);
}

/* The instance mounted on /dev/pts as the caller sees it, with its superblock kept by *ret_path. */
static int find_instance(struct path *ret_path, struct devpts **ret_d)
{
	struct walk w;
	int ret = task_walk(current, AT_FDCWD, &w);

	if (ret < 0)
		return ret;
	ret = vfs_walk(&w, "/dev/pts", WALK_FOLLOW, ret_path);
	walk_put(&w);
	if (ret < 0)
		return ret;
	*ret_d = devpts_of(ret_path->dentry->inode->sb);
	if (!*ret_d) {
		path_put(ret_path);
		return -ENODEV;
	}
	return 0;
}

int devpts_open_ptmx(struct file *f)
{
	struct devpts *d = devpts_of(f->inode->sb);
	struct path p;
	int ret;

	if (d)
		return open_new_pty(d, f);
	if (!current)
		return -ENXIO;
	ret = find_instance(&p, &d);
	if (ret < 0)
		return ret;
	ret = open_new_pty(d, f);
	path_put(&p);
	return ret;
}

/* Opens what stands behind a node of an instance. */
static int open_node(struct simple_inode *s, struct file *f)
{
	return s->ops == &host_node_ops ? host_tty_open(s->data, f) : pty_open_slave(s->data, f);
}

static int chr_open_slave(struct inode *i, struct file *f)
{
	struct simple_inode *s = simple_of(i);
	struct path p;
	struct devpts *d;
	struct inode *root, *node;
	char name[16];
	int ret;

	if (s && devpts_of(i->sb))
		return open_node(s, f);
	/* A node made elsewhere with mknod: the pty of that number in the caller's instance. */
	if (!current)
		return -ENXIO;
	ret = find_instance(&p, &d);
	if (ret < 0)
		return -ENXIO;
	root = p.dentry->inode;
	snprintf(name, sizeof(name), "%u", minor(i->rdev));
	mutex_lock(&root->mu);
	ret = root->ops->lookup(root, name, "", &node);
	mutex_unlock(&root->mu);
	if (ret == 0) {
		ret = open_node(simple_of(node), f);
		inode_put(node);
	}
	path_put(&p);
	return ret == -ENOENT ? -ENXIO : ret;
}

static int chr_open_aux(struct inode *i, struct file *f)
{
	switch (minor(i->rdev)) {
	case 0:
		return tty_open_current(f);
	case 2:
		return devpts_open_ptmx(f);
	default:
		return -ENXIO;
	}
}

/* Octal or decimal number of "name=value"; false when it is none. */
static bool option_number(const char *value, int base, uint32_t *ret)
{
	char *end;
	unsigned long v = strtoul(value, &end, base);

	if (end == value || *end || v > UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static int option_parse(struct devpts *d, struct user_ns *ns, const char *name, const char *value)
{
	uint32_t n;
	kuid_t uid;
	kgid_t gid;

	if (strcmp(name, "newinstance") == 0 || *name == '\0')
		return 0;
	if (!value)
		return -EINVAL;
	if (strcmp(name, "mode") == 0)
		return option_number(value, 8, &n) ? (d->mode = n & 0777, 0) : -EINVAL;
	if (strcmp(name, "ptmxmode") == 0)
		return option_number(value, 8, &n) ? (d->ptmx_mode = n & 0777, 0) : -EINVAL;
	if (strcmp(name, "max") == 0)
		return option_number(value, 10, &n) ? (d->max = n, 0) : -EINVAL;
	if (strcmp(name, "uid") == 0) {
		if (!option_number(value, 10, &n) || !user_ns_make_kuid(ns, n, &uid))
			return -EINVAL;
		d->uid = uid.v;
		d->uid_set = true;
		return 0;
	}
	if (strcmp(name, "gid") == 0) {
		if (!option_number(value, 10, &n) || !user_ns_make_kgid(ns, n, &gid))
			return -EINVAL;
		d->gid = gid.v;
		d->gid_set = true;
		return 0;
	}
	return -EINVAL;
}

static int options_parse(struct devpts *d, struct user_ns *ns, const char *data)
{
	char *text = strdup(data ? data : ""), *save = NULL;
	int ret = text ? 0 : -ENOMEM;

	for (char *o = text ? strtok_r(text, ",", &save) : NULL; o && ret == 0; o = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(o, '=');

		if (eq)
			*eq++ = '\0';
		ret = option_parse(d, ns, o, eq);
	}
	free(text);
	return ret;
}

/* Text for /proc/mounts. */
static char *options_text(const struct devpts *d)
{
	char buf[128];
	int n = 0;

	if (d->gid_set)
		n = snprintf(buf, sizeof(buf), "gid=%u,", d->gid);
	snprintf(buf + n, sizeof(buf) - (size_t)n, "mode=%03o,ptmxmode=%03o", d->mode, d->ptmx_mode);
	return strdup(buf);
}

static int build_tree(struct devpts *d, struct superblock *sb)
{
	struct inode *root = simple_new(sb, NULL, S_IFDIR | 0755, NULL, 0), *ptmx;

	if (!root)
		return -ENOMEM;
	sb->root = root;
	ptmx = simple_new(sb, &ptmx_node_ops, S_IFCHR | d->ptmx_mode, NULL, 0);
	if (!ptmx)
		return -ENOMEM;
	ptmx->rdev = makedev(TTYAUX_MAJOR, 2);
	d->root = root;
	d->sb = sb;
	return simple_add(root, "ptmx", ptmx);
}

int devpts_mount(const char *data, struct user_ns *user_ns, struct superblock **ret_sb)
{
	struct devpts *d = calloc(1, sizeof(*d));
	struct superblock *sb;
	int ret;

	if (!d)
		return -ENOMEM;
	refcount_init(&d->refs, 1);
	mutex_init(&d->mu, LOCK_FS_DATA);
	d->mode = 0600;
	d->max = PTY_MAX;
	ret = options_parse(d, user_ns, data);
	sb = ret == 0 ? superblock_new(&devpts_sb_ops, "devpts", DEVPTS_MAGIC, user_ns) : NULL;
	if (!sb) {
		devpts_put(d);
		return ret < 0 ? ret : -ENOMEM;
	}
	sb->data = d;
	sb->options = options_text(d);
	ret = build_tree(d, sb);
	if (ret < 0) {
		superblock_put(sb);
		return ret;
	}
	*ret_sb = sb;
	return 0;
}

static int type_mount(const struct fs_type *t UNUSED, const char *source UNUSED, uint64_t flags UNUSED,
		      const char *data, const struct cred *cred, struct superblock **ret_sb)
{
	return devpts_mount(data, cred->user_ns, ret_sb);
}

void devpts_init(void)
{
	static struct fs_type type = { .name = "devpts", .user_mountable = true, .nodev = true, .mount = type_mount };
	static struct chrdev slave = { PTY_SLAVE_MAJOR, 0, PTY_MAX, "pts", chr_open_slave, { 0 } };
	static struct chrdev tty = { TTYAUX_MAJOR, 0, 1, "/dev/tty", chr_open_aux, { 0 } };
	static struct chrdev ptmx = { TTYAUX_MAJOR, 2, 1, "/dev/ptmx", chr_open_aux, { 0 } };

	fs_type_register(&type);
	chrdev_register(&slave);
	chrdev_register(&tty);
	chrdev_register(&ptmx);
}
