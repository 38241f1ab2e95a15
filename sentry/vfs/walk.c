/*
 * Path resolution (path_resolution(7)). A walker holds the text still to walk and the place reached.
 * Runs of cached directories are crossed under one hold of the dentry cache's lock without touching a
 * reference count; everything else (misses, links, mounts, "..") takes one component at a time.
 */
#include <stdlib.h>

#include "sentry/vfs/vfs_priv.h"

void path_get(const struct path *p)
{
	if (p->mnt)
		mount_get(p->mnt);
	if (p->dentry)
		dentry_get(p->dentry);
}

void path_put(const struct path *p)
{
	dentry_put(p->dentry);
	mount_put(p->mnt);
}

/* Replaces the walker's place by *p, whose references it takes over. */
static void walker_move(struct walker *wk, const struct path *p)
{
	struct path old = wk->cur;

	wk->cur = *p;
	path_put(&old);
}

static void walker_to_root(struct walker *wk)
{
	struct path p = wk->root;

	path_get(&p);
	walker_move(wk, &p);
}

/* Starts a walk of pathname, which must outlive it. w is borrowed. 0, -ENOENT ("" without WALK_EMPTY),
 * -EXDEV. After success comes walker_fini. */
int walker_init(struct walker *wk, const struct walk *w, const char *pathname, unsigned flags)
{
	bool scoped = flags & (WALK_BENEATH | WALK_IN_ROOT);

	wk->w = w;
	wk->flags = flags;
	wk->links = 0;
	wk->text = NULL;
	wk->rest = pathname;
	wk->now_ns = 0;
	wk->root = scoped ? w->start : w->root;
	if (!*pathname && !(flags & WALK_EMPTY))
		return -ENOENT;
	if (*pathname == '/' && flags & WALK_BENEATH)
		return -EXDEV;
	wk->cur = *pathname == '/' ? wk->root : w->start;
	path_get(&wk->cur);
	return 0;
}

void walker_fini(struct walker *wk)
{
	path_put(&wk->cur);
	free(wk->text);
}

/* May the walk pass through the directory at wk->cur? */
static int walker_may_search(struct walker *wk)
{
	struct inode *i = wk->cur.dentry->inode;

	if (!i || !S_ISDIR(i->mode))
		return -ENOTDIR;
	if ((i->mode & 0111) == 0111 && !i->ops->permission)
		return 0;
	return inode_permission(i, wk->w->cred, MAY_EXEC);
}

struct component {
	const char *name, *next; /* next: after the name and the slashes behind it */
	size_t len;
	uint32_t hash;
	bool slash;
};

/* The component at p (no slash in front); len 0 at the end of the text. */
static struct component component_at(const char *p)
{
	struct component c = { .name = p, .hash = NAME_HASH_INIT };

	while (*p && *p != '/')
		c.hash = name_hash_step(c.hash, (unsigned char)*p++);
	c.len = (size_t)(p - c.name);
	c.slash = *p == '/';
	while (*p == '/')
		p++;
	c.next = p;
	return c;
}

static bool is_dots(const struct component *c)
{
	return c->name[0] == '.' && (c->len == 1 || (c->len == 2 && c->name[1] == '.'));
}

/* Must the directory be verified before what is known of its names is used? */
static bool is_expired(struct walker *wk, const struct inode *dir)
{
	int64_t until = atomic_load_explicit(&dir->valid_until_ns, memory_order_relaxed);

	if (likely(until == TIME_FOREVER))
		return false;
	if (!wk->now_ns)
		wk->now_ns = clock_now(CLOCK_MONOTONIC_COARSE);
	return until < wk->now_ns;
}

/* Must the file system be asked whether d, cached for a name in dir, is still right? */
static bool is_doubtful(const struct inode *dir, const struct dentry *d)
{
	return dir->ops->revalidate &&
	       (!dir->ops->verify || atomic_load_explicit(&d->names_gen, memory_order_relaxed) != dir->names_gen);
}

/* Crosses cached directories up to the last component or the first thing that needs more care. */
static void walker_cross_cached(struct walker *wk)
{
	struct dentry *d = wk->cur.dentry;

	mutex_lock(&dcache_mu);
	for (;;) {
		struct component c = component_at(wk->rest);
		struct inode *i = dentry_inode(d), *next_inode;
		struct dentry *next;

		if (!*c.next || c.len > NAME_MAX_GUEST || is_dots(&c) || !i || !S_ISDIR(i->mode) ||
		    (i->ops->revalidate && !i->ops->verify) || i->ops->permission || is_expired(wk, i))
			break;
		if ((i->mode & 0111) != 0111 && generic_permission(i, wk->w->cred, MAY_EXEC) < 0)
			break;
		next = dcache_find_locked(d, c.name, c.len, c.hash);
		next_inode = next ? dentry_inode(next) : NULL;
		if (!next_inode || !S_ISDIR(next_inode->mode) || next->mounted || is_doubtful(i, next))
			break;
		d = next;
		wk->rest = c.next;
	}
	if (d == wk->cur.dentry) {
		mutex_unlock(&dcache_mu);
		return;
	}
	dentry_get(d);
	mutex_unlock(&dcache_mu);
	dentry_put(wk->cur.dentry);
	wk->cur.dentry = d;
}

/* Moves to the parent directory; stays at the root. */
static int walker_dotdot(struct walker *wk)
{
	for (;;) {
		struct path up;

		if (path_equal(&wk->cur, &wk->root))
			return wk->flags & WALK_BENEATH ? -EXDEV : 0;
		if (wk->cur.mnt && wk->cur.dentry == wk->cur.mnt->root) {
			if (!mount_up(&wk->cur))
				return 0;
			if (wk->flags & WALK_NO_XDEV)
				return -EXDEV;
			continue;
		}
		up.dentry = dentry_parent(wk->cur.dentry);
		if (!up.dentry)
			return 0;
		dentry_put(wk->cur.dentry);
		wk->cur.dentry = up.dentry;
		break;
	}
	if (mount_cross(&wk->cur) && wk->flags & WALK_NO_XDEV)
		return -EXDEV;
	return 0;
}

/* Finds name in dir, whose inode's mu is held, through the cache: a dentry with a reference, negative
 * when there is no such name. */
int lookup_locked(struct dentry *dir, const char *name, size_t len, uint32_t hash, struct dentry **ret)
{
	struct inode *inode = NULL;
	struct dentry *d = dcache_find(dir, name, len, hash);
	int r;

	if (!d) {
		if (!dir->inode->ops->lookup)
			return -ENOTDIR;
		r = dir->inode->ops->lookup(dir->inode, name, "", &inode);
		/* Trees that nobody can add names to do not know negatives: mkdir("/proc/x") is ENOENT. */
		if (r < 0 && (r != -ENOENT || dir->sb->no_dcache))
			return r;
		d = dcache_add(dir, name, len, hash, r < 0 ? NULL : inode);
		if (!d)
			return -ENOMEM;
	}
	*ret = d;
	return 0;
}

/* As lookup_locked, but takes the lock itself when the cache does not know, and asks the file system
 * whether what the cache knows is still right. */
static int lookup_child(struct walker *wk, struct dentry **ret)
{
	struct dentry *dir = wk->cur.dentry, *d;
	struct inode *di = dir->inode, *inode = NULL;
	const char *name = wk->name, *rest = wk->rest;
	size_t len = wk->name_len;
	uint32_t hash = wk->hash, gen;
	int r;

	if (unlikely(is_expired(wk, di)))
		di->ops->verify(di);
	d = dcache_find(dir, name, len, hash);
	gen = di->names_gen;
	if (d && is_doubtful(di, d)) {
		r = di->ops->revalidate(di, name, dentry_inode(d));
		if (r > 0)
			d->names_gen = gen;
		if (r <= 0 && !d->mounted) {
			dentry_unhash(d);
			dentry_put(d);
			d = NULL;
			if (r < 0)
				return r;
		}
	}
	if (!d) {
		GUARD(mutex, &di->mu);
		d = dcache_find(dir, name, len, hash);
		if (!d) {
			if (!di->ops->lookup)
				return -ENOTDIR;
			r = di->ops->lookup(di, name, rest, &inode);
			if (r < 0 && r != -ENOENT)
				return r;
			d = dcache_add(dir, name, len, hash, r < 0 ? NULL : inode);
			if (!d)
				return -ENOMEM;
		}
	}
	*ret = d;
	return 0;
}

/* The child named by the last component (the directory may be searched), mounts crossed, links not followed: a path with references,
 * maybe negative. wk->last is LAST_NORM. */
int walker_child(struct walker *wk, struct path *ret_child)
{
	struct path p = { .mnt = wk->cur.mnt };
	int r;

	r = lookup_child(wk, &p.dentry);
	if (r < 0)
		return r;
	if (p.mnt)
		mount_get(p.mnt);
	if (p.dentry->mounted && mount_cross(&p) && wk->flags & WALK_NO_XDEV) {
		path_put(&p);
		return -EXDEV;
	}
	*ret_child = p;
	return 0;
}

/* Before the directory is locked: lets a file system that revalidates drop a stale entry of the last
 * component, so that walker_locked_child asks again. */
void walker_revalidate(struct walker *wk)
{
	struct path p;

	if (wk->cur.dentry->inode->ops->revalidate && walker_child(wk, &p) == 0)
		path_put(&p);
}

/* For a last component about to be created or removed: the dentry in wk->cur, whose inode's mu the
 * caller holds; mounts are not crossed. */
int walker_locked_child(struct walker *wk, struct dentry **ret)
{
	return lookup_locked(wk->cur.dentry, wk->name, wk->name_len, wk->hash, ret);
}

/* Puts the text of a link in front of what is left. link_text is size bytes in a buffer of the
 * walker's to be. */
static int walker_splice_text(struct walker *wk, const char *link_text, size_t size, bool slash)
{
	size_t rest_size = strlen(wk->rest);
	char *text = malloc(size + rest_size + 2);

	if (!text)
		return -ENOMEM;
	memcpy(text, link_text, size);
	if (rest_size || slash)
		text[size++] = '/';
	memcpy(text + size, wk->rest, rest_size + 1);
	free(wk->text);
	wk->text = text;
	wk->rest = text;
	return 0;
}

/* Reads a symbolic link's text into buf of PATH_MAX_GUEST bytes; its length or -errno. */
static int64_t link_text(struct inode *i, char *buf)
{
	int64_t n = i->ops->readlink ? i->ops->readlink(i, buf, PATH_MAX_GUEST) : -EINVAL;

	if (n == 0)
		return -ENOENT;
	return n >= PATH_MAX_GUEST ? -ENAMETOOLONG : n;
}

static int follow_text(struct walker *wk, struct inode *i)
{
	bool absolute;
	int64_t n;
	char *buf = malloc(PATH_MAX_GUEST);
	int r;

	if (!buf)
		return -ENOMEM;
	n = link_text(i, buf);
	absolute = n > 0 && buf[0] == '/';
	if (n > 0 && absolute && wk->flags & WALK_BENEATH)
		n = -EXDEV;
	r = n < 0 ? (int)n : walker_splice_text(wk, buf, (size_t)n, wk->slash);
	free(buf);
	if (r < 0)
		return r;
	if (absolute) {
		if (wk->flags & WALK_NO_XDEV && wk->cur.mnt != wk->root.mnt)
			return -EXDEV;
		walker_to_root(wk);
	}
	return 0;
}

/* Follows the symbolic link *link (references taken over), found in wk->cur: afterwards the walk goes
 * on with walker_parent. */
int walker_follow(struct walker *wk, struct path *link)
{
	struct inode *i = link->dentry->inode;
	struct path target;
	int r = 1;

	if (wk->flags & WALK_NO_SYMLINKS || ++wk->links > SYMLINKS_MAX ||
	    (link->mnt && link->mnt->flags & MS_NOSYMFOLLOW))
		r = -ELOOP;
	else if (i->ops->follow)
		r = i->ops->follow(i, wk->w->cred, &target);
	if (r == 0 && wk->flags & (WALK_NO_MAGICLINKS | WALK_BENEATH | WALK_IN_ROOT)) {
		path_put(&target);
		r = wk->flags & WALK_NO_MAGICLINKS ? -ELOOP : -EXDEV;
	} else if (r == 0 && wk->flags & WALK_NO_XDEV && target.mnt != wk->cur.mnt) {
		path_put(&target);
		r = -EXDEV;
	} else if (r == 0) {
		walker_move(wk, &target);
		/* What follows the link goes on from there; "link/" must still be a directory. */
		if (!*wk->rest && wk->slash)
			r = walker_splice_text(wk, ".", 1, true);
	} else if (r == 1) {
		r = follow_text(wk, i);
	}
	path_put(link);
	return r;
}

/* Takes the component c, not the last, which is neither "." nor "..". */
static int walker_step(struct walker *wk, const struct component *c)
{
	struct path child;
	int r;

	memcpy(wk->name, c->name, c->len);
	wk->name[c->len] = 0;
	wk->name_len = c->len;
	wk->hash = c->hash;
	wk->slash = false;
	wk->rest = c->next;
	r = walker_may_search(wk);
	if (r == 0)
		r = walker_child(wk, &child);
	if (r < 0)
		return r;
	if (!child.dentry->inode) {
		path_put(&child);
		return -ENOENT;
	}
	if (S_ISLNK(child.dentry->inode->mode))
		return walker_follow(wk, &child);
	walker_move(wk, &child);
	return 0;
}

/* Walks all but the last component and sets last, name, slash. wk->cur is then the directory that
 * holds the last component (for LAST_NORM), and may be searched. */
int walker_parent(struct walker *wk)
{
	for (;;) {
		struct component c;
		int r;

		while (*wk->rest == '/')
			wk->rest++;
		if (!*wk->rest) {
			wk->last = LAST_ROOT;
			wk->slash = false;
			return 0;
		}
		walker_cross_cached(wk);
		c = component_at(wk->rest);
		if (c.len > NAME_MAX_GUEST)
			return -ENAMETOOLONG;
		if (*c.next && !is_dots(&c)) {
			r = walker_step(wk, &c);
			if (r < 0)
				return r;
			continue;
		}
		r = walker_may_search(wk);
		if (r < 0)
			return r;
		wk->rest = c.next;
		if (!*c.next) {
			wk->last = !is_dots(&c) ? LAST_NORM : c.len == 1 ? LAST_DOT : LAST_DOTDOT;
			wk->slash = c.slash;
			memcpy(wk->name, c.name, c.len);
			wk->name[c.len] = 0;
			wk->name_len = c.len;
			wk->hash = c.hash;
			return 0;
		}
		if (c.len == 2) {
			r = walker_dotdot(wk);
			if (r < 0)
				return r;
		}
	}
}

/* Completes a last component that is not a name: wk->cur becomes the result. */
int walker_finish_dots(struct walker *wk)
{
	return wk->last == LAST_DOTDOT ? walker_dotdot(wk) : 0;
}

static int walk_once(const struct walk *w, const char *pathname, unsigned flags, struct path *ret_path)
{
	struct walker wk;
	struct path child;
	int r = walker_init(&wk, w, pathname, flags);

	if (r < 0)
		return r;
	for (;;) {
		r = walker_parent(&wk);
		if (r < 0)
			goto out;
		if (wk.last != LAST_NORM) {
			r = walker_finish_dots(&wk);
			child = wk.cur;
			path_get(&child);
			break;
		}
		r = walker_child(&wk, &child);
		if (r < 0)
			goto out;
		if (!child.dentry->inode) {
			r = -ENOENT;
			break;
		}
		if (!S_ISLNK(child.dentry->inode->mode) || !(flags & WALK_FOLLOW || wk.slash))
			break;
		r = walker_follow(&wk, &child);
		if (r < 0)
			goto out;
	}
	if (r == 0 && (flags & WALK_DIRECTORY || wk.slash) && !dentry_is_dir(child.dentry))
		r = -ENOTDIR;
	if (r < 0)
		path_put(&child);
	else
		*ret_path = child;
out:
	walker_fini(&wk);
	return r;
}

int vfs_walk(const struct walk *w, const char *pathname, unsigned flags, struct path *ret_path)
{
	return retry_stale(walk_once(w, pathname, flags, ret_path));
}
