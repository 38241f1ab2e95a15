/* From a Process message to the arguments of a new process: strings, credentials, limits, files. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sentry/control/control_priv.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/fs/host/host.h"

#define ARGS_MAX 65536u

/* Limits of a process whose configuration names none: those of a usual Linux system. */
static const struct limits default_limits = { .r = {
	[RLIMIT_CPU] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_FSIZE] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_DATA] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_STACK] = { 8 << 20, GUEST_RLIM_INFINITY },
	[RLIMIT_CORE] = { 0, GUEST_RLIM_INFINITY },
	[RLIMIT_RSS] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_NPROC] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_NOFILE] = { 1024, 1048576 },
	[RLIMIT_MEMLOCK] = { 8 << 20, 8 << 20 },
	[RLIMIT_AS] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_LOCKS] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
	[RLIMIT_SIGPENDING] = { 16384, 16384 },
	[RLIMIT_MSGQUEUE] = { 819200, 819200 },
	[RLIMIT_NICE] = { 0, 0 },
	[RLIMIT_RTPRIO] = { 0, 0 },
	[RLIMIT_RTTIME] = { GUEST_RLIM_INFINITY, GUEST_RLIM_INFINITY },
} };

char *bytes_dup(const ProtobufCBinaryData *b)
{
	char *s;

	if (b->len > 0 && memchr(b->data, 0, b->len))
		return NULL;
	s = malloc(b->len + 1);
	if (!s)
		return NULL;
	if (b->len > 0)
		memcpy(s, b->data, b->len);
	s[b->len] = 0;
	return s;
}

static void strings_free(char **s)
{
	for (size_t i = 0; s && s[i]; i++)
		free(s[i]);
	free(s);
}

/* A NULL-terminated copy with room for one string more, or NULL. */
static char **strings_dup(const ProtobufCBinaryData *b, size_t count)
{
	char **s;

	if (count > ARGS_MAX)
		return NULL;
	s = calloc(count + 2, sizeof(*s));
	for (size_t i = 0; s && i < count; i++) {
		s[i] = bytes_dup(&b[i]);
		if (!s[i]) {
			strings_free(s);
			return NULL;
		}
	}
	return s;
}

static int compare_groups(const void *a, const void *b)
{
	uint32_t x = ((const kgid_t *)a)->v, y = ((const kgid_t *)b)->v;

	return x < y ? -1 : x > y;
}

static int set_groups(struct cred *cred, const Urpc__Process *p, struct user_ns *ns)
{
	kgid_t *groups;

	if (p->n_additional_gids > CRED_GROUPS_MAX)
		return -EINVAL;
	groups = calloc(p->n_additional_gids + 1, sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_additional_gids; i++) {
		if (!user_ns_make_kgid(ns, p->additional_gids[i], &groups[i])) {
			free(groups);
			return -EINVAL;
		}
	}
	qsort(groups, p->n_additional_gids, sizeof(*groups), compare_groups);
	free(cred->groups);
	cred->groups = groups;
	cred->group_count = (unsigned)p->n_additional_gids;
	return 0;
}

/* The sets as they are after the exec of a file without capabilities (capabilities(7)). */
static void set_capabilities(struct cred *cred, const Urpc__Process *p, bool root)
{
	Urpc__Capabilities none;
	const Urpc__Capabilities *c = p->capabilities;

	urpc__capabilities__init(&none);
	if (!c)
		c = &none;
	cred->cap_bounding = c->bounding;
	cred->cap_inheritable = c->inheritable;
	cred->cap_ambient = c->ambient & c->permitted & c->inheritable;
	cred->cap_permitted = root ? c->permitted & c->bounding : cred->cap_ambient;
	cred->cap_effective = root ? c->effective & cred->cap_permitted : cred->cap_ambient;
}

static int build_cred(struct urpc_request *req, const Urpc__Process *p, struct user_ns *ns,
		      const struct cred **ret_cred)
{
	struct cred *cred = cred_new_root(ns);
	kuid_t uid;
	kgid_t gid;
	int err;

	if (!cred)
		return -ENOMEM;
	if (!user_ns_make_kuid(ns, p->uid, &uid) || !user_ns_make_kgid(ns, p->gid, &gid)) {
		cred_put(cred);
		return urpc_fail(req, -EINVAL, "user %u:%u has no mapping in the user namespace",
				 p->uid, p->gid);
	}
	err = set_groups(cred, p, ns);
	if (err < 0) {
		cred_put(cred);
		return urpc_fail(req, err, "additional groups: %s", strerror(-err));
	}
	cred->ruid = cred->euid = cred->suid = cred->fsuid = uid;
	cred->rgid = cred->egid = cred->sgid = cred->fsgid = gid;
	cred->no_new_privs = p->no_new_privileges;
	set_capabilities(cred, p, p->uid == 0);
	*ret_cred = cred;
	return 0;
}

static int build_limits(struct urpc_request *req, const Urpc__Process *p, struct limits *ret)
{
	*ret = default_limits;
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const Urpc__Rlimit *r = p->rlimits[i];

		if (r->resource >= GUEST_RLIM_NLIMITS || r->soft > r->hard)
			return urpc_fail(req, -EINVAL, "resource limit %u is not valid", r->resource);
		ret->r[r->resource].soft = r->soft;
		ret->r[r->resource].hard = r->hard;
	}
	return 0;
}

size_t process_fd_count(const Urpc__Process *p)
{
	return (p->terminal ? 1 : 3) + (size_t)MIN(p->preserve_fds, URPC_MAX_FDS);
}

static int file_of_fd(struct urpc_request *req, size_t i, const struct cred *cred,
		      struct file **ret_file)
{
	int fd = urpc_take_fd(req, i);
	int err = host_file_new(fd, cred, ret_file);

	if (err < 0) {
		close(fd);
		return urpc_fail(req, -EINVAL, "descriptor %zu: %s", i, strerror(-err));
	}
	return 0;
}

/* The one descriptor is a terminal of the host: guest descriptors 0, 1 and 2. */
static int open_terminal(struct urpc_request *req, size_t i, const struct walk *w,
			 struct process_build *b)
{
	int fd = urpc_take_fd(req, i);
	int err = host_tty_file_new(fd, b->cred, w, &b->files[0], &b->args.tty);

	if (err < 0) {
		close(fd);
		return urpc_fail(req, -EINVAL, "terminal: %s", strerror(-err));
	}
	b->files[1] = file_get(b->files[0]);
	b->files[2] = file_get(b->files[0]);
	b->file_count = 3;
	return 0;
}

static int build_files(struct urpc_request *req, const Urpc__Process *p, size_t first_fd,
		       const struct path *root, struct mnt_ns *mnt_ns, struct process_build *b)
{
	size_t count = process_fd_count(p), i = first_fd;
	const struct walk w = { .cred = b->cred, .root = *root, .start = *root, .mnt_ns = mnt_ns };
	int err = 0;

	if (first_fd + count > req->fd_count)
		return urpc_fail(req, -EINVAL, "%zu descriptors came, %zu are needed",
				 req->fd_count, first_fd + count);
	b->files = calloc(count + 2, sizeof(struct file *));
	if (!b->files)
		return -ENOMEM;
	if (p->terminal)
		err = open_terminal(req, i++, &w, b);
	for (; err == 0 && i < first_fd + count; i++) {
		err = file_of_fd(req, i, b->cred, &b->files[b->file_count]);
		if (err == 0)
			b->file_count++;
	}
	return err;
}

/* Who runs it, when the message names somebody: the ids of *p are replaced. u lives as long as *p. */
static int name_user(struct urpc_request *req, const struct walk *w, Urpc__Process *p, struct found_user *u)
{
	char *spec = bytes_dup(&p->user);
	int err = spec ? 0 : -EINVAL;

	if (spec && *spec) {
		err = user_lookup(req, w, spec, u);
		p->uid = u->uid;
		p->gid = u->gid;
		p->additional_gids = u->groups;
		p->n_additional_gids = u->group_count;
	}
	free(spec);
	return err;
}

/* As runc: a process whose environment does not say where its user is at home is told. */
static int add_home(struct process_build *b, const Urpc__Process *p, struct user_ns *user_ns, const struct path *root,
		    struct mnt_ns *mnt_ns)
{
	size_t i;

	for (i = 0; b->envv[i]; i++)
		if (strncmp(b->envv[i], "HOME=", 5) == 0)
			return 0;
	b->envv[i] = home_variable(root, mnt_ns, user_ns, p->uid);
	return b->envv[i] ? 0 : -ENOMEM;
}

static int build_as(struct urpc_request *req, const Urpc__Process *p, size_t first_fd, struct user_ns *user_ns,
		    const struct path *root, struct mnt_ns *mnt_ns, struct process_build *b)
{
	int err;

	if (p->n_args == 0 || p->args[0].len == 0)
		return urpc_fail(req, -EINVAL, "no program is given");
	b->argv = strings_dup(p->args, p->n_args);
	b->envv = strings_dup(p->env, p->n_env);
	b->cwd = bytes_dup(&p->cwd);
	b->exe = bytes_dup(&p->exe);
	if (!b->argv || !b->envv || !b->cwd || !b->exe)
		return urpc_fail(req, -EINVAL, "a string of the process holds a NUL byte");
	err = add_home(b, p, user_ns, root, mnt_ns);
	if (err == 0)
		err = build_cred(req, p, user_ns, &b->cred);
	if (err == 0)
		err = build_limits(req, p, &b->args.limits);
	if (err == 0)
		err = build_files(req, p, first_fd, root, mnt_ns, b);
	if (err < 0)
		return err;
	b->args.argv = (const char *const *)b->argv;
	b->args.envv = (const char *const *)b->envv;
	b->args.exe = b->exe[0] ? b->exe : NULL;
	b->args.cwd = b->cwd;
	b->args.cwd_failed = &b->cwd_failed;
	b->args.cred = b->cred;
	b->args.umask = p->has_umask ? p->umask & 0777 : 0022;
	b->args.oom_score_adj = p->oom_score_adj;
	b->args.personality = p->personality;
	b->args.ioprio = (uint16_t)p->io_priority;
	b->args.sched_policy = (int32_t)MIN(p->sched_policy, 7u);
	b->args.sched_priority = (int32_t)MIN(p->sched_priority, 99u);
	b->args.nice = p->nice < -20 ? -20 : p->nice > 19 ? 19 : p->nice;
	b->args.files = b->files;
	b->args.file_count = b->file_count;
	return 0;
}

int process_build(struct urpc_request *req, const Urpc__Process *p, size_t first_fd,
		  struct user_ns *user_ns, const struct path *root, struct mnt_ns *mnt_ns,
		  struct process_build *ret)
{
	const struct cred *cred = cred_new_root(&root_user_ns);
	const struct walk w = { .cred = cred, .root = *root, .start = *root, .mnt_ns = mnt_ns };
	struct found_user *u = malloc(sizeof(*u));
	Urpc__Process named = *p;
	int err = cred && u ? 0 : -ENOMEM;

	*ret = (struct process_build){ 0 };
	if (err == 0)
		err = name_user(req, &w, &named, u);
	if (err == 0)
		err = build_as(req, &named, first_fd, user_ns, root, mnt_ns, ret);
	cred_put(cred);
	free(u);
	return err;
}

/* The errno is the program's own (ENOENT, EACCES, ENOEXEC...), or the working directory's. */
int process_fail(struct urpc_request *req, const struct process_build *b, int err)
{
	if (b->cwd_failed)
		return urpc_fail(req, err, "chdir to cwd (\"%.160s\") set in config.json failed: %s", b->cwd,
				 err == -ENOENT ? "no such file or directory" :
				 err == -EACCES ? "permission denied" :
				 err == -ENOTDIR ? "not a directory" : strerror(-err));
	return urpc_fail(req, err, "exec: \"%.160s\": %s", b->argv[0], strerror(-err));
}

void process_build_fini(struct process_build *b)
{
	for (unsigned i = 0; i < b->file_count; i++)
		file_put(b->files[i]);
	free(b->files);
	cred_put(b->cred);
	strings_free(b->argv);
	strings_free(b->envv);
	free(b->cwd);
	free(b->exe);
	*b = (struct process_build){ 0 };
}
