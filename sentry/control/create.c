/* Creating a container: mounts, namespaces, init. */
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/control/control_priv.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/mm/account.h"
#include "sentry/net/host/maker.h"

/* Whom the namespaces come from; references, NULL: nobody. */
struct donors {
	struct container *root; /* the sandbox's, also for its network; NULL while that itself is made */
	struct container *pid, *ipc, *uts, *user;
};

static int find_donor(struct urpc_request *req, const char *id, struct container **ret)
{
	*ret = *id ? control_find(req, id) : NULL;
	return *id && !*ret ? -EINVAL : 0;
}

static int find_donors(struct urpc_request *req, const Urpc__Container *c, bool root, struct donors *d)
{
	const Urpc__Namespaces *n = c->namespaces;

	if (!root)
		d->root = control_root();
	if (!n)
		return 0;
	return find_donor(req, n->pid_of, &d->pid) < 0 || find_donor(req, n->ipc_of, &d->ipc) < 0 ||
			       find_donor(req, n->uts_of, &d->uts) < 0 || find_donor(req, n->user_of, &d->user) < 0 ?
		       -EINVAL :
		       0;
}

static void donors_fini(struct donors *d)
{
	container_put(d->root);
	container_put(d->pid);
	container_put(d->ipc);
	container_put(d->uts);
	container_put(d->user);
}

/* Copies an id map of the message into *ret_map (owned by the namespace). */
static int copy_map(Urpc__IdMap *const *map, size_t count, struct id_map_extent **ret_map,
		    unsigned *ret_count)
{
	struct id_map_extent *e;

	if (count > ID_MAP_MAX)
		return -EINVAL;
	e = calloc(count + 1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		e[i] = (struct id_map_extent){ map[i]->container_id, map[i]->host_id, map[i]->size };
	*ret_map = e;
	*ret_count = (unsigned)count;
	return 0;
}

/*
 * The container's user namespace: another container's, the sandbox's root one, or with maps a child of it whose "lower" ids are
 * those that the gofer sees on the host's files.
 */
static int make_user_ns(const Urpc__Container *c, const struct donors *d, struct user_ns **ret_ns)
{
	struct user_ns *ns;
	int err;

	if (d->user) {
		*ret_ns = user_ns_get(container_user_ns(d->user));
		return 0;
	}
	if (c->n_uid_map == 0 && c->n_gid_map == 0) {
		*ret_ns = user_ns_get(&root_user_ns);
		return 0;
	}
	ns = user_ns_new(&root_user_ns, KUID(0), KGID(0));
	if (!ns)
		return -ENOMEM;
	mutex_lock(&ns->mu);
	err = copy_map(c->uid_map, c->n_uid_map, &ns->uid_map, &ns->uid_map_count);
	if (err == 0)
		err = copy_map(c->gid_map, c->n_gid_map, &ns->gid_map, &ns->gid_map_count);
	mutex_unlock(&ns->mu);
	if (err < 0)
		user_ns_put(ns);
	else
		*ret_ns = ns;
	return err;
}

const char *sysctl_domainname(const char *setting)
{
	static const char *const names[] = { "kernel.domainname=", "kernel/domainname=" };

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		if (!strncmp(setting, names[i], strlen(names[i])))
			return setting + strlen(names[i]);
	}
	return NULL;
}

/* kernel.domainname of the sysctls, which has no field of its own in older configurations. */
static void set_domainname(const Urpc__Container *c, struct uts_ns *uts)
{
	for (size_t i = 0; i < c->n_sysctl; i++) {
		char *text = bytes_dup(&c->sysctl[i]);
		const char *name = text ? sysctl_domainname(text) : NULL;

		if (name)
			snprintf(uts->domainname, sizeof(uts->domainname), "%s", name);
		free(text);
	}
}

/* Another container's unless fresh; with a name of its own only where config.json gives one. */
static struct uts_ns *make_uts_ns(const Urpc__Container *c, struct user_ns *user_ns, struct container *from)
{
	struct uts_ns *uts = from ? uts_ns_get(container_ns(from)->uts) : uts_ns_new(user_ns, NULL);

	if (!uts)
		return NULL;
	mutex_lock(&uts->mu);
	if (!from || c->hostname[0])
		snprintf(uts->nodename, sizeof(uts->nodename), "%s", c->hostname[0] ? c->hostname : "localhost");
	if (!from || c->domainname[0])
		snprintf(uts->domainname, sizeof(uts->domainname), "%s",
			 c->domainname[0] ? c->domainname : "(none)");
	set_domainname(c, uts);
	mutex_unlock(&uts->mu);
	return uts;
}

/* Version 2 when the container mounts that, or what it mounts is as on the host; without any mount too. */
static uint32_t cgroup_version(const Urpc__Container *c)
{
	if (c->cgroup_version == 2)
		return 2;
	for (size_t i = 0; i < c->n_mounts; i++)
		if (strcmp(c->mounts[i]->type, "cgroup") == 0)
			return 1;
	return 2;
}

/* The limits of the container, and what counts against them. */
static int make_cgroup(struct urpc_request *req, const Urpc__Container *c, struct cgroup **ret_cgroup)
{
	struct cgroup *cg = cgroup_new(cgroup_version(c));

	if (!cg)
		return -ENOMEM;
	if (c->resources && control_set_limits(cg, c->resources) < 0) {
		cgroup_put(cg);
		return urpc_fail(req, -EINVAL, "container %.64s: linux.resources: a cpu quota is at least 1000, a period "
					       "1000 to 1000000 us", c->id);
	}
	*ret_cgroup = cg;
	return 0;
}

static struct ipc_ns *make_ipc_ns(struct user_ns *user_ns, struct container *from)
{
	return from ? ipc_ns_get(container_ns(from)->ipc) : ipc_ns_new(user_ns);
}

static struct pid_ns *make_pid_ns(const Urpc__Container *c, const struct donors *d, struct user_ns *user_ns)
{
	if (d->pid)
		return pid_ns_get(container_pid_ns(d->pid));
	/* Without a namespace of its own the first process is no init that signals spare. */
	return !c->namespaces || c->namespaces->pid ? pid_ns_new(user_ns, root_pid_ns) : pid_ns_get(root_pid_ns);
}

/* The filter of the container's processes, checked as if a program had installed it. *ret_filter: NULL for none. */
static int make_seccomp(struct urpc_request *req, const Urpc__Container *c, struct seccomp_filter **ret_filter)
{
	struct bpf_insn *insn;
	int err;

	*ret_filter = NULL;
	if (c->seccomp.len == 0)
		return 0;
	if (c->seccomp.len % sizeof(*insn) || c->seccomp.len > BPF_MAXINSNS * sizeof(*insn))
		return urpc_fail(req, -EINVAL, "seccomp profile: a program of %zu bytes", c->seccomp.len);
	insn = malloc(c->seccomp.len);
	if (!insn)
		return -ENOMEM;
	memcpy(insn, c->seccomp.data, c->seccomp.len);
	err = seccomp_filter_new(NULL, insn, (unsigned)(c->seccomp.len / sizeof(*insn)), c->seccomp_flags, ret_filter);
	free(insn);
	return err < 0 ? urpc_fail(req, -EINVAL, "seccomp profile: %s", strerror(-err)) : 0;
}

/* The descriptor of own_network is the last but one. */
static struct net_ns *make_net_ns(struct urpc_request *req, const Urpc__Container *c, struct user_ns *user_ns,
				  struct container *root)
{
	struct net_maker *maker;

	if (!root)
		return net_ns_new(user_ns);
	if (!c->own_network)
		return net_ns_get(container_ns(root)->net);
	maker = net_maker_new(urpc_take_fd(req, req->fd_count - 2));
	return maker ? net_ns_new_apart(user_ns, maker) : NULL;
}

/* All that the container consists of but its files; *p is to be released in any case. */
static int make_parts(struct urpc_request *req, const Urpc__Container *c, const struct donors *d,
		      struct container_parts *p)
{
	const Urpc__Namespaces *n = c->namespaces;
	int err = make_user_ns(c, d, &p->user_ns);

	if (err < 0)
		return urpc_fail(req, -EINVAL, "user namespace: %s", strerror(-err));
	p->pid_ns = make_pid_ns(c, d, p->user_ns);
	p->uts_ns = make_uts_ns(c, p->user_ns, d->uts ? d->uts : n && n->uts ? NULL : d->root);
	p->ipc_ns = make_ipc_ns(p->user_ns, d->ipc ? d->ipc : n && n->ipc ? NULL : d->root);
	p->net_ns = make_net_ns(req, c, p->user_ns, d->root);
	if (!p->pid_ns || !p->uts_ns || !p->ipc_ns || !p->net_ns)
		return -ENOMEM;
	err = make_cgroup(req, c, &p->cgroup);
	return err < 0 ? err : make_seccomp(req, c, &p->seccomp);
}

static void parts_fini(struct container_parts *p)
{
	seccomp_filter_put(p->seccomp);
	if (p->cgroup)
		cgroup_put(p->cgroup);
	if (p->net_ns)
		net_ns_put(p->net_ns);
	if (p->ipc_ns)
		ipc_ns_put(p->ipc_ns);
	if (p->uts_ns)
		uts_ns_put(p->uts_ns);
	pid_ns_put(p->pid_ns);
	if (p->user_ns)
		user_ns_put(p->user_ns);
}

/* The container object; the mount namespace and root of m move into it. */
static int make_container(const Urpc__Container *c, const struct container_parts *p, struct mount_build *m,
			  struct container **ret_c)
{
	const struct container_args a = { .id = c->id, .mnt_ns = m->ns, .root = m->root, .user_ns = p->user_ns,
					  .pid_ns = p->pid_ns, .uts = p->uts_ns, .ipc = p->ipc_ns,
					  .net = p->net_ns, .seccomp = p->seccomp, .cgroup = p->cgroup };
	int err = container_new(&a, ret_c);

	if (err == 0)
		*m = (struct mount_build){ 0 };
	return err;
}

static int create_in(struct urpc_request *req, const Urpc__Container *c, const struct container_parts *parts, bool root)
{
	size_t first_gofer = process_fd_count(c->process);
	struct process_build p = { 0 };
	struct mount_build m = { 0 };
	struct container *container = NULL;
	int err;

	memory_set_self(parts->cgroup->memory); /* files that the mounts begin with */
	err = mounts_build(req, c, first_gofer, parts, &m);
	if (err == 0)
		err = process_build(req, c->process, 0, parts->user_ns, &m.root, m.ns, &p);
	if (err == 0 && c->process->terminal)
		err = mounts_add_console(req, &m, parts->user_ns, p.files[0]);
	if (err == 0) {
		err = make_container(c, parts, &m, &container);
		if (err < 0)
			err = urpc_fail(req, err == -EEXIST ? -EEXIST : -EINVAL, "container %.64s: %s",
					c->id, strerror(-err));
	}
	if (err == 0) {
		err = container_create_init(container, &p.args);
		if (err < 0)
			err = process_fail(req, &p, err);
	}
	if (err == 0)
		err = control_watch_end(container, urpc_take_fd(req, req->fd_count - 1), root);
	if (m.ns) {
		path_put(&m.root);
		mnt_ns_put(m.ns);
	}
	if (container && err < 0)
		control_remove(container);
	container_put(container);
	process_build_fini(&p);
	memory_set_self(NULL);
	return err;
}

void control_remove(struct container *c)
{
	control_end_processes(c);
	container_remove(c);
}

/* What a container that has stopped left under the id, when nobody came to delete it. */
static void remove_stopped(const char *id)
{
	AUTO(container_put) struct container *old = container_find(id);

	if (old && container_state(old) == CONTAINER_STOPPED)
		control_remove(old);
}

int control_create(struct urpc_request *req, const Urpc__Container *arg, bool root)
{
	struct donors d = { 0 };
	struct container_parts parts = { 0 };
	size_t count;
	int err;

	if (!arg->process || !arg->id[0] || arg->gofer_count == 0)
		return urpc_fail(req, -EINVAL, "a container needs an id, a process and a root");
	count = process_fd_count(arg->process) + MIN(arg->gofer_count, URPC_MAX_FDS) +
		MIN(arg->overlay_file_count, URPC_MAX_FDS) + 1 + (!root && arg->own_network);
	if (count != req->fd_count)
		return urpc_fail(req, -EINVAL, "%zu descriptors came, %zu are needed", req->fd_count,
				 count);
	if (!root)
		remove_stopped(arg->id);
	err = find_donors(req, arg, root, &d);
	if (err == 0)
		err = make_parts(req, arg, &d, &parts);
	if (err == 0)
		err = create_in(req, arg, &parts, root);
	parts_fini(&parts);
	donors_fini(&d);
	return err;
}
