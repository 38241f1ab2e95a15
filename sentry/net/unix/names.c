/* Names of unix sockets: abstract, in the file system, and autobind. */
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/kernel/task.h"
#include "sentry/net/unix/unix_priv.h"
#include "sentry/vfs/twins.h"

#define SUN_PATH_OFFSET ((uint32_t)offsetof(struct sockaddr_un, sun_path))

struct unix_name *unix_name_get(struct unix_name *n)
{
	if (n)
		refcount_get(&n->refs);
	return n;
}

void unix_name_put(struct unix_name *n)
{
	if (n && refcount_put(&n->refs))
		free(n);
}

static struct unix_name *unix_name_new(const void *sun, uint32_t size)
{
	struct unix_name *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	refcount_init(&n->refs, 1);
	n->size = size;
	memcpy(&n->sun, sun, size);
	return n;
}

int unix_addr_check(const struct sock_addr *a)
{
	return a->size <= SUN_PATH_OFFSET || a->size > UNIX_ADDR_MAX || a->family != AF_UNIX ? -EINVAL : 0;
}

static unsigned name_hash(const void *name, uint32_t size)
{
	const uint8_t *p = name;
	unsigned h = 2166136261u;

	for (uint32_t i = 0; i < size; i++)
		h = (h ^ p[i]) * 16777619u;
	return h % ARRAY_COUNT(((struct net_ns *)0)->names);
}

/* names_mu is held. */
static struct unix_sock *abstract_find(struct net_ns *ns, const void *sun, uint32_t size, int type)
{
	struct unix_sock *u;

	list_for_each(u, &ns->names[name_hash(sun, size)], name_node)
		if (u->name->size == size && memcmp(&u->name->sun, sun, size) == 0 &&
		    (type == 0 || u->s.type == type))
			return u;
	return NULL;
}

static int bind_abstract(struct unix_sock *u, struct unix_name *name)
{
	struct net_ns *ns = u->s.net;
	GUARD(mutex, &ns->names_mu);

	if (abstract_find(ns, &name->sun, name->size, u->s.type))
		return -EADDRINUSE;
	__atomic_store_n(&u->name, name, __ATOMIC_RELEASE);
	list_add_tail(&ns->names[name_hash(&name->sun, name->size)], &u->name_node);
	return 0;
}

/* An abstract name of five hex digits that nobody has. */
static int autobind(struct unix_sock *u)
{
	static _Atomic uint32_t next;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	for (int i = 0; i < 1 << 20; i++) {
		struct unix_name *name;
		char text[9];
		int ret;

		snprintf(text, sizeof(text), "%05x", atomic_fetch_add(&next, 1) & 0xfffff);
		memcpy(sun.sun_path + 1, text, 5);
		name = unix_name_new(&sun, SUN_PATH_OFFSET + 6);
		if (!name)
			return -ENOMEM;
		ret = bind_abstract(u, name);
		if (ret == 0)
			return 0;
		unix_name_put(name);
	}
	return -ENOSPC;
}

/* The path of a, NUL-terminated in buf. */
static void path_of(const struct sock_addr *a, char buf[sizeof(struct sockaddr_un)])
{
	size_t size = a->size - SUN_PATH_OFFSET;

	memcpy(buf, a->raw + SUN_PATH_OFFSET, size);
	buf[size] = '\0';
}

static int bind_path(struct unix_sock *u, const struct sock_addr *a)
{
	char text[sizeof(struct sockaddr_un)];
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct unix_name *name;
	struct walk w;
	int ret;

	path_of(a, text);
	memcpy(sun.sun_path, text, MIN(strlen(text), sizeof(sun.sun_path)));
	/* A name that fills sun_path has no NUL; its address is one byte longer on Linux and cut on the way out. */
	name = unix_name_new(&sun, MIN(SUN_PATH_OFFSET + (uint32_t)strlen(text) + 1, UNIX_ADDR_MAX));
	if (!name)
		return -ENOMEM;
	ret = task_walk(current, AT_FDCWD, &w);
	if (ret == 0) {
		u->binding.sock = u;
		ret = vfs_bind_socket(&w, text, &u->binding, &u->path);
		walk_put(&w);
	}
	if (ret < 0) {
		unix_name_put(name);
		return ret == -EEXIST ? -EADDRINUSE : ret;
	}
	__atomic_store_n(&u->name, name, __ATOMIC_RELEASE);
	return 0;
}

int unix_autobind(struct unix_sock *u)
{
	GUARD(mutex, &u->bind_mu);
	return unix_name_of(u) ? 0 : autobind(u);
}

int unix_bind(struct socket *s, const struct sock_addr *a)
{
	struct unix_sock *u = unix_of(s);
	struct unix_name *name;
	int ret;

	if (a->size < sizeof(a->family) || a->size > UNIX_ADDR_MAX || a->family != AF_UNIX)
		return -EINVAL;
	GUARD(mutex, &u->bind_mu);
	if (a->size == sizeof(a->family))
		return unix_name_of(u) ? 0 : autobind(u);
	if (unix_name_of(u))
		return -EINVAL;
	if (a->raw[SUN_PATH_OFFSET] != 0)
		return bind_path(u, a);
	name = unix_name_new(a->raw, a->size);
	if (!name)
		return -ENOMEM;
	ret = bind_abstract(u, name);
	if (ret < 0)
		unix_name_put(name);
	return ret;
}

static int lookup_path(struct unix_sock *from, const struct sock_addr *a, struct unix_sock **ret_sock)
{
	char text[sizeof(struct sockaddr_un)];
	struct inode *inode = NULL;
	struct path p = { 0 };
	struct walk w;
	int ret;

	path_of(a, text);
	ret = task_walk(current, AT_FDCWD, &w);
	if (ret < 0)
		return ret;
	ret = vfs_walk(&w, text, WALK_FOLLOW, &p);
	walk_put(&w);
	if (ret < 0)
		return ret;
	inode = p.dentry->inode;
	ret = path_permission(&p, current->cred, 2);
	if (ret == 0 && !S_ISSOCK(inode->mode))
		ret = -ECONNREFUSED;
	if (ret == 0) {
		struct inode_twins *twins = inode_twins(inode);
		const struct unix_binding *b;

		mutex_lock(&inode->mu);
		if (twins)
			mutex_lock(&twins->mu);
		/* bound by this inode's name, or by that of the same file in another container */
		b = inode->unix_binding ? inode->unix_binding : twins ? twins->unix_binding : NULL;
		if (!b)
			ret = -ECONNREFUSED;
		else if (b->sock->s.type != from->s.type)
			ret = -EPROTOTYPE;
		else
			*ret_sock = unix_get(b->sock);
		if (twins)
			mutex_unlock(&twins->mu);
		mutex_unlock(&inode->mu);
	}
	path_put(&p);
	return ret;
}

int unix_lookup(struct unix_sock *from, const struct sock_addr *a, struct unix_sock **ret_sock)
{
	struct net_ns *ns = from->s.net;
	struct unix_sock *u;
	int ret = unix_addr_check(a);

	if (ret < 0)
		return ret;
	if (a->raw[SUN_PATH_OFFSET] != 0)
		return lookup_path(from, a, ret_sock);
	GUARD(mutex, &ns->names_mu);
	u = abstract_find(ns, a->raw, a->size, from->s.type);
	if (!u)
		return abstract_find(ns, a->raw, a->size, 0) ? -EPROTOTYPE : -ECONNREFUSED;
	*ret_sock = unix_get(u);
	return 0;
}

void unix_unbind(struct unix_sock *u)
{
	struct inode_twins *twins;
	struct inode *inode;
	struct path p;

	mutex_lock(&u->s.net->names_mu);
	list_del(&u->name_node);
	list_del(&u->ns_node);
	mutex_unlock(&u->s.net->names_mu);
	mutex_lock(&u->bind_mu);
	p = u->path;
	u->path = (struct path){ 0 };
	mutex_unlock(&u->bind_mu);
	if (!p.dentry)
		return;
	inode = p.dentry->inode;
	twins = inode_twins(inode);
	mutex_lock(&inode->mu);
	if (inode->unix_binding == &u->binding)
		inode->unix_binding = NULL;
	if (twins) {
		mutex_lock(&twins->mu);
		if (twins->unix_binding == &u->binding)
			twins->unix_binding = NULL;
		mutex_unlock(&twins->mu);
	}
	mutex_unlock(&inode->mu);
	path_put(&p);
}
