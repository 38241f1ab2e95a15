/* Files that stand for namespaces: /proc/PID/ns, setns(2), ioctl_ns(2). */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/nsfs.h"
#include "sentry/vfs/fs_ops.h"

/* A namespace as an inode, so that its file can be opened again through /proc/PID/fd. */
struct ns_inode {
	struct inode inode; /* first member */
	struct ns_ref {
		enum ns_kind kind;
		void *ns; /* reference on what kind says */
	} ref;
};

static const struct {
	const char *name;
	uint32_t clone_flag;
} kinds[NS_KINDS] = {
	[NS_USER] = { "user", CLONE_NEWUSER },
	[NS_PID] = { "pid", CLONE_NEWPID },
	[NS_PID_FOR_CHILDREN] = { "pid", CLONE_NEWPID },
	[NS_UTS] = { "uts", CLONE_NEWUTS },
	[NS_IPC] = { "ipc", CLONE_NEWIPC },
	[NS_NET] = { "net", CLONE_NEWNET },
	[NS_MNT] = { "mnt", CLONE_NEWNS },
	[NS_CGROUP] = { "cgroup", CLONE_NEWCGROUP },
};

static void ref_put(struct ns_ref *r)
{
	switch (r->kind) {
	case NS_USER:
		user_ns_put(r->ns);
		break;
	case NS_PID:
	case NS_PID_FOR_CHILDREN:
		pid_ns_put(r->ns);
		break;
	case NS_UTS:
		uts_ns_put(r->ns);
		break;
	case NS_IPC:
		ipc_ns_put(r->ns);
		break;
	case NS_NET:
		net_ns_put(r->ns);
		break;
	case NS_MNT:
		mnt_ns_put(r->ns);
		break;
	case NS_CGROUP:
		cgroup_ns_put(r->ns);
		break;
	case NS_KINDS:
		break;
	}
}

static uint64_t ref_ino(const struct ns_ref *r)
{
	switch (r->kind) {
	case NS_USER:
		return ((struct user_ns *)r->ns)->ns_ino;
	case NS_PID:
	case NS_PID_FOR_CHILDREN:
		return ((struct pid_ns *)r->ns)->ns_ino;
	case NS_UTS:
		return ((struct uts_ns *)r->ns)->ns_ino;
	case NS_IPC:
		return ipc_ns_ino(r->ns);
	case NS_NET:
		return net_ns_ino(r->ns);
	case NS_MNT:
		return mnt_ns_ino(r->ns);
	case NS_CGROUP:
		return ((struct cgroup_ns *)r->ns)->ns_ino;
	case NS_KINDS:
		break;
	}
	return 0;
}

/* Borrowed from the reference; root_user_ns for kinds whose owner is not kept. */
static struct user_ns *ref_owner(const struct ns_ref *r)
{
	switch (r->kind) {
	case NS_USER:
		return ((struct user_ns *)r->ns)->parent;
	case NS_PID:
	case NS_PID_FOR_CHILDREN:
		return ((struct pid_ns *)r->ns)->user_ns;
	case NS_UTS:
		return ((struct uts_ns *)r->ns)->user_ns;
	case NS_IPC:
		return ipc_ns_owner(r->ns);
	case NS_NET:
		return net_ns_owner(r->ns);
	case NS_MNT:
		return mnt_ns_owner(r->ns);
	case NS_CGROUP:
		return ((struct cgroup_ns *)r->ns)->user_ns;
	case NS_KINDS:
		break;
	}
	return NULL;
}

/* The namespaces of t, under its lock; NULL when it has exited. A reference of the kind's own. */
static void *task_ns(struct task *t, enum ns_kind kind)
{
	GUARD(mutex, &t->mu);
	if (kind == NS_USER)
		return user_ns_get(t->cred->user_ns);
	if (!t->ns)
		return NULL;
	switch (kind) {
	case NS_PID:
		return pid_ns_get(task_pid_ns(t));
	case NS_PID_FOR_CHILDREN:
		return pid_ns_get(t->ns->pid_for_children);
	case NS_UTS:
		return uts_ns_get(t->ns->uts);
	case NS_IPC:
		return t->ns->ipc ? ipc_ns_get(t->ns->ipc) : NULL;
	case NS_NET:
		return t->ns->net ? net_ns_get(t->ns->net) : NULL;
	case NS_MNT:
		return t->fs ? mnt_ns_get(t->fs->mnt_ns) : NULL;
	case NS_CGROUP:
		return cgroup_ns_get(t->ns->cgroup);
	default:
		return NULL;
	}
}

static bool ref_of(struct task *t, enum ns_kind kind, struct ns_ref *ret)
{
	*ret = (struct ns_ref){ kind, task_ns(t, kind) };
	return ret->ns != NULL;
}

static struct ns_inode *ns_inode_of(struct inode *i)
{
	return container_of(i, struct ns_inode, inode);
}

static void ns_inode_free(struct inode *i)
{
	struct ns_inode *n = ns_inode_of(i);

	ref_put(&n->ref);
	inode_fini(i);
	free(n);
}

static const struct inode_ops ns_inode_ops = {
	.name = "nsfs",
	.free = ns_inode_free,
};

static int file_from_ref(struct ns_ref *r, const struct cred *cred, struct file **ret);

#define NS_GET_USERNS_ 0xb701
#define NS_GET_PARENT_ 0xb702
#define NS_GET_NSTYPE_ 0xb703
#define NS_GET_OWNER_UID_ 0xb704

static int install_ref(enum ns_kind kind, void *ns)
{
	AUTO(file_put) struct file *f = NULL;
	struct ns_ref r = { kind, ns };
	int err;

	if (!ns)
		return -EPERM;
	if (kind == NS_USER)
		user_ns_get(ns);
	else
		pid_ns_get(ns);
	err = file_from_ref(&r, current->cred, &f);
	return err < 0 ? err : task_fd_install(current, f, true);
}

/* Only the caller's own namespace and those below it may be looked at: ns, else NULL. */
static struct pid_ns *pid_ns_seen(struct pid_ns *ns)
{
	for (const struct pid_ns *up = ns; up; up = up->parent)
		if (up == task_pid_ns(current))
			return ns;
	return NULL;
}

static struct user_ns *user_ns_seen(struct user_ns *ns)
{
	for (const struct user_ns *up = ns; up; up = up->parent)
		if (up == current->cred->user_ns)
			return ns;
	return NULL;
}

/* ioctl_ns(2) */
static int64_t nsfs_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	const struct ns_ref *r = &ns_inode_of(f->inode)->ref;
	uint32_t uid;

	switch (cmd) {
	case NS_GET_USERNS_:
		return install_ref(NS_USER, user_ns_seen(ref_owner(r)));
	case NS_GET_PARENT_:
		if (r->kind == NS_USER)
			return install_ref(NS_USER, user_ns_seen(((struct user_ns *)r->ns)->parent));
		if (r->kind == NS_PID || r->kind == NS_PID_FOR_CHILDREN)
			return install_ref(NS_PID, pid_ns_seen(((struct pid_ns *)r->ns)->parent));
		return -EINVAL;
	case NS_GET_NSTYPE_:
		return kinds[r->kind].clone_flag;
	case NS_GET_OWNER_UID_:
		if (r->kind != NS_USER)
			return -EINVAL;
		uid = user_ns_from_kuid_munged(current->cred->user_ns, ((struct user_ns *)r->ns)->owner);
		return copy_out_struct(um, UADDR(arg), &uid);
	default:
		return -ENOTTY;
	}
}

static const struct file_ops nsfs_ops = {
	.name = "nsfs",
	.ioctl = nsfs_ioctl,
};

/* Takes the reference in r over in any case. */
static int file_from_ref(struct ns_ref *r, const struct cred *cred, struct file **ret)
{
	struct ns_inode *n = malloc(sizeof(*n));
	struct path p;
	char name[64];
	int err;

	if (!n) {
		ref_put(r);
		return -ENOMEM;
	}
	n->ref = *r;
	inode_init(&n->inode, &ns_inode_ops, &anon_superblock, ref_ino(r), S_IFREG | 0444);
	n->inode.fops = &nsfs_ops;
	snprintf(name, sizeof(name), "%s:[%llu]", kinds[r->kind].name, (unsigned long long)ref_ino(r));
	err = path_new_anon(&n->inode, name, &p);
	if (err == 0) {
		err = file_new(&p, &n->inode, &nsfs_ops, O_RDONLY, cred, ret);
		path_put(&p);
	}
	inode_put(&n->inode);
	return err;
}

int ns_file_new(struct task *t, enum ns_kind kind, struct file **ret_file)
{
	struct ns_ref r;

	if (!ref_of(t, kind, &r))
		return -ENOENT;
	return file_from_ref(&r, current ? current->cred : t->cred, ret_file);
}

int ns_link_text(struct task *t, enum ns_kind kind, char *buf, size_t size)
{
	struct ns_ref r;
	int n;

	if (!ref_of(t, kind, &r))
		return -ENOENT;
	n = snprintf(buf, size, "%s:[%llu]", kinds[kind].name, (unsigned long long)ref_ino(&r));
	ref_put(&r);
	return n;
}

bool ns_file_kind(struct file *f, enum ns_kind *ret_kind, void **ret_ns)
{
	const struct ns_ref *r;

	if (f->inode->ops != &ns_inode_ops)
		return false;
	r = &ns_inode_of(f->inode)->ref;
	*ret_kind = r->kind;
	*ret_ns = r->ns;
	return true;
}

uint32_t ns_kind_flag(enum ns_kind kind)
{
	return kinds[kind].clone_flag;
}

struct user_ns *ns_file_owner(struct file *f)
{
	return ref_owner(&ns_inode_of(f->inode)->ref);
}
