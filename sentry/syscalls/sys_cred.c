/* User and group ids (credentials(7)) and capabilities (capabilities(7)) of the calling thread. */
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/syscalls.h"

#define CAP(c) (1ull << (c))
#define CAP_FS_MASK                                                                                \
	(CAP(CAP_CHOWN) | CAP(CAP_MKNOD) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH) |       \
	 CAP(CAP_FOWNER) | CAP(CAP_FSETID) | CAP(CAP_MAC_OVERRIDE) | CAP(CAP_LINUX_IMMUTABLE))

int64_t sys_getuid(struct task *t)
{
	return user_ns_from_kuid_munged(t->cred->user_ns, t->cred->ruid);
}

int64_t sys_geteuid(struct task *t)
{
	return user_ns_from_kuid_munged(t->cred->user_ns, t->cred->euid);
}

int64_t sys_getgid(struct task *t)
{
	return user_ns_from_kgid_munged(t->cred->user_ns, t->cred->rgid);
}

int64_t sys_getegid(struct task *t)
{
	return user_ns_from_kgid_munged(t->cred->user_ns, t->cred->egid);
}

static int copy_out_ids(struct task *t, uaddr_t a, uint32_t x, uaddr_t b, uint32_t y, uaddr_t c, uint32_t z)
{
	struct umem *um = task_umem(t);

	return copy_out_struct(um, a, &x) < 0 || copy_out_struct(um, b, &y) < 0 ||
			       copy_out_struct(um, c, &z) < 0 ?
		       -EFAULT :
		       0;
}

int64_t sys_getresuid(struct task *t, uaddr_t ruid, uaddr_t euid, uaddr_t suid)
{
	const struct cred *c = t->cred;

	return copy_out_ids(t, ruid, user_ns_from_kuid_munged(c->user_ns, c->ruid), euid,
			    user_ns_from_kuid_munged(c->user_ns, c->euid), suid,
			    user_ns_from_kuid_munged(c->user_ns, c->suid));
}

int64_t sys_getresgid(struct task *t, uaddr_t rgid, uaddr_t egid, uaddr_t sgid)
{
	const struct cred *c = t->cred;

	return copy_out_ids(t, rgid, user_ns_from_kgid_munged(c->user_ns, c->rgid), egid,
			    user_ns_from_kgid_munged(c->user_ns, c->egid), sgid,
			    user_ns_from_kgid_munged(c->user_ns, c->sgid));
}

/* Effect of changed user ids on the capability sets ("Effect of user ID changes on capabilities"). */
static void fix_caps_after_setuid(struct cred *n, const struct cred *old)
{
	uint32_t root = 0;
	kuid_t zero;
	bool had, has;

	if (user_ns_make_kuid(n->user_ns, 0, &zero))
		root = zero.v;
	else
		root = ID_INVALID;
	if (n->securebits & SECBIT_NO_SETUID_FIXUP)
		return;
	had = old->ruid.v == root || old->euid.v == root || old->suid.v == root;
	has = n->ruid.v == root || n->euid.v == root || n->suid.v == root;
	if (had && !has) {
		if (!(n->securebits & SECBIT_KEEP_CAPS))
			n->cap_permitted = n->cap_effective = 0;
		n->cap_ambient = 0;
	}
	if (old->euid.v == root && n->euid.v != root)
		n->cap_effective = 0;
	if (old->euid.v != root && n->euid.v == root)
		n->cap_effective = n->cap_permitted;
}

/* Installs n (taken over); who changed an effective id is no longer dumpable. */
static int64_t install(struct task *t, struct cred *n, bool ids_changed)
{
	if (ids_changed && t->mm)
		mm_set_dumpable(t->mm, 0);
	task_set_cred(t, n);
	return 0;
}

static int64_t install_uids(struct task *t, struct cred *n)
{
	const struct cred *old = t->cred;
	bool changed = n->euid.v != old->euid.v || n->fsuid.v != old->fsuid.v;

	fix_caps_after_setuid(n, old);
	return install(t, n, changed);
}

static bool uid_is_one_of(kuid_t id, const struct cred *c, bool with_saved)
{
	return id.v == c->ruid.v || id.v == c->euid.v || (with_saved && id.v == c->suid.v);
}

static bool gid_is_one_of(kgid_t id, const struct cred *c, bool with_saved)
{
	return id.v == c->rgid.v || id.v == c->egid.v || (with_saved && id.v == c->sgid.v);
}

int64_t sys_setuid(struct task *t, uint32_t uid)
{
	const struct cred *c = t->cred;
	struct cred *n;
	kuid_t id;

	if (!user_ns_make_kuid(c->user_ns, uid, &id))
		return -EINVAL;
	if (!task_capable(t, CAP_SETUID) && id.v != c->ruid.v && id.v != c->suid.v)
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	if (task_capable(t, CAP_SETUID))
		n->ruid = n->suid = id;
	n->euid = n->fsuid = id;
	return install_uids(t, n);
}

int64_t sys_setgid(struct task *t, uint32_t gid)
{
	const struct cred *c = t->cred;
	struct cred *n;
	kgid_t id;

	if (!user_ns_make_kgid(c->user_ns, gid, &id))
		return -EINVAL;
	if (!task_capable(t, CAP_SETGID) && id.v != c->rgid.v && id.v != c->sgid.v)
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	if (task_capable(t, CAP_SETGID))
		n->rgid = n->sgid = id;
	n->egid = n->fsgid = id;
	return install(t, n, n->egid.v != c->egid.v);
}

int64_t sys_setreuid(struct task *t, uint32_t ruid, uint32_t euid)
{
	const struct cred *c = t->cred;
	kuid_t r = c->ruid, e = c->euid;
	struct cred *n;

	if ((ruid != ID_INVALID && !user_ns_make_kuid(c->user_ns, ruid, &r)) ||
	    (euid != ID_INVALID && !user_ns_make_kuid(c->user_ns, euid, &e)))
		return -EINVAL;
	if (!task_capable(t, CAP_SETUID) &&
	    ((ruid != ID_INVALID && !uid_is_one_of(r, c, false)) ||
	     (euid != ID_INVALID && !uid_is_one_of(e, c, true))))
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	n->ruid = r;
	n->euid = n->fsuid = e;
	if (ruid != ID_INVALID || (euid != ID_INVALID && e.v != c->ruid.v))
		n->suid = e;
	return install_uids(t, n);
}

int64_t sys_setregid(struct task *t, uint32_t rgid, uint32_t egid)
{
	const struct cred *c = t->cred;
	kgid_t r = c->rgid, e = c->egid;
	struct cred *n;

	if ((rgid != ID_INVALID && !user_ns_make_kgid(c->user_ns, rgid, &r)) ||
	    (egid != ID_INVALID && !user_ns_make_kgid(c->user_ns, egid, &e)))
		return -EINVAL;
	if (!task_capable(t, CAP_SETGID) &&
	    ((rgid != ID_INVALID && !gid_is_one_of(r, c, false)) ||
	     (egid != ID_INVALID && !gid_is_one_of(e, c, true))))
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	n->rgid = r;
	n->egid = n->fsgid = e;
	if (rgid != ID_INVALID || (egid != ID_INVALID && e.v != c->rgid.v))
		n->sgid = e;
	return install(t, n, n->egid.v != c->egid.v);
}

int64_t sys_setresuid(struct task *t, uint32_t ruid, uint32_t euid, uint32_t suid)
{
	const struct cred *c = t->cred;
	kuid_t r = c->ruid, e = c->euid, s = c->suid;
	struct cred *n;

	if ((ruid != ID_INVALID && !user_ns_make_kuid(c->user_ns, ruid, &r)) ||
	    (euid != ID_INVALID && !user_ns_make_kuid(c->user_ns, euid, &e)) ||
	    (suid != ID_INVALID && !user_ns_make_kuid(c->user_ns, suid, &s)))
		return -EINVAL;
	if (!task_capable(t, CAP_SETUID) &&
	    (!uid_is_one_of(r, c, true) || !uid_is_one_of(e, c, true) || !uid_is_one_of(s, c, true)))
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	n->ruid = r;
	n->euid = n->fsuid = e;
	n->suid = s;
	return install_uids(t, n);
}

int64_t sys_setresgid(struct task *t, uint32_t rgid, uint32_t egid, uint32_t sgid)
{
	const struct cred *c = t->cred;
	kgid_t r = c->rgid, e = c->egid, s = c->sgid;
	struct cred *n;

	if ((rgid != ID_INVALID && !user_ns_make_kgid(c->user_ns, rgid, &r)) ||
	    (egid != ID_INVALID && !user_ns_make_kgid(c->user_ns, egid, &e)) ||
	    (sgid != ID_INVALID && !user_ns_make_kgid(c->user_ns, sgid, &s)))
		return -EINVAL;
	if (!task_capable(t, CAP_SETGID) &&
	    (!gid_is_one_of(r, c, true) || !gid_is_one_of(e, c, true) || !gid_is_one_of(s, c, true)))
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	n->rgid = r;
	n->egid = n->fsgid = e;
	n->sgid = s;
	return install(t, n, n->egid.v != c->egid.v);
}

/* setfsuid(2): never fails, always returns the old id. */
int64_t sys_setfsuid(struct task *t, uint32_t uid)
{
	const struct cred *c = t->cred;
	uint32_t old = user_ns_from_kuid_munged(c->user_ns, c->fsuid);
	kuid_t id, zero;
	struct cred *n;

	if (!user_ns_make_kuid(c->user_ns, uid, &id))
		return old;
	if (!task_capable(t, CAP_SETUID) && !uid_is_one_of(id, c, true) && id.v != c->fsuid.v)
		return old;
	n = cred_dup(c);
	if (!n)
		return old;
	n->fsuid = id;
	if (!(n->securebits & SECBIT_NO_SETUID_FIXUP) && user_ns_make_kuid(c->user_ns, 0, &zero)) {
		if (c->fsuid.v == zero.v && id.v != zero.v)
			n->cap_effective &= ~CAP_FS_MASK;
		else if (c->fsuid.v != zero.v && id.v == zero.v)
			n->cap_effective |= CAP_FS_MASK & n->cap_permitted;
	}
	(void)install(t, n, id.v != c->fsuid.v);
	return old;
}

int64_t sys_setfsgid(struct task *t, uint32_t gid)
{
	const struct cred *c = t->cred;
	uint32_t old = user_ns_from_kgid_munged(c->user_ns, c->fsgid);
	struct cred *n;
	kgid_t id;

	if (!user_ns_make_kgid(c->user_ns, gid, &id))
		return old;
	if (!task_capable(t, CAP_SETGID) && !gid_is_one_of(id, c, true) && id.v != c->fsgid.v)
		return old;
	n = cred_dup(c);
	if (!n)
		return old;
	n->fsgid = id;
	(void)install(t, n, id.v != c->fsgid.v);
	return old;
}

int64_t sys_getgroups(struct task *t, int32_t size, uaddr_t list)
{
	const struct cred *c = t->cred;

	if (size < 0)
		return -EINVAL;
	if (size == 0)
		return c->group_count;
	if ((unsigned)size < c->group_count)
		return -EINVAL;
	for (unsigned i = 0; i < c->group_count; i++) {
		uint32_t id = user_ns_from_kgid_munged(c->user_ns, c->groups[i]);

		if (copy_out_struct(task_umem(t), uaddr_add(list, i * sizeof(id)), &id) < 0)
			return -EFAULT;
	}
	return c->group_count;
}

static int gid_compare(const void *a, const void *b)
{
	const kgid_t *x = a, *y = b;

	return x->v < y->v ? -1 : x->v > y->v;
}

int64_t sys_setgroups(struct task *t, int32_t size, uaddr_t list)
{
	struct user_ns *ns = t->cred->user_ns;
	struct cred *n;
	kgid_t *groups;

	if (!task_capable(t, CAP_SETGID) || ns->setgroups_denied || (ns->parent && !ns->gid_map))
		return -EPERM;
	if (size < 0 || size > CRED_GROUPS_MAX)
		return -EINVAL;
	groups = malloc(MAX(size, 1) * sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	if (copy_in(task_umem(t), groups, list, (size_t)size * sizeof(*groups)) < 0) {
		free(groups);
		return -EFAULT;
	}
	for (int32_t i = 0; i < size; i++) {
		if (!user_ns_make_kgid(ns, groups[i].v, &groups[i])) {
			free(groups);
			return -EINVAL;
		}
	}
	qsort(groups, (size_t)size, sizeof(*groups), gid_compare);
	n = cred_dup(t->cred);
	if (!n) {
		free(groups);
		return -ENOMEM;
	}
	free(n->groups);
	n->groups = groups;
	n->group_count = (unsigned)size;
	return install(t, n, false);
}

/* ---- capget, capset ---- */

#define CAP_V1 0x19980330u
#define CAP_V2 0x20071026u
#define CAP_V3 0x20080522u

struct cap_header {
	uint32_t version;
	int32_t pid;
};
struct cap_data {
	uint32_t effective, permitted, inheritable;
};

/* Number of 32-bit halves of a version, or 0: then the newest version is written back. */
static int cap_halves(struct task *t, uaddr_t header, struct cap_header *ret, int *ret_err)
{
	uint32_t newest = CAP_V3;

	*ret_err = 0;
	if (copy_in_struct(task_umem(t), ret, header) < 0) {
		*ret_err = -EFAULT;
		return 0;
	}
	if (ret->version == CAP_V1)
		return 1;
	if (ret->version == CAP_V2 || ret->version == CAP_V3)
		return 2;
	*ret_err = copy_out_struct(task_umem(t), header, &newest) < 0 ? -EFAULT : -EINVAL;
	return 0;
}

int64_t sys_capget(struct task *t, uaddr_t header, uaddr_t data)
{
	AUTO(task_put) struct task *target = NULL;
	const struct cred *c;
	struct cap_header h;
	struct cap_data d[2];
	int err, halves = cap_halves(t, header, &h, &err);

	/* A probe for the version: no data wanted. */
	if (halves == 0)
		return err == -EINVAL && data.v == 0 ? 0 : err;
	if (h.pid < 0)
		return -EINVAL;
	target = h.pid ? task_find(task_pid_ns(t), h.pid) : task_get(t);
	if (!target)
		return -ESRCH;
	c = target == t ? cred_get(t->cred) : task_get_cred(target);
	if (!c)
		return -ESRCH;
	for (int i = 0; i < 2; i++)
		d[i] = (struct cap_data){ (uint32_t)(c->cap_effective >> 32 * i),
					  (uint32_t)(c->cap_permitted >> 32 * i),
					  (uint32_t)(c->cap_inheritable >> 32 * i) };
	cred_put(c);
	if (data.v == 0)
		return 0;
	return copy_out(task_umem(t), data, d, (size_t)halves * sizeof(d[0]));
}

int64_t sys_capset(struct task *t, uaddr_t header, uaddr_t data)
{
	const struct cred *c = t->cred;
	uint64_t all = CAP(CAP_LAST_CAP + 1) - 1, eff = 0, perm = 0, inh = 0;
	struct cap_header h;
	struct cap_data d[2] = { 0 };
	struct cred *n;
	int err, halves = cap_halves(t, header, &h, &err);

	if (halves == 0)
		return err;
	if (h.pid != 0 && h.pid != task_tid_in(t, task_pid_ns(t)))
		return -EPERM;
	if (copy_in(task_umem(t), d, data, (size_t)halves * sizeof(d[0])) < 0)
		return -EFAULT;
	for (int i = 0; i < 2; i++) {
		eff |= (uint64_t)d[i].effective << 32 * i;
		perm |= (uint64_t)d[i].permitted << 32 * i;
		inh |= (uint64_t)d[i].inheritable << 32 * i;
	}
	eff &= all;
	perm &= all;
	inh &= all;
	if ((perm & ~c->cap_permitted) || (eff & ~perm))
		return -EPERM;
	if (!task_capable(t, CAP_SETPCAP) && (inh & ~(c->cap_inheritable | c->cap_permitted)))
		return -EPERM;
	if (inh & ~(c->cap_inheritable | c->cap_bounding))
		return -EPERM;
	n = cred_dup(c);
	if (!n)
		return -ENOMEM;
	n->cap_effective = eff;
	n->cap_permitted = perm;
	n->cap_inheritable = inh;
	n->cap_ambient &= perm & inh;
	return install(t, n, false);
}
