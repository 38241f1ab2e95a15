/* setns(2): one namespace of the calling task is exchanged. */
#include <sched.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/nsfs.h"

#define CAP_SYS_CHROOT 18
#define CAP_SYS_ADMIN 21
#define CAP_ALL ((1ull << 41) - 1)

static int enter_user(struct task *t, struct user_ns *ns)
{
	struct cred *c;

	if (ns == t->cred->user_ns || t->tg->task_count > 1)
		return -EINVAL;
	if (!task_capable_ns(t, ns, CAP_SYS_ADMIN))
		return -EPERM;
	c = cred_dup(t->cred);
	if (!c)
		return -ENOMEM;
	user_ns_put(c->user_ns);
	c->user_ns = user_ns_get(ns);
	c->cap_permitted = c->cap_effective = c->cap_bounding = CAP_ALL;
	c->cap_inheritable = c->cap_ambient = 0;
	c->securebits = 0;
	task_set_cred(t, c);
	return 0;
}

static bool pid_ns_below(const struct pid_ns *ns, const struct pid_ns *top)
{
	for (; ns; ns = ns->parent)
		if (ns == top)
			return true;
	return false;
}

static int enter_mnt(struct task *t, struct mnt_ns *ns)
{
	struct fs_struct *fs = t->fs;
	struct mnt_ns *old_ns;
	struct path root, old_root, old_cwd;

	if (!task_capable(t, CAP_SYS_CHROOT))
		return -EPERM;
	if (refcount_read(&fs->refs) > 1)
		return -EINVAL;
	mnt_ns_root(ns, &root);
	path_get(&root); /* one for each of the two */
	mutex_lock(&fs->mu);
	old_ns = fs->mnt_ns;
	old_root = fs->root;
	old_cwd = fs->cwd;
	fs->mnt_ns = mnt_ns_get(ns);
	fs->root = fs->cwd = root;
	mutex_unlock(&fs->mu);
	path_put(&old_root);
	path_put(&old_cwd);
	mnt_ns_put(old_ns);
	return 0;
}

static int enter_proxy(struct task *t, enum ns_kind kind, void *ns)
{
	struct nsproxy *p, *old = t->ns;

	p = nsproxy_new(kind == NS_UTS ? ns : old->uts, kind == NS_IPC ? ns : old->ipc,
			kind == NS_NET ? ns : old->net,
			kind == NS_PID || kind == NS_PID_FOR_CHILDREN ? ns : old->pid_for_children,
			kind == NS_CGROUP ? ns : old->cgroup);
	if (!p)
		return -ENOMEM;
	mutex_lock(&t->mu);
	t->ns = p;
	mutex_unlock(&t->mu);
	nsproxy_put(old);
	return 0;
}

int task_setns(struct task *t, enum ns_kind kind, void *ns, struct user_ns *owner)
{
	if (kind == NS_USER)
		return enter_user(t, ns);
	if (!task_capable_ns(t, owner ? owner : &root_user_ns, CAP_SYS_ADMIN) || !task_capable(t,
		CAP_SYS_ADMIN))
		return -EPERM;
	if (kind == NS_MNT)
		return enter_mnt(t, ns);
	if ((kind == NS_PID || kind == NS_PID_FOR_CHILDREN) && !pid_ns_below(ns, task_pid_ns(t)))
		return -EINVAL;
	return enter_proxy(t, kind, ns);
}
