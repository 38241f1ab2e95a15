/* Creating a container: mounts, namespaces, init. */
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/control/control_priv.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/mm/account.h"

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
 * The container's user namespace: the sandbox's root one, or with maps a child of it whose "lower" ids are
 * those that the gofer sees on the host's files.
 */
static int make_user_ns(const Urpc__Container *c, struct user_ns **ret_ns)
{
	struct user_ns *ns;
	int err;

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

static struct uts_ns *make_uts_ns(const Urpc__Container *c, struct user_ns *user_ns)
{
	struct uts_ns *uts = uts_ns_new(user_ns, NULL);

	if (!uts)
		return NULL;
	mutex_lock(&uts->mu);
	strncpy(uts->nodename, c->hostname[0] ? c->hostname : "localhost", sizeof(uts->nodename) - 1);
	strncpy(uts->domainname, c->domainname[0] ? c->domainname : "(none)",
		sizeof(uts->domainname) - 1);
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

/* Namespaces and the container object; the mount namespace and root of m move into it. */
static int make_container(const Urpc__Container *c, struct user_ns *user_ns, struct pid_ns *pid_ns,
			  struct ipc_ns *ipc_ns, struct seccomp_filter *seccomp, struct cgroup *cgroup,
			  struct mount_build *m, struct container **ret_c)
{
	struct container_args a = { .id = c->id, .mnt_ns = m->ns, .root = m->root, .user_ns = user_ns,
				    .pid_ns = pid_ns, .ipc = ipc_ns, .seccomp = seccomp, .cgroup = cgroup };
	int err = -ENOMEM;

	a.uts = make_uts_ns(c, user_ns);
	a.net = net_ns_new(user_ns);
	if (a.uts && a.net)
		err = container_new(&a, ret_c);
	if (err == 0)
		*m = (struct mount_build){ 0 };
	if (a.uts)
		uts_ns_put(a.uts);
	if (a.net)
		net_ns_put(a.net);
	return err;
}

/* The program cannot be started: the errno is the program's own (ENOENT, EACCES, ENOEXEC...). */
static int fail_program(struct urpc_request *req, const struct process_build *p, int err)
{
	return urpc_fail(req, err, "exec: \"%.160s\": %s", p->argv[0], strerror(-err));
}

static int create_in(struct urpc_request *req, const Urpc__Container *c, struct user_ns *user_ns,
		     struct pid_ns *pid_ns, bool root)
{
	size_t first_gofer = process_fd_count(c->process);
	struct process_build p = { 0 };
	struct mount_build m = { 0 };
	struct container *container = NULL;
	struct seccomp_filter *seccomp = NULL;
	struct ipc_ns *ipc_ns = ipc_ns_new(user_ns);
	struct cgroup *cgroup = NULL;
	int err;

	err = ipc_ns ? make_cgroup(req, c, &cgroup) : -ENOMEM;
	if (err == 0)
		memory_set_self(cgroup->memory); /* files that the mounts begin with */
	if (err == 0)
		err = make_seccomp(req, c, &seccomp);
	if (err == 0)
		err = mounts_build(req, c, first_gofer, user_ns, pid_ns, ipc_ns, cgroup, &m);
	if (err == 0)
		err = process_build(req, c->process, 0, user_ns, &m.root, m.ns, &p);
	if (err == 0) {
		err = make_container(c, user_ns, pid_ns, ipc_ns, seccomp, cgroup, &m, &container);
		if (err < 0)
			err = urpc_fail(req, err == -EEXIST ? -EEXIST : -EINVAL, "container %.64s: %s",
					c->id, strerror(-err));
	}
	if (err == 0) {
		err = container_create_init(container, &p.args);
		if (err < 0)
			err = fail_program(req, &p, err);
	}
	if (err == 0)
		err = control_watch_end(container, urpc_take_fd(req, req->fd_count - 1), root);
	if (m.ns) {
		path_put(&m.root);
		mnt_ns_put(m.ns);
	}
	if (container)
		container_put(container);
	process_build_fini(&p);
	seccomp_filter_put(seccomp);
	ipc_ns_put(ipc_ns);
	memory_set_self(NULL);
	cgroup_put(cgroup);
	return err;
}

int control_create(struct urpc_request *req, const Urpc__Container *arg, bool root)
{
	struct user_ns *user_ns;
	struct pid_ns *pid_ns;
	size_t count;
	int err;

	if (!arg->process || !arg->id[0] || arg->gofer_count == 0)
		return urpc_fail(req, -EINVAL, "a container needs an id, a process and a root");
	count = process_fd_count(arg->process) + MIN(arg->gofer_count, URPC_MAX_FDS) +
		MIN(arg->overlay_file_count, URPC_MAX_FDS) + 1;
	if (count != req->fd_count)
		return urpc_fail(req, -EINVAL, "%zu descriptors came, %zu are needed", req->fd_count,
				 count);
	err = make_user_ns(arg, &user_ns);
	if (err < 0)
		return urpc_fail(req, -EINVAL, "user namespace: %s", strerror(-err));
	/* Without a namespace of its own the first process is no init that signals spare. */
	pid_ns = !arg->namespaces || arg->namespaces->pid ? pid_ns_new(user_ns, root_pid_ns) :
							    pid_ns_get(root_pid_ns);
	err = pid_ns ? create_in(req, arg, user_ns, pid_ns, root) : -ENOMEM;
	if (pid_ns)
		pid_ns_put(pid_ns);
	user_ns_put(user_ns);
	return err;
}
