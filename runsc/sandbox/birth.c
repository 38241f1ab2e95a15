/* The command lines, descriptors and namespaces of runsc-sentry and runsc-gofer. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "platform/base/log.h"
#include "runsc/oci/message.h"
#include "runsc/sandbox/creation.h"

#define TITLE_MAX 190

static void add_arg(struct strings *argv, const char *name, const char *value)
{
	strings_add(argv, name);
	if (value)
		strings_add(argv, value);
}

static void add_number(struct strings *argv, const char *name, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	add_arg(argv, name, text);
}

/* Where a helper logs to: its file of --debug-log, or our stderr, or that of --panic-log, or nowhere (-1). */
static int helper_log(const struct creation *cr, const char *command)
{
	const struct config *config = cr->config;

	if (config_has_debug_log(config, command))
		return config_open_debug_log(config, command, cr->args->id);
	if (config->also_stderr || (config->debug && !config->log))
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	return config_open_panic_log(config, command, cr->args->id);
}

static void add_log_args(const struct creation *cr, const char *command, struct strings *argv, int fd)
{
	if (fd < 0)
		return;
	add_number(argv, "--log-fd", fd);
	add_arg(argv, "--log-format", strcmp(cr->config->debug_log_format, "text") ? "json" : "text");
	add_number(argv, "--log-level", cr->config->debug || config_has_debug_log(cr->config, command) ?
						      LOG_DEBUG : LOG_WARN);
}

/* The gofer's ends of its pipes. */
struct gofer_pipes {
	int ready, status, exit;
};

static int make_gofer_pipes(struct creation *cr, struct gofer_pipes *p, struct error *err)
{
	int pair[2];

	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	cr->live->gofer.ready_fd = pair[0];
	p->ready = pair[1];
	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	p->status = pair[0];
	cr->status_fd = pair[1];
	if (!cr->args->foreground) {
		p->exit = container_open_exit_file(cr->c, err);
		return p->exit < 0 ? -1 : 0;
	}
	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	cr->live->exit_fd = pair[0];
	p->exit = pair[1];
	return 0;
}

/* One tree for the gofer to serve on descriptor fd; mount NULL: the root. */
static void add_tree(const struct creation *cr, const struct oci_mount *mount, bool is_file, int fd,
		     struct strings *argv)
{
	/* below an overlay (files have none) nothing is ever written */
	bool readonly = mount ? mount->flags & MS_RDONLY || (cr->overlay.all && !is_file) :
				cr->spec.root_readonly || cr->overlay.root;
	AUTO(mem_free) char *attach = xasprintf("%d:%s:%s", fd, readonly ? "ro" : "rw",
						mount ? mount->source : cr->rootfs);

	add_arg(argv, "--attach", attach);
	add_arg(argv, "--at", mount ? mount->destination : "/");
	if (mount && mount->propagation & (MS_SHARED | MS_SLAVE))
		add_arg(argv, "--slave", NULL);
}

/* Whether the sandbox has a network namespace of its own: a new one, or the one that config.json names. */
static bool own_network(const struct creation *cr)
{
	const char *wish = cr->config->network;

	return strcmp(wish, "host") != 0 &&
	       (strcmp(wish, "sandbox") != 0 || cr->spec.namespaces[NS_NETWORK].present);
}

/* The namespace of config.json that --network lets us join, or NULL. */
static const char *network_path(const struct creation *cr)
{
	return own_network(cr) && !strcmp(cr->config->network, "sandbox") ?
		       cr->spec.namespaces[NS_NETWORK].path :
		       NULL;
}

/* The namespace of this kind that config.json names: *ret_fd, or -1 there when it names none. */
static int open_namespace(const struct creation *cr, enum oci_ns_kind kind, int *ret_fd, struct error *err)
{
	const char *path = cr->spec.namespaces[kind].path;
	struct stat named, own;

	if (!path)
		return 0;
	/* nobody may join the user namespace that he is in */
	if (kind == NS_USER && !stat(path, &named) && !stat("/proc/self/ns/user", &own) && named.st_dev == own.st_dev &&
	    named.st_ino == own.st_ino)
		return 0;
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? error_errno(err, errno, "cannot open the namespace %s", path) : 0;
}

/* The process whose namespaces the gofer gets: a sentry of our own, or of the sandbox that is joined. */
static const struct helper *sentry_of(const struct creation *cr)
{
	return cr->pod.root ? &cr->pod.sentry : &cr->live->sentry;
}

/* The sentry was born in its network namespace: it is there even if the sentry fails at once. */
static int open_sentry_net(const struct creation *cr, int *ret_fd, struct error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)sentry_of(cr)->pid);
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? error_errno(err, errno, "cannot open the network namespace of the sentry") : 0;
}

/* The network namespace that config.json wants, as the program that is first in it makes it. */
static void wanted_network(const struct creation *cr, struct spawn_args *args)
{
	args->new_net = args->loopback = args->own_net = own_network(cr);
	args->net_path = network_path(cr);
	args->sysctl = own_network(cr) ? &cr->spec.sysctl : NULL;
}

/* That of the sentry, unless the container has another than the sandbox that it joins. *fd is the caller's to close. */
static int gofer_network(const struct creation *cr, struct spawn_args *args, int *fd, struct error *err)
{
	if (cr->pod.namespaces.own_network) {
		wanted_network(cr, args);
		return 0;
	}
	if (!cr->pod.root)
		args->net_path = network_path(cr);
	if ((cr->pod.root || (own_network(cr) && !args->net_path)) && open_sentry_net(cr, fd, err))
		return -1;
	args->net_fd = *fd;
	return 0;
}

/* A descriptor (-1: none) as option of a helper. */
static void add_fd(struct spawn_args *args, int *fds, const char *option, int fd)
{
	if (fd < 0)
		return;
	add_number(&args->argv, option, fd);
	fds[args->fd_count++] = fd;
}

/* Whether the process that stands for the container gets a user namespace of its own. */
static bool own_user(const struct creation *cr)
{
	const struct oci_namespace *ns = &cr->spec.namespaces[NS_USER];

	return !cr->config->rootless && ns->present && !ns->path;
}

static int write_map(pid_t pid, const char *name, const struct oci_id_map *map, size_t count, struct error *err)
{
	AUTO(mem_free) char *text = xstrdup("");
	char path[64];
	int ret;

	for (size_t i = 0; i < count; i++) {
		char *longer = xasprintf("%s%u %u %u\n", text, map[i].container_id, map[i].host_id, map[i].size);

		free(text);
		text = longer;
	}
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	ret = count ? write_string_at(AT_FDCWD, path, text) : 0;
	return ret ? error_errno(err, -ret, "cannot write %s (linux.uidMappings, gidMappings of config.json)", path) : 0;
}

int gofer_map_ids(const struct creation *cr, struct error *err)
{
	const struct oci_spec *spec = &cr->spec;
	pid_t pid = cr->live->gofer.pid;

	if (!own_user(cr))
		return 0;
	return write_map(pid, "uid_map", spec->uid_map, spec->uid_map_count, err) ||
			       write_map(pid, "gid_map", spec->gid_map, spec->gid_map_count, err) ?
		       -1 :
		       0;
}

/* What the host's process lists show for the process that stands for the container: the program's command line. */
static void add_title(const struct oci_process *process, struct strings *argv)
{
	AUTO(mem_free) char *title = xstrdup("");

	for (size_t i = 0; i < process->args.count && strlen(title) < TITLE_MAX; i++) {
		char *longer = xasprintf("%s%s%s", title, i ? " " : "", process->args.v[i]);

		free(title);
		title = longer;
	}
	if (strlen(title) > TITLE_MAX)
		title[TITLE_MAX] = 0;
	add_arg(argv, "--title", title);
}

static int run_gofer(struct creation *cr, const char *path, const struct gofer_pipes *p, struct error *err)
{
	AUTO(fd_close) int log_fd = helper_log(cr, "gofer");
	AUTO(fd_close) int proc_fd = -1;
	AUTO(fd_close) int mount_ns = -1;
	AUTO(fd_close) int user_ns = -1;
	AUTO(fd_close) int net = -1;
	int fds[MAX_BINDS + 11] = { p->ready, p->status, p->exit }, ret;
	struct spawn_args args = { .path = path, .fds = fds, .fd_count = 3, .stderr_fd = log_fd,
				   .ready_fd = p->ready, .net_fd = -1, .new_user = cr->config->rootless,
				   .cgroup = &cr->cgroup,
				   /* as the sandbox ends with runsc in the foreground, so does this */
				   .die_with_us = cr->pod.root && cr->args->foreground };
	size_t served = 0;

	/* rootless: nobody may enter the sentry's namespaces from outside */
	if (cr->config->rootless) {
		args.new_net = true;
	} else {
		args.listed = cr->spec.namespaces;
		if (open_namespace(cr, NS_MOUNT, &mount_ns, err) || open_namespace(cr, NS_USER, &user_ns, err))
			return -1;
		if (gofer_network(cr, &args, &net, err))
			return -1;
		proc_fd = spawn_open_proc(sentry_of(cr));
	}
	if (log_fd >= 0)
		fds[args.fd_count++] = log_fd;
	add_arg(&args.argv, "runsc-gofer", NULL);
	add_number(&args.argv, "--ready-fd", p->ready);
	add_number(&args.argv, "--status-fd", p->status);
	add_number(&args.argv, "--exit-fd", p->exit);
	add_fd(&args, fds, "--socket-fd", cr->socket_theirs);
	add_fd(&args, fds, "--proc-fd", proc_fd);
	add_fd(&args, fds, "--mount-ns-fd", mount_ns);
	add_fd(&args, fds, "--user-ns-fd", user_ns);
	if (!cr->config->rootless && !cr->spec.namespaces[NS_MOUNT].present)
		add_arg(&args.argv, "--stay", NULL);
	if (own_user(cr))
		add_arg(&args.argv, "--new-user", NULL);
	add_log_args(cr, "gofer", &args.argv, log_fd);
	if (strcmp(cr->config->host_uds, "none") != 0)
		add_arg(&args.argv, "--host-uds", NULL);
	for (size_t i = 0; i <= cr->spec.mount_count; i++) {
		const struct oci_mount *mount = i ? &cr->spec.mounts[i - 1] : NULL;

		if (mount && !mount->bind)
			continue;
		add_tree(cr, mount, mount && cr->mount_is_file[i - 1], cr->gofer_theirs[served], &args.argv);
		fds[args.fd_count++] = cr->gofer_theirs[served++];
	}
	add_title(&cr->spec.process, &args.argv);
	ret = spawn_helper(&args, &cr->live->gofer, err);
	strings_fini(&args.argv);
	return ret;
}

int spawn_gofer(struct creation *cr, struct error *err)
{
	AUTO(mem_free) char *path = spawn_find("runsc-gofer", err);
	struct gofer_pipes pipes = { -1, -1, -1 };
	int ret = path ? make_gofer_pipes(cr, &pipes, err) : -1;

	if (!ret)
		ret = run_gofer(cr, path, &pipes, err);
	fd_close(pipes.ready);
	fd_close(pipes.status);
	fd_close(pipes.exit);
	return ret;
}

/* The program's ends of its pipes. */
struct sentry_pipes {
	int ready, death;
};

static int make_sentry_pipes(struct creation *cr, struct sentry_pipes *p, struct error *err)
{
	int pair[2];

	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	cr->live->sentry.ready_fd = pair[0];
	p->ready = pair[1];
	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	p->death = pair[0];
	cr->live->death_fd = pair[1];
	return 0;
}

static int run_sentry(struct creation *cr, const char *path, const struct sentry_pipes *p,
		      struct error *err)
{
	const struct config *config = cr->config;
	AUTO(fd_close) int log_fd = helper_log(cr, "boot");
	AUTO(fd_close) int kvm_fd = -1;
	int fds[] = { cr->control_fd, p->ready, p->death, -1, -1 }, ret;
	struct spawn_args args = { .path = path,
				   .fds = fds,
				   .fd_count = 3,
				   .stderr_fd = log_fd,
				   .ready_fd = p->ready,
				   .net_fd = -1,
				   .new_user = config->rootless,
				   .cgroup = &cr->cgroup,
				   .as_nobody = !config->rootless };
	char oom_score[16];

	wanted_network(cr, &args);
	if (spawn_open_kvm(config->platform, config->platform_device, &kvm_fd, err))
		return -1;
	add_arg(&args.argv, "runsc-sentry", NULL);
	add_number(&args.argv, "--control-fd", cr->control_fd);
	add_number(&args.argv, "--ready-fd", p->ready);
	add_number(&args.argv, "--death-fd", p->death);
	add_arg(&args.argv, "--platform", config->platform);
	if (kvm_fd >= 0) {
		add_number(&args.argv, "--kvm-fd", kvm_fd);
		fds[args.fd_count++] = kvm_fd;
	}
	add_arg(&args.argv, "--network", own_network(cr) ? "none" : "host");
	add_log_args(cr, "boot", &args.argv, log_fd);
	if (config->strace) {
		add_arg(&args.argv, "--strace", NULL);
		if (log_fd < 0)
			log_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
		if (log_fd >= 0)
			add_number(&args.argv, "--strace-fd", log_fd);
	}
	if (cpus_of_resources(&cr->spec.resources))
		add_number(&args.argv, "--cpus", cpus_of_resources(&cr->spec.resources));
	if (cr->spec.process.has_oom_score_adj) {
		snprintf(oom_score, sizeof(oom_score), "%d", cr->spec.process.oom_score_adj);
		args.oom_score_adj = oom_score;
	}
	if (log_fd >= 0)
		fds[args.fd_count++] = log_fd;
	ret = spawn_helper(&args, &cr->live->sentry, err);
	strings_fini(&args.argv);
	return ret;
}

int spawn_sentry(struct creation *cr, struct error *err)
{
	AUTO(mem_free) char *path = spawn_find("runsc-sentry", err);
	struct sentry_pipes pipes = { -1, -1 };
	int ret = path ? make_sentry_pipes(cr, &pipes, err) : -1;

	if (!ret)
		ret = run_sentry(cr, path, &pipes, err);
	fd_close(pipes.ready);
	fd_close(pipes.death);
	return ret;
}
