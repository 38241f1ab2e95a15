/* uts and cgroup namespaces, the set that a task is in, clone, unshare and setns. */
#include "sentry/kernel/namespaces.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/state/desc.h"

uint64_t ns_ino_next(void)
{
	static _Atomic uint64_t next = 4026532000ull;

	return next++;
}

/* A new uts namespace with the names of copy_from (NULL: "localhost"). NULL: out of memory. */
struct uts_ns *uts_ns_new(struct user_ns *owner, const struct uts_ns *copy_from)
{
	struct uts_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	mutex_init(&ns->mu, LOCK_LEAF);
	ns->user_ns = user_ns_get(owner);
	ns->ns_ino = ns_ino_next();
	if (copy_from) {
		memcpy(ns->nodename, copy_from->nodename, sizeof(ns->nodename));
		memcpy(ns->domainname, copy_from->domainname, sizeof(ns->domainname));
	} else {
		strcpy(ns->nodename, "localhost");
		strcpy(ns->domainname, "(none)");
	}
	return ns;
}

struct uts_ns *uts_ns_get(struct uts_ns *ns)
{
	refcount_get(&ns->refs);
	return ns;
}

void uts_ns_put(struct uts_ns *ns)
{
	if (!ns || !refcount_put(&ns->refs))
		return;
	user_ns_put(ns->user_ns);
	mutex_fini(&ns->mu);
	free(ns);
}

struct cgroup_ns *cgroup_ns_new(struct user_ns *owner)
{
	struct cgroup_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	ns->user_ns = user_ns_get(owner);
	ns->ns_ino = ns_ino_next();
	return ns;
}

struct cgroup_ns *cgroup_ns_get(struct cgroup_ns *ns)
{
	refcount_get(&ns->refs);
	return ns;
}

void cgroup_ns_put(struct cgroup_ns *ns)
{
	if (!ns || !refcount_put(&ns->refs))
		return;
	user_ns_put(ns->user_ns);
	free(ns);
}

struct nsproxy *nsproxy_new(struct uts_ns *uts, struct ipc_ns *ipc, struct net_ns *net,
			    struct pid_ns *pid_for_children, struct cgroup_ns *cgroup)
{
	struct nsproxy *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	refcount_init(&p->refs, 1);
	p->uts = uts_ns_get(uts);
	p->ipc = ipc ? ipc_ns_get(ipc) : NULL;
	p->net = net ? net_ns_get(net) : NULL;
	p->pid_for_children = pid_ns_get(pid_for_children);
	p->cgroup = cgroup_ns_get(cgroup);
	return p;
}

struct nsproxy *nsproxy_get(struct nsproxy *p)
{
	refcount_get(&p->refs);
	return p;
}

void nsproxy_put(struct nsproxy *p)
{
	if (!p || !refcount_put(&p->refs))
		return;
	uts_ns_put(p->uts);
	if (p->ipc)
		ipc_ns_put(p->ipc);
	if (p->net)
		net_ns_put(p->net);
	pid_ns_put(p->pid_for_children);
	cgroup_ns_put(p->cgroup);
	free(p);
}

/* A private, editable copy; NULL: out of memory. */
static struct nsproxy *nsproxy_dup(const struct nsproxy *p)
{
	return nsproxy_new(p->uts, p->ipc, p->net, p->pid_for_children, p->cgroup);
}

/* Puts the result of a namespace constructor into its slot and drops the old one. -ENOMEM for NULL. */
#define REPLACE(slot, put, made)                                                                   \
	({                                                                                         \
		__typeof__(slot) made_ = (made);                                                   \
		if (made_) {                                                                       \
			put(slot);                                                                 \
			(slot) = made_;                                                            \
		}                                                                                  \
		made_ ? 0 : -ENOMEM;                                                               \
	})

int nsproxy_clone(struct task *t, uint64_t flags, struct user_ns *owner, struct fs_struct *fs,
		  struct nsproxy **ret)
{
	struct nsproxy *p = nsproxy_dup(t->ns);
	int err = p ? 0 : -ENOMEM;

	if (err == 0 && (flags & CLONE_NEWUTS)) {
		struct uts_ns *uts;

		mutex_lock(&t->ns->uts->mu);
		uts = uts_ns_new(owner, t->ns->uts);
		mutex_unlock(&t->ns->uts->mu);
		err = REPLACE(p->uts, uts_ns_put, uts);
	}
	if (err == 0 && (flags & CLONE_NEWIPC))
		err = REPLACE(p->ipc, ipc_ns_put, ipc_ns_new(owner));
	if (err == 0 && (flags & CLONE_NEWNET))
		err = REPLACE(p->net, net_ns_put, net_ns_new(owner));
	if (err == 0 && (flags & CLONE_NEWCGROUP))
		err = REPLACE(p->cgroup, cgroup_ns_put, cgroup_ns_new(owner));
	if (err == 0 && (flags & CLONE_NEWPID)) {
		err = REPLACE(p->pid_for_children, pid_ns_put, pid_ns_new(owner, t->ns->pid_for_children));
		if (err < 0 && t->ns->pid_for_children->level + 1 >= PID_NS_LEVELS_MAX)
			err = -ENOSPC;
	}
	if (err == 0 && (flags & CLONE_NEWNS)) {
		struct mnt_ns *ns;

		err = mnt_ns_copy(t->fs->mnt_ns, owner, fs, &ns);
		if (err == 0) {
			mutex_lock(&fs->mu);
			struct mnt_ns *old = fs->mnt_ns;
			fs->mnt_ns = ns;
			mutex_unlock(&fs->mu);
			mnt_ns_put(old);
		}
	}
	if (err < 0) {
		nsproxy_put(p);
		return err;
	}
	*ret = p;
	return 0;
}

#define CAP_LAST 40

int cred_new_user_ns(struct task *t, const struct cred **ret)
{
	struct cred *c;
	struct user_ns *ns;

	if (user_ns_from_kuid(t->cred->user_ns, t->cred->euid) == ID_INVALID ||
	    user_ns_from_kgid(t->cred->user_ns, t->cred->egid) == ID_INVALID)
		return -EPERM;
	c = cred_dup(t->cred);
	if (!c)
		return -ENOMEM;
	ns = user_ns_new(t->cred->user_ns, t->cred->euid, t->cred->egid);
	if (!ns) {
		cred_put(c);
		return -ENOSPC;
	}
	user_ns_put(c->user_ns);
	c->user_ns = ns;
	c->cap_permitted = c->cap_effective = c->cap_bounding = (1ull << (CAP_LAST + 1)) - 1;
	c->cap_inheritable = c->cap_ambient = 0;
	c->securebits = 0;
	*ret = c;
	return 0;
}

#define UNSHARE_KNOWN                                                                              \
	((uint64_t)(CLONE_THREAD | CLONE_FS | CLONE_NEWNS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | \
		    CLONE_SYSVSEM | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUSER |   \
		    CLONE_NEWPID | CLONE_NEWCGROUP))
#define NEED_ADMIN                                                                                 \
	((uint64_t)(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID |      \
		    CLONE_NEWCGROUP))
#define CAP_SYS_ADMIN 21

struct unshared {
	const struct cred *cred;
	struct fs_struct *fs;
	struct fdtable *fdt;
	struct nsproxy *ns;
};

static int unshare_make(struct task *t, uint64_t flags, struct unshared *u)
{
	const struct cred *cred = t->cred;
	int err = 0;

	if (flags & CLONE_NEWUSER) {
		err = cred_new_user_ns(t, &u->cred);
		if (err < 0)
			return err;
		cred = u->cred;
	}
	if ((flags & NEED_ADMIN) && !cred_capable(cred, cred->user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	if (flags & (CLONE_FS | CLONE_NEWNS)) {
		u->fs = fs_struct_dup(t->fs);
		if (!u->fs)
			return -ENOMEM;
	}
	if ((flags & CLONE_FILES) && fdtable_shared(t->fdt)) {
		u->fdt = fdtable_dup(t->fdt);
		if (!u->fdt)
			return -ENOMEM;
	}
	if (flags & NEED_ADMIN)
		err = nsproxy_clone(t, flags, cred->user_ns, u->fs, &u->ns);
	return err;
}

/* unshare(2). Task thread. */
int task_unshare(struct task *t, uint64_t flags)
{
	struct unshared u = { 0 };
	int err;

	if (flags & ~UNSHARE_KNOWN)
		return -EINVAL;
	if (flags & CLONE_NEWUSER)
		flags |= CLONE_THREAD | CLONE_FS;
	if (flags & CLONE_NEWNS)
		flags |= CLONE_FS;
	if ((flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) && t->tg->task_count > 1)
		return -EINVAL;
	err = unshare_make(t, flags, &u);
	if (err == 0) {
		mutex_lock(&t->mu);
		if (u.fs) {
			struct fs_struct *old = t->fs;

			t->fs = u.fs;
			u.fs = old;
		}
		if (u.fdt) {
			struct fdtable *old = t->fdt;

			t->fdt = u.fdt;
			u.fdt = old;
		}
		if (u.ns) {
			struct nsproxy *old = t->ns;

			t->ns = u.ns;
			u.ns = old;
		}
		mutex_unlock(&t->mu);
		if (u.cred)
			task_set_cred(t, TAKE(u.cred));
	}
	cred_put(u.cred);
	if (u.fs)
		fs_struct_put(u.fs);
	if (u.fdt)
		fdtable_put(u.fdt);
	nsproxy_put(u.ns);
	return err;
}

STATE_DESC(uts_ns, S_NOSAVE(uts_ns, refs, "recounted"), S_REF(uts_ns, 1, user_ns, user_ns),
	   S_VAL(uts_ns, 2, ns_ino), S_NOSAVE(uts_ns, mu, "unheld at a safe point"),
	   S_VAL(uts_ns, 3, nodename), S_VAL(uts_ns, 4, domainname));
STATE_DESC(cgroup_ns, S_NOSAVE(cgroup_ns, refs, "recounted"),
	   S_REF(cgroup_ns, 1, user_ns, user_ns), S_VAL(cgroup_ns, 2, ns_ino));
STATE_DESC(nsproxy, S_NOSAVE(nsproxy, refs, "recounted"), S_REF(nsproxy, 1, uts, uts_ns),
	   S_REF(nsproxy, 2, ipc, ipc_ns), S_REF(nsproxy, 3, net, net_ns),
	   S_REF(nsproxy, 4, pid_for_children, pid_ns), S_REF(nsproxy, 5, cgroup, cgroup_ns));
