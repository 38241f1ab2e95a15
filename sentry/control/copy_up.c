/* The copy of a directory tree into a fresh file system: tmpcopyup. The tree is the image's, so every bound is checked. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/control/control_priv.h"
#include "sentry/vfs/fs_ops.h"

#define DEPTH_MAX 64u
#define ENTRIES_MAX 100000u
#define CHUNK 65536u

struct copy {
	struct walk from, to; /* start: the directories at hand */
	unsigned entries;
	char *buf;	      /* CHUNK bytes */
};

/* The names of a directory, one after the other with their NULs. */
struct names {
	struct dir_emit emit; /* first member */
	char *text;
	size_t size, capacity;
	bool failed;
};

static bool add_name(struct dir_emit *d, const char *name, size_t len, uint64_t ino UNUSED, uint8_t dtype UNUSED,
		     int64_t next_pos UNUSED)
{
	struct names *n = container_of(d, struct names, emit);

	if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
		return true;
	if (n->size + len + 1 > n->capacity) {
		size_t capacity = MAX(n->capacity * 2, (size_t)4096);
		char *text = realloc(n->text, capacity);

		n->failed |= !text;
		if (!text)
			return false;
		n->text = text;
		n->capacity = capacity;
	}
	memcpy(n->text + n->size, name, len);
	n->text[n->size + len] = 0;
	n->size += len + 1;
	return true;
}

static int read_names(const struct walk *w, struct names *n)
{
	struct file *f;
	size_t before;
	int err = vfs_open_path(&w->start, w->cred, O_RDONLY | O_DIRECTORY, &f);

	if (err < 0)
		return err;
	n->emit.emit = add_name;
	do {
		before = n->size;
		err = file_iterate(f, &n->emit);
	} while (err >= 0 && n->size != before && !n->failed);
	file_put(f);
	return n->failed ? -ENOMEM : MIN(err, 0);
}

static int copy_data(struct copy *c, const struct path *from, const char *name)
{
	AUTO(file_put) struct file *in = NULL;
	AUTO(file_put) struct file *out = NULL;
	struct uio u;
	int64_t n;
	int err = vfs_open_path(from, c->from.cred, O_RDONLY, &in);

	if (err == 0)
		err = vfs_open(&c->to, name, 0, O_WRONLY | O_CREAT | O_EXCL, 0600, &out);
	if (err < 0)
		return err;
	for (;;) {
		uio_init_kernel(&u, c->buf, CHUNK);
		n = file_read(in, &u, NULL);
		if (n <= 0)
			return (int)n;
		for (int64_t done = 0, w; done < n; done += w) {
			uio_init_kernel(&u, c->buf + done, (uint64_t)(n - done));
			w = file_write(out, &u, NULL);
			if (w <= 0)
				return w < 0 ? (int)w : -EIO;
		}
	}
}

static int copy_link(struct copy *c, const struct path *from, const char *name)
{
	char target[PATH_MAX_GUEST];
	int64_t n = vfs_readlink(from, c->from.cred, target, sizeof(target) - 1);

	if (n < 0)
		return (int)n;
	target[n] = 0;
	return vfs_symlink(&c->to, target, name);
}

/* Mode, owner, times of the copy at path to. */
static int copy_attributes(struct copy *c, const struct kstat *st, const struct path *to)
{
	struct kattr attr = { .mask = ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME,
			      .uid = st->uid, .gid = st->gid, .atime = st->atime, .mtime = st->mtime };
	int err = vfs_setattr(to, c->to.cred, &attr);

	if (err < 0 || S_ISLNK(st->mode))
		return err;
	/* last: a change of owner takes set-id bits away */
	attr = (struct kattr){ .mask = ATTR_MODE, .mode = st->mode & 07777 };
	return vfs_setattr(to, c->to.cred, &attr);
}

static int copy_directory(struct copy *c, unsigned depth);

static int copy_below(struct copy *c, const struct path *from, const struct path *to, unsigned depth)
{
	struct copy below = *c;
	int err;

	below.from.start = *from;
	below.to.start = *to;
	err = copy_directory(&below, depth + 1);
	c->entries = below.entries;
	return err;
}

static int copy_entry(struct copy *c, const char *name, unsigned depth)
{
	struct path from, to;
	struct kstat st;
	bool made = false;
	int err = vfs_walk(&c->from, name, 0, &from);

	if (err < 0)
		return err;
	err = ++c->entries > ENTRIES_MAX ? -E2BIG : vfs_getattr(&from, &st);
	if (err == 0) {
		made = S_ISDIR(st.mode) || S_ISREG(st.mode) || S_ISLNK(st.mode);
		if (S_ISDIR(st.mode))
			err = vfs_mkdir(&c->to, name, 0700);
		else if (S_ISREG(st.mode))
			err = copy_data(c, &from, name);
		else if (made)
			err = copy_link(c, &from, name);
	}
	if (err == 0 && made) {
		err = vfs_walk(&c->to, name, 0, &to);
		if (err == 0) {
			if (S_ISDIR(st.mode))
				err = copy_below(c, &from, &to, depth);
			if (err == 0)
				err = copy_attributes(c, &st, &to);
			path_put(&to);
		}
	}
	path_put(&from);
	return err;
}

/* What is in c->from.start goes to c->to.start. */
static int copy_directory(struct copy *c, unsigned depth)
{
	struct names names = { 0 };
	int err = depth > DEPTH_MAX ? -E2BIG : read_names(&c->from, &names);

	for (size_t at = 0; err == 0 && at < names.size; at += strlen(names.text + at) + 1)
		err = copy_entry(c, names.text + at, depth);
	free(names.text);
	return err;
}

int tree_copy(const struct walk *w, const struct path *from, const struct path *to)
{
	struct copy c = { .from = *w, .to = *w, .buf = malloc(CHUNK) };
	int err;

	if (!c.buf)
		return -ENOMEM;
	c.from.start = *from;
	c.to.start = *to;
	err = copy_directory(&c, 0);
	free(c.buf);
	return err;
}
