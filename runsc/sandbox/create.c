#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "platform/base/log.h"
#include "runsc/console/console.h"
#include "runsc/hooks/hooks.h"
#include "runsc/oci/message.h"
#include "runsc/sandbox/control.h"
#include "runsc/sandbox/destroy.h"
#include "runsc/sandbox/janitor.h"
#include "runsc/sandbox/places.h"
#include "runsc/sandbox/sandbox.h"

#define CONFIG_MAX (16u << 20)
#define MAX_BINDS 200u
#define READY_MS 20000

/* All that a create works with; gone at its end. */
struct creation {
	const struct config *config;
	const struct create_args *args;
	struct container *c;
	struct sandbox_live *live;
	struct oci_spec spec;
	struct overlay_choice overlay;
	char *bundle, *rootfs;
	bool *mount_is_file;
	size_t gofer_count;
	int gofer_ours[MAX_BINDS + 1], gofer_theirs[MAX_BINDS + 1];
	int control_fd, overlay_fd, slave;
	int status_fd; /* where the sentry tells the gofer how init ended */
	struct cgroup_entry cgroup;
	struct janitor janitor;
};

static char *read_config(const char *bundle, size_t *ret_size, struct error *err)
{
	AUTO(mem_free) char *path = xasprintf("%s/config.json", bundle);
	char *text = read_file_at(AT_FDCWD, path, CONFIG_MAX, ret_size);

	if (!text && errno == ENOENT)
		error_set(err, "%s does not exist: name a bundle with --bundle, or make one with `runsc spec`",
			  path);
	else if (!text)
		error_errno(err, errno, "cannot read %s", path);
	return text;
}

static int check_rootfs(struct creation *cr, struct error *err)
{
	const char *path = cr->spec.root_path;
	AUTO(mem_free) char *full =
		path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", cr->bundle, path);
	struct stat st;

	cr->rootfs = realpath(full, NULL);
	if (!cr->rootfs || stat(cr->rootfs, &st) < 0)
		return error_errno(err, errno, "cannot use the root file system %s (root.path of config.json)",
				   full);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, "the root file system %s is not a directory (root.path of config.json)",
				 full);
	return 0;
}

/* Sources of bind mounts: absolute, there, and directory or file. */
static int check_binds(struct creation *cr, struct error *err)
{
	size_t binds = 0;

	cr->mount_is_file = arena_alloc(&cr->spec.arena, cr->spec.mount_count, sizeof(bool));
	for (size_t i = 0; i < cr->spec.mount_count; i++) {
		struct oci_mount *mount = &cr->spec.mounts[i];
		AUTO(mem_free) char *full = NULL;
		AUTO(mem_free) char *real = NULL;
		struct stat st;

		if (!mount->bind)
			continue;
		if (++binds > MAX_BINDS)
			return error_set(err, "config.json has more than %u bind mounts", MAX_BINDS);
		full = mount->source[0] == '/' ? xstrdup(mount->source) :
						 xasprintf("%s/%s", cr->bundle, mount->source);
		real = realpath(full, NULL);
		if (!real || stat(real, &st) < 0)
			return error_errno(err, errno, "cannot mount %s to %s", full, mount->destination);
		mount->source = arena_strdup(&cr->spec.arena, real);
		cr->mount_is_file[i] = !S_ISDIR(st.st_mode);
	}
	cr->gofer_count = binds + 1;
	return 0;
}

static int check_terminal(const struct creation *cr, struct error *err)
{
	const struct create_args *args = cr->args;

	if (cr->spec.process.terminal && !args->foreground && !args->console_socket)
		return error_set(err, "cannot allocate tty if runsc will detach without setting console socket: "
				      "use --console-socket, or process.terminal false");
	if (!cr->spec.process.terminal && args->console_socket)
		return error_set(err, "cannot use console socket if runsc will not detach or allocate tty: "
				      "set process.terminal");
	return 0;
}

/* Socket activation, as sd_listen_fds(3) has it: the program is process 1 of its container. */
static void add_listen_environment(struct oci_spec *spec, uint32_t listen_fds)
{
	struct oci_strings *env = &spec->process.env;
	char **longer = arena_alloc(&spec->arena, env->count + 3, sizeof(*longer));

	if (env->count)
		memcpy(longer, env->v, env->count * sizeof(*longer));
	longer[env->count++] = arena_printf(&spec->arena, "LISTEN_FDS=%u", listen_fds);
	longer[env->count++] = arena_strdup(&spec->arena, "LISTEN_PID=1");
	env->v = longer;
}

/* Checks everything that can be found out without changing anything, then makes the state directory. */
static int prepare(struct creation *cr, struct error *err)
{
	AUTO(mem_free) char *file_text = NULL;
	const char *text = cr->args->config_text;
	size_t size = text ? strlen(text) : 0;
	int ret;

	if (container_check_id(cr->args->id, err) || config_overlay(cr->config, &cr->overlay, err))
		return -1;
	cr->bundle = realpath(cr->args->bundle, NULL);
	if (!cr->bundle)
		return error_errno(err, errno, "cannot find the bundle %s", cr->args->bundle);
	if (!text)
		text = file_text = read_config(cr->bundle, &size, err);
	if (!text || oci_spec_parse("config.json", text, size, &cr->spec, err))
		return -1;
	if (!cr->spec.has_process)
		return error_set(err, "config.json:1: process must be set");
	if (cr->args->listen_fds)
		add_listen_environment(&cr->spec, cr->args->listen_fds);
	if (check_rootfs(cr, err) || check_binds(cr, err) || check_terminal(cr, err))
		return -1;
	if (janitor_start(cr->config, cr->args->id, &cr->janitor, err) ||
	    container_make(cr->config, cr->args->id, &cr->c, err))
		return -1;
	ret = write_atomic_at(cr->c->dir_fd, "config.json", text, size, 0600);
	return ret ? error_errno(err, -ret, "cannot write %s/config.json", cr->c->dir) : 0;
}

static void describe(struct creation *cr)
{
	struct container *c = cr->c;

	c->bundle = xstrdup(cr->bundle);
	c->rootfs = xstrdup(cr->rootfs);
	c->version = xstrdup(cr->spec.version);
	for (size_t i = 0; i < cr->spec.annotations.count; i++)
		strings_add(&c->annotations, cr->spec.annotations.v[i]);
}

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

/* Where a helper logs to: its file of --debug-log, or our stderr, or nowhere (-1). */
static int helper_log(const struct creation *cr, const char *command)
{
	const struct config *config = cr->config;

	if (config->debug_log)
		return config_open_debug_log(config, command, cr->args->id);
	if (config->also_stderr || (config->debug && !config->log))
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	return -1;
}

static void add_log_args(const struct creation *cr, struct strings *argv, int fd)
{
	if (fd < 0)
		return;
	add_number(argv, "--log-fd", fd);
	add_arg(argv, "--log-format", strcmp(cr->config->debug_log_format, "text") ? "json" : "text");
	add_number(argv, "--log-level", cr->config->debug || cr->config->debug_log ? LOG_DEBUG : LOG_WARN);
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

static int run_gofer(struct creation *cr, const char *path, const struct gofer_pipes *p, struct error *err)
{
	AUTO(fd_close) int log_fd = helper_log(cr, "gofer");
	AUTO(fd_close) int proc_fd = -1;
	int fds[MAX_BINDS + 8] = { p->ready, p->status, p->exit }, ret;
	struct spawn_args args = { .path = path, .fds = fds, .fd_count = 3, .stderr_fd = log_fd,
				   .ready_fd = p->ready, .new_user = cr->config->rootless,
				   .cgroup = &cr->cgroup };
	size_t served = 0;

	/* rootless: nobody may enter the sentry's namespaces from outside */
	if (cr->config->rootless) {
		args.new_net = true;
	} else {
		args.net_path = network_path(cr);
		args.beside = own_network(cr) && !args.net_path ? &cr->live->sentry : NULL;
		proc_fd = spawn_open_proc(&cr->live->sentry);
	}
	if (log_fd >= 0)
		fds[args.fd_count++] = log_fd;
	add_arg(&args.argv, "runsc-gofer", NULL);
	add_number(&args.argv, "--ready-fd", p->ready);
	add_number(&args.argv, "--status-fd", p->status);
	add_number(&args.argv, "--exit-fd", p->exit);
	if (proc_fd >= 0) {
		add_number(&args.argv, "--proc-fd", proc_fd);
		fds[args.fd_count++] = proc_fd;
	}
	add_log_args(cr, &args.argv, log_fd);
	if (strcmp(cr->config->host_uds, "none") != 0)
		add_arg(&args.argv, "--host-uds", NULL);
	for (size_t i = 0; i <= cr->spec.mount_count; i++) {
		const struct oci_mount *mount = i ? &cr->spec.mounts[i - 1] : NULL;

		if (mount && !mount->bind)
			continue;
		add_tree(cr, mount, mount && cr->mount_is_file[i - 1], cr->gofer_theirs[served], &args.argv);
		fds[args.fd_count++] = cr->gofer_theirs[served++];
	}
	ret = spawn_helper(&args, &cr->live->gofer, err);
	strings_fini(&args.argv);
	return ret;
}

static int spawn_gofer(struct creation *cr, struct error *err)
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
				   .new_user = config->rootless,
				   .cgroup = &cr->cgroup,
				   .as_nobody = !config->rootless,
				   .new_net = own_network(cr),
				   .loopback = own_network(cr),
				   .own_net = own_network(cr),
				   .net_path = network_path(cr),
				   .sysctl = own_network(cr) ? &cr->spec.sysctl : NULL };
	char oom_score[16];

	if (spawn_open_kvm(config->platform, &kvm_fd, err))
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
	add_log_args(cr, &args.argv, log_fd);
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

static int spawn_sentry(struct creation *cr, struct error *err)
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

static int make_descriptors(struct creation *cr, struct error *err)
{
	cr->control_fd = control_listen(cr->c, err);
	if (cr->control_fd < 0)
		return -1;
	for (size_t i = 0; i < cr->gofer_count; i++) {
		int pair[2];

		if (make_seqpacket_pair(pair))
			return error_errno(err, errno, "cannot make a socket pair for the gofer");
		cr->gofer_ours[i] = pair[0];
		cr->gofer_theirs[i] = pair[1];
	}
	if (cr->overlay.root && cr->overlay.self)
		cr->overlay_fd = open(cr->rootfs, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	return 0;
}

/* Before there is a process, which then is born in it. The state names what is to be made, for whoever cleans up. */
static int make_cgroup(struct creation *cr, struct error *err)
{
	struct container *c = cr->c;
	const char *path = cr->spec.cgroups_path;

	if (cr->config->ignore_cgroups)
		return 0;
	return cgroup_plan(path, c->id, &c->cgroup, err) || container_save(c, err) ||
			       cgroup_make(&c->cgroup, &cr->spec.resources, !path || !*path, err) ||
			       cgroup_entry_open(&c->cgroup, &cr->cgroup, err) ?
		       -1 :
		       0;
}

/* Both processes, and what can be done while they start. */
static int spawn_both(struct creation *cr, struct error *err)
{
	struct helper *helpers[] = { &cr->live->gofer, &cr->live->sentry };
	static const char *const names[] = { "gofer", "sentry" };
	struct container *c = cr->c;

	/* an overlay takes the places too */
	if (!cr->overlay.root)
		places_make(cr->rootfs, &cr->spec, cr->mount_is_file);
	if (make_cgroup(cr, err) || spawn_sentry(cr, err) || spawn_gofer(cr, err))
		return -1;
	cgroup_entry_close(&cr->cgroup);
	c->sentry = process_id_of(cr->live->sentry.pid);
	c->gofer = process_id_of(cr->live->gofer.pid);
	if (container_save(c, err))
		return -1;
	/* only the gofer's own copies must stay open, or it would not notice the sentry's end */
	for (size_t i = 0; i < cr->gofer_count; i++)
		fd_close(TAKE_FD(cr->gofer_theirs[i]));
	if (spawn_wait_ready(helpers, names, ARRAY_COUNT(helpers), READY_MS, err))
		return -1;
	log_debug("sentry and gofer are ready");
	return 0;
}

static int run_create_hooks(struct creation *cr, struct error *err)
{
	static const enum oci_hook_kind kinds[] = { HOOK_PRESTART, HOOK_CREATE_RUNTIME,
						    HOOK_CREATE_CONTAINER };

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		if (hooks_run(&cr->spec, kinds[i], cr->c, STATUS_CREATING, err))
			return -1;
	}
	return 0;
}

/* --strace-syscalls has no place on the sentry's command line. */
static int narrow_strace(const struct creation *cr, struct urpc_client *client, struct error *err)
{
	Urpc__LoggingArgs args;
	struct strings names = { 0 };
	AUTO(mem_free) char *copy = NULL;
	Urpc__Empty *empty = NULL;
	char *save = NULL;
	int ret;

	urpc__logging_args__init(&args);
	if (!cr->config->strace || !cr->config->strace_syscalls || !*cr->config->strace_syscalls)
		return 0;
	copy = xstrdup(cr->config->strace_syscalls);
	for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save))
		strings_add(&names, name);
	args.set_strace = args.strace = true;
	args.n_strace_syscalls = names.count;
	args.strace_syscalls = names.v;
	ret = urpc_Logging_Change(client, &args, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	strings_fini(&names);
	return ret ? control_fail(client, ret, "choose the traced system calls", err) : 0;
}

static int create_root(struct creation *cr, struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	struct message_extra extra = {
		.id = cr->c->id,
		.preserve_fds = cr->args->preserve_fds,
		.gofer_count = (uint32_t)cr->gofer_count,
		.overlay_file_count = cr->overlay_fd >= 0,
		.overlay_root = cr->overlay.root,
		.overlay_all = cr->overlay.all,
		.overlay_self = cr->overlay_fd >= 0,
		.overlay_size = cr->overlay.size,
		.root_shared = !strcmp(cr->config->file_access, "shared"),
		.mounts_shared = !strcmp(cr->config->file_access_mounts, "shared"),
		.cgroup_path = cr->spec.cgroups_path,
		.mount_is_file = cr->mount_is_file,
	};
	int fds[URPC_MAX_FDS], ret;
	Urpc__Empty *empty = NULL;
	size_t count = 0;

	if (sandbox_stdio(&cr->spec.process, cr->args->console_socket, cr->args->foreground,
			  cr->args->preserve_fds, cr->args->extra_fds, fds, &count, &cr->slave, &cr->live->master,
			  err))
		return -1;
	if (control_connect(cr->c, &client, err) || narrow_strace(cr, client, err))
		return -1;
	for (size_t i = 0; i < cr->gofer_count; i++)
		fds[count++] = cr->gofer_ours[i];
	if (cr->overlay_fd >= 0)
		fds[count++] = cr->overlay_fd;
	fds[count++] = cr->status_fd;
	ret = urpc_containerManager_CreateRoot(client, message_of_spec(&cr->spec.arena, &cr->spec, &extra),
					       fds, count, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	return ret ? control_program_fail(client, ret, cr->spec.process.args.v[0], err) : 0;
}

static int write_pid_file(const char *path, pid_t pid, struct error *err)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%d", (int)pid);
	int ret = write_atomic_at(AT_FDCWD, path, text, (size_t)len, 0644);

	return ret ? error_errno(err, -ret, "cannot write the pid file %s", path) : 0;
}

/* From here on the sandbox lives without its creator, unless that stays in the foreground. */
static int commit(struct creation *cr, struct error *err)
{
	cr->c->status = STATUS_CREATED;
	if (cr->args->pid_file && write_pid_file(cr->args->pid_file, cr->c->gofer.pid, err))
		return -1;
	if (container_save(cr->c, err))
		return -1;
	if (cr->args->foreground)
		return 0;
	if (write_all(cr->live->death_fd, "c", 1))
		return error_set(err, "the sentry ended while the container was created (see --debug-log)");
	return 0;
}

static int create_steps(struct creation *cr, struct error *err)
{
	if (make_descriptors(cr, err) || spawn_both(cr, err) ||
	    run_create_hooks(cr, err) || create_root(cr, err) || commit(cr, err))
		return -1;
	return 0;
}

static void creation_fini(struct creation *cr)
{
	for (size_t i = 0; i < cr->gofer_count; i++) {
		fd_close(cr->gofer_ours[i]);
		fd_close(cr->gofer_theirs[i]);
	}
	fd_close(cr->control_fd);
	fd_close(cr->overlay_fd);
	fd_close(cr->status_fd);
	fd_close(cr->slave);
	cgroup_entry_close(&cr->cgroup);
	oci_spec_fini(&cr->spec);
	free(cr->bundle);
	free(cr->rootfs);
	container_free(cr->c);
}

int sandbox_create(const struct config *config, const struct create_args *args,
		   struct container **ret, struct sandbox_live *live, struct error *err)
{
	struct creation cr = { .config = config,
			       .args = args,
			       .live = live,
			       .control_fd = -1,
			       .overlay_fd = -1,
			       .status_fd = -1,
			       .slave = -1,
			       .cgroup = CGROUP_ENTRY_NONE };
	struct error other;
	int result;

	*live = (struct sandbox_live){ .sentry = { .pid_fd = -1, .ready_fd = -1 },
				       .gofer = { .pid_fd = -1, .ready_fd = -1 },
				       .death_fd = -1,
				       .exit_fd = -1,
				       .master = -1 };
	for (size_t i = 0; i < ARRAY_COUNT(cr.gofer_ours); i++)
		cr.gofer_ours[i] = cr.gofer_theirs[i] = -1;
	result = prepare(&cr, err);
	if (!result) {
		describe(&cr);
		result = create_steps(&cr, err);
	}
	if (result && cr.c) {
		helper_kill(&live->sentry);
		helper_kill(&live->gofer);
		if (args->pid_file)
			unlink(args->pid_file);
		if (container_destroy(cr.c, false, &other))
			log_warn("%s", other.text);
	}
	janitor_dismiss(&cr.janitor);
	if (result) {
		sandbox_live_fini(live);
	} else {
		container_unlock(cr.c);
		*ret = TAKE(cr.c);
	}
	creation_fini(&cr);
	return result;
}

void sandbox_live_fini(struct sandbox_live *live)
{
	fd_close(TAKE_FD(live->sentry.pid_fd));
	fd_close(TAKE_FD(live->sentry.ready_fd));
	fd_close(TAKE_FD(live->gofer.pid_fd));
	fd_close(TAKE_FD(live->gofer.ready_fd));
	fd_close(TAKE_FD(live->death_fd));
	fd_close(TAKE_FD(live->exit_fd));
	fd_close(TAKE_FD(live->master));
}
