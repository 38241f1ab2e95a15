/* tmpfs: superblocks, mount options, life of inodes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/tmpfs_priv.h"
#include "sentry/state/desc.h"

#define TMPFS_MAGIC 0x01021994

STATE_DESC(tmpfs_sb, S_VAL(tmpfs_sb, 1, max_pages), S_VAL(tmpfs_sb, 2, max_inodes),
	   S_NOSAVE(tmpfs_sb, used_pages, "counted again"), S_NOSAVE(tmpfs_sb, used_inodes, "counted again"),
	   S_VAL(tmpfs_sb, 3, mode), S_VAL(tmpfs_sb, 4, uid), S_VAL(tmpfs_sb, 5, gid));
STATE_DESC(tmpfs_chunk, S_NOSAVE(tmpfs_chunk, node, "the tree is rebuilt"), S_VAL(tmpfs_chunk, 1, index),
	   S_VAL(tmpfs_chunk, 2, used), S_VAL(tmpfs_chunk, 3, page));
STATE_DESC(tmpfs_dirent, S_NOSAVE(tmpfs_dirent, by_name, "the tree is rebuilt"),
	   S_NOSAVE(tmpfs_dirent, by_cookie, "the tree is rebuilt"), S_VAL(tmpfs_dirent, 1, cookie),
	   S_REF(tmpfs_dirent, 2, inode, inode), S_VAL(tmpfs_dirent, 3, name_len));
STATE_DESC(tmpfs_xattr, S_NOSAVE(tmpfs_xattr, node, "linked again"), S_BYTES(tmpfs_xattr, 1, name),
	   S_BYTES(tmpfs_xattr, 2, value), S_VAL(tmpfs_xattr, 3, size));

static uint64_t host_pages; /* of the machine, for size=N% and the default; const after tmpfs_init */
static struct superblock *hidden_sb;

static void sb_free(struct superblock *sb)
{
	free(sb->data);
}

static int sb_statfs(struct superblock *sb, struct kstatfs *ret)
{
	struct tmpfs_sb *t = tmpfs_sb_of(sb);
	uint64_t used = t->used_pages, inodes = t->used_inodes;

	ret->bsize = TMPFS_PAGE;
	ret->blocks = t->max_pages;
	ret->bfree = ret->bavail = t->max_pages > used ? t->max_pages - used : 0;
	ret->files = t->max_inodes;
	ret->ffree = t->max_inodes > inodes ? t->max_inodes - inodes : 0;
	return 0;
}

static const struct superblock_ops sb_ops = { .free = sb_free, .statfs = sb_statfs };

/* Number with an optional k, m, g, t or % behind it. */
static bool parse_size(const char *text, bool percent_ok, uint64_t *ret)
{
	char *end;
	uint64_t v;
	unsigned shift = 0;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno)
		return false;
	switch (*end) {
	case '%':
		if (!percent_ok || v > 1000 || end[1])
			return false;
		*ret = host_pages * TMPFS_PAGE / 100 * v;
		return true;
	case 'k': case 'K': shift = 10; break;
	case 'm': case 'M': shift = 20; break;
	case 'g': case 'G': shift = 30; break;
	case 't': case 'T': shift = 40; break;
	case 0: break;
	default: return false;
	}
	if (shift && end[1])
		return false;
	if (v > UINT64_MAX >> shift)
		return false;
	*ret = v << shift;
	return true;
}

static int parse_option(struct tmpfs_sb *t, const char *key, const char *value, const struct cred *cred)
{
	static const char *const ignored[] = { "huge", "mpol", "inode32", "inode64", "noswap", "quota", "nr_hugepages" };
	uint64_t v;

	for (size_t i = 0; i < ARRAY_COUNT(ignored); i++) {
		if (strcmp(key, ignored[i]) == 0)
			return 0;
	}
	if (!value)
		return -EINVAL;
	if (strcmp(key, "size") == 0 && parse_size(value, true, &v))
		t->max_pages = v / TMPFS_PAGE + (v % TMPFS_PAGE != 0);
	else if (strcmp(key, "nr_blocks") == 0 && parse_size(value, false, &v))
		t->max_pages = v;
	else if (strcmp(key, "nr_inodes") == 0 && parse_size(value, false, &v))
		t->max_inodes = v;
	else if (strcmp(key, "mode") == 0) {
		char *end;

		t->mode = (uint32_t)strtoul(value, &end, 8) & 07777;
		return *end || end == value ? -EINVAL : 0;
	} else if (strcmp(key, "uid") == 0 && parse_size(value, false, &v))
		return v <= UINT32_MAX && user_ns_make_kuid(cred->user_ns, (uint32_t)v, &t->uid) ? 0 : -EINVAL;
	else if (strcmp(key, "gid") == 0 && parse_size(value, false, &v))
		return v <= UINT32_MAX && user_ns_make_kgid(cred->user_ns, (uint32_t)v, &t->gid) ? 0 : -EINVAL;
	else
		return -EINVAL;
	return 0;
}

static int parse_options(struct tmpfs_sb *t, const char *data, const struct cred *cred)
{
	char *copy, *save = NULL, *key;
	int r = 0;

	if (!data || !*data)
		return 0;
	copy = strdup(data);
	if (!copy)
		return -ENOMEM;
	for (key = strtok_r(copy, ",", &save); key && r == 0; key = strtok_r(NULL, ",", &save)) {
		char *value = strchr(key, '=');

		if (value)
			*value++ = 0;
		r = parse_option(t, key, value, cred);
	}
	free(copy);
	return r;
}

/* What /proc/mounts shows behind the mount flags. */
static char *options_text(const struct tmpfs_sb *t)
{
	char *text = NULL;
	int n = asprintf(&text, "size=%lluk,nr_inodes=%llu,mode=%o,uid=%u,gid=%u,inode64",
			 (unsigned long long)(t->max_pages * TMPFS_PAGE / 1024),
			 (unsigned long long)t->max_inodes, t->mode, t->uid.v, t->gid.v);

	return n < 0 ? NULL : text;
}

int tmpfs_new(const char *fstype, const char *data, const struct cred *cred, struct superblock **ret_sb)
{
	struct tmpfs_sb *t = calloc(1, sizeof(*t));
	struct tmpfs_inode *root;
	struct superblock *sb;
	int r;

	if (!t)
		return -ENOMEM;
	t->max_pages = host_pages / 2;
	t->max_inodes = host_pages / 2;
	t->mode = 01777;
	t->uid = cred->fsuid;
	t->gid = cred->fsgid;
	r = parse_options(t, data, cred);
	sb = r < 0 ? NULL : superblock_new(&sb_ops, fstype, TMPFS_MAGIC, cred->user_ns);
	if (!sb) {
		free(t);
		return r < 0 ? r : -ENOMEM;
	}
	sb->data = t;
	sb->options = options_text(t);
	r = tmpfs_inode_new(sb, NULL, S_IFDIR | t->mode, 0, cred, &root);
	if (r < 0) {
		superblock_put(sb);
		return r;
	}
	root->inode.mode = S_IFDIR | t->mode;
	root->inode.uid = t->uid;
	root->inode.gid = t->gid;
	sb->root = &root->inode;
	*ret_sb = sb;
	return 0;
}

static int tmpfs_mount(const struct fs_type *t, const char *source, uint64_t flags, const char *data,
		       const struct cred *cred, struct superblock **ret_sb)
{
	int r = tmpfs_new(t->name, data, cred, ret_sb);

	(void)source;
	if (r == 0)
		(*ret_sb)->readonly = flags & 1; /* MS_RDONLY */
	return r;
}

static struct fs_type tmpfs_type = { .name = "tmpfs", .user_mountable = true, .nodev = true, .mount = tmpfs_mount };
static struct fs_type ramfs_type = { .name = "ramfs", .user_mountable = true, .nodev = true, .mount = tmpfs_mount };

int tmpfs_init(void)
{
	const struct cred *root = cred_new_root(&root_user_ns);
	int r;

	if (!root)
		return -ENOMEM;
	host_pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
	fs_type_register(&tmpfs_type);
	fs_type_register(&ramfs_type);
	r = tmpfs_new("tmpfs", "size=0,nr_inodes=0", root, &hidden_sb);
	cred_put(root);
	return r;
}

int tmpfs_unnamed(uint32_t mode, const struct cred *cred, struct inode **ret_inode)
{
	struct tmpfs_inode *t;
	int r = tmpfs_inode_new(hidden_sb, NULL, S_IFREG | (mode & 07777), 0, cred, &t);

	if (r < 0)
		return r;
	t->inode.nlink = 0;
	*ret_inode = &t->inode;
	return 0;
}

/* An inode with one reference and owner as for a file made in dir (mu held; NULL: none). -ENOSPC at the
 * limit of inodes. */
int tmpfs_inode_new(struct superblock *sb, struct inode *dir, uint32_t mode, dev_t rdev,
		    const struct cred *cred, struct tmpfs_inode **ret)
{
	struct tmpfs_sb *ts = tmpfs_sb_of(sb);
	const struct inode_ops *ops = S_ISREG(mode) ? &tmpfs_file_inode_ops :
				      S_ISDIR(mode) ? &tmpfs_dir_inode_ops :
				      S_ISLNK(mode) ? &tmpfs_link_inode_ops : &tmpfs_special_inode_ops;
	struct tmpfs_inode *t;

	if (atomic_fetch_add(&ts->used_inodes, 1) >= ts->max_inodes && ts->max_inodes) {
		atomic_fetch_sub(&ts->used_inodes, 1);
		return -ENOSPC;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		atomic_fetch_sub(&ts->used_inodes, 1);
		return -ENOMEM;
	}
	inode_init(&t->inode, ops, sb, ino_next(), mode);
	inode_init_owner(&t->inode, dir, cred);
	t->inode.rdev = rdev;
	list_init(&t->xattrs);
	if (S_ISREG(mode)) {
		tmpfs_file_init(t);
	} else if (S_ISDIR(mode)) {
		t->dir.next_cookie = 3;
		t->inode.fops = &tmpfs_dir_file_ops;
	}
	*ret = t;
	return 0;
}

/* ops->free of every kind. */
void tmpfs_free_inode(struct inode *i)
{
	struct tmpfs_inode *t = tmpfs_of(i);

	if (S_ISREG(i->mode))
		tmpfs_file_fini(t);
	else if (S_ISDIR(i->mode))
		tmpfs_dir_fini(t);
	else if (S_ISLNK(i->mode))
		free(t->target);
	tmpfs_xattr_fini(t);
	atomic_fetch_sub(&tmpfs_sb_of(i->sb)->used_inodes, 1);
	inode_fini(i);
	free(t);
}

/* setattr of what has no data. */
int tmpfs_setattr(struct inode *i, const struct kattr *a)
{
	inode_apply_attr(i, a);
	return 0;
}

void tmpfs_getattr(struct inode *i, struct kstat *st)
{
	struct tmpfs_inode *t = tmpfs_of(i);

	st->blksize = TMPFS_PAGE;
	st->blocks = S_ISREG(i->mode) ? __atomic_load_n(&t->file.pages, __ATOMIC_RELAXED) * (TMPFS_PAGE / 512) : 0;
}

static int64_t link_readlink(struct inode *i, char *buf, size_t size)
{
	size_t len = MIN(size, (size_t)i->size);

	memcpy(buf, tmpfs_of(i)->target, len);
	return (int64_t)len;
}

const struct inode_ops tmpfs_link_inode_ops = {
	.name = "tmpfs link",
	.free = tmpfs_free_inode,
	.readlink = link_readlink,
	.getattr = tmpfs_getattr,
	.setattr = tmpfs_setattr,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
};

const struct inode_ops tmpfs_special_inode_ops = {
	.name = "tmpfs special",
	.free = tmpfs_free_inode,
	.getattr = tmpfs_getattr,
	.setattr = tmpfs_setattr,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
};
