#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "platform/base/log.h"
#include "runsc/console/console.h"
#include "runsc/hooks/hooks.h"
#include "runsc/oci/message.h"
#include "runsc/oci/seccomp.h"
#include "runsc/sandbox/control.h"
#include "runsc/sandbox/creation.h"
#include "runsc/sandbox/destroy.h"
#include "runsc/sandbox/places.h"

#define CONFIG_MAX (16u << 20)
#define READY_MS 20000
#define SENTRY_WORD_MS 2000

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
			return error_errno(err, errno, "error mounting \"%s\" to rootfs at \"%s\": stat %s", full,
					   mount->destination, full);
		mount->source = arena_strdup(&cr->spec.arena, real);
		cr->mount_is_file[i] = !S_ISDIR(st.st_mode);
	}
	cr->gofer_count = binds + 1;
	return 0;
}

/* Labels of security modules that the host does not have are errors, as with runc. */
static int check_labels(const struct creation *cr, struct error *err)
{
	const struct oci_process *process = &cr->spec.process;

	if (process->selinux_label && access("/sys/fs/selinux/enforce", F_OK) < 0)
		return error_set(err, "selinux label is specified in config, but selinux is disabled or not supported");
	if (process->apparmor_profile && access("/sys/kernel/security/apparmor", F_OK) < 0 &&
	    access("/proc/self/attr/apparmor", F_OK) < 0)
		return error_set(err, "unable to apply apparmor profile: apparmor failed to apply profile: apparmor is "
				      "not enabled on this host");
	if (process->selinux_label || process->apparmor_profile)
		log_warn("the label of config.json is not put on the processes of the sandbox: its programs never reach "
			 "the host's kernel");
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

/* Annotations that set options. */
static int apply_annotations(struct creation *cr, struct error *err)
{
	const struct oci_strings *list = &cr->spec.annotations;
	size_t len = strlen(ANNOTATION_FLAG);

	cr->adjusted = *cr->config;
	for (size_t i = 0; i + 1 < list->count; i += 2) {
		if (!strncmp(list->v[i], ANNOTATION_FLAG, len) &&
		    config_override(&cr->adjusted, list->v[i] + len, list->v[i + 1], err))
			return -1;
	}
	cr->config = &cr->adjusted;
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

	if (container_check_id(cr->args->id, err))
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
	if (apply_annotations(cr, err) || config_overlay(cr->config, &cr->overlay, err))
		return -1;
	if (cr->args->listen_fds)
		add_listen_environment(&cr->spec, cr->args->listen_fds);
	if (check_rootfs(cr, err) || check_binds(cr, err) || check_labels(cr, err) || check_terminal(cr, err) ||
	    pod_find(cr->config, &cr->spec, &cr->pod, err))
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
	/* both before the state is written again: what has no sandbox to name is taken apart with its sentry */
	if (cr->pod.root) {
		c->sandbox = xstrdup(cr->pod.root->id);
		c->sentry = cr->pod.root->sentry;
	}
	for (size_t i = 0; i < cr->spec.annotations.count; i++)
		strings_add(&c->annotations, cr->spec.annotations.v[i]);
}

static int make_descriptors(struct creation *cr, struct error *err)
{
	if (cr->pod.root) {
		if (control_link(cr->c, cr->pod.root, err))
			return -1;
	} else {
		cr->control_fd = control_listen(cr->c, err);
		if (cr->control_fd < 0)
			return -1;
	}
	for (size_t i = 0; i < cr->gofer_count; i++) {
		/* The sentry counts how long it waits for an answer, and has no system call to set this itself. */
		static const struct timeval second = { .tv_sec = 1 };
		int pair[2];

		if (make_seqpacket_pair(pair) ||
		    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) < 0)
			return error_errno(err, errno, "cannot make a socket pair for the gofer");
		cr->gofer_ours[i] = pair[0];
		cr->gofer_theirs[i] = pair[1];
	}
	if (cr->pod.namespaces.own_network) {
		int pair[2];

		if (make_seqpacket_pair(pair))
			return error_errno(err, errno, "cannot make a socket pair for the network");
		cr->socket_ours = pair[0];
		cr->socket_theirs = pair[1];
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
	struct error other;

	if (cr->config->ignore_cgroups)
		return 0;
	/* the sentry and all stubs of the pod are in its first container's */
	if (cr->pod.root && cgroup_lift(&cr->pod.root->cgroup, &other))
		log_warn("%s", other.text);
	if (cr->config->systemd_cgroup)
		return cgroup_plan_scope(path, c->id, cr->config->rootless, &c->cgroup, err) ||
				       container_save(c, err) ?
			       -1 :
			       0;
	return cgroup_plan(path, c->id, &c->cgroup, err) || container_save(c, err) ||
			       cgroup_make(&c->cgroup, &cr->spec.resources, cr->config->rootless || !path || !*path, err) ||
			       cgroup_entry_open(&c->cgroup, &cr->cgroup, err) ?
		       -1 :
		       0;
}

/* A scope of systemd begins with its first processes. */
static int start_scope(struct creation *cr, struct error *err)
{
	struct container *c = cr->c;
	/* the sentry of a pod is in its first container's */
	const pid_t pids[] = { c->gofer.pid, c->sentry.pid };
	size_t count = cr->pod.root ? 1 : 2;

	return c->cgroup.unit ? cgroup_start_scope(&c->cgroup, c->id, pids, count, &cr->spec, err) : 0;
}

/* The processes (one, in a sandbox that is there), and what can be done while they start. */
static int spawn_all(struct creation *cr, struct error *err)
{
	struct helper *helpers[] = { &cr->live->gofer, &cr->live->sentry };
	static const char *const names[] = { "gofer", "sentry" };
	struct container *c = cr->c;

	/* an overlay takes the places too */
	if (!cr->overlay.root)
		places_make(cr->rootfs, &cr->spec, cr->mount_is_file);
	if (make_cgroup(cr, err) || (!cr->pod.root && spawn_sentry(cr, err)))
		return -1;
	if (spawn_gofer(cr, err)) {
		struct error own;

		/* a sentry that failed at once is the reason, and says its own */
		if (!cr->pod.root && spawn_wait_ready(&helpers[1], &names[1], 1, SENTRY_WORD_MS, &own))
			*err = own;
		return -1;
	}
	cgroup_entry_close(&cr->cgroup);
	if (!cr->pod.root)
		c->sentry = process_id_of(cr->live->sentry.pid);
	c->gofer = process_id_of(cr->live->gofer.pid);
	if (container_save(c, err))
		return -1;
	/* only the programs' own copies must stay open, or nobody would notice their ends */
	fd_close(TAKE_FD(cr->control_fd));
	for (size_t i = 0; i < cr->gofer_count; i++)
		fd_close(TAKE_FD(cr->gofer_theirs[i]));
	fd_close(TAKE_FD(cr->socket_theirs));
	if (cr->spec.seccomp && cr->config->oci_seccomp &&
	    seccomp_compile(cr->spec.seccomp, &cr->spec.arena, &cr->seccomp, &cr->seccomp_size, err))
		return -1;
	if (start_scope(cr, err))
		return -1;
	if (spawn_wait_ready(helpers, names, cr->pod.root ? 1 : ARRAY_COUNT(helpers), READY_MS, err) ||
	    gofer_map_ids(cr, err))
		return -1;
	log_debug("%s", cr->pod.root ? "the gofer is ready" : "sentry and gofer are ready");
	return 0;
}

static int run_create_hooks(struct creation *cr, struct error *err)
{
	cr->hooks_began = true;
	/* a hook of the specification's first version, in which it ran between creation and start */
	return hooks_run(&cr->spec, HOOK_PRESTART, cr->c, STATUS_CREATED, err) ||
			       hooks_run(&cr->spec, HOOK_CREATE_RUNTIME, cr->c, STATUS_CREATING, err) ||
			       hooks_run(&cr->spec, HOOK_CREATE_CONTAINER, cr->c, STATUS_CREATING, err) ?
		       -1 :
		       0;
}

/* --strace-syscalls has no place on the sentry's command line. */
static int narrow_strace(const struct creation *cr, struct urpc_client *client, struct error *err)
{
	const char *names = cr->config->strace ? cr->config->strace_syscalls : NULL;
	Urpc__LoggingArgs args;

	if (!names || !*names)
		return 0;
	urpc__logging_args__init(&args);
	args.set_strace = args.strace = true;
	return control_logging(client, &args, names, "choose the traced system calls", err);
}

/*
 * A container for which config.json has no name is called as the host is, or as its uts namespace by path is: a new
 * namespace begins as a copy. Not one that joins a container of ours, which has its name from there.
 */
static void take_hostname(struct creation *cr)
{
	const char *path = cr->spec.namespaces[NS_UTS].path;
	char name[HOST_NAME_MAX + 1] = "";
	int own, other;

	if (cr->spec.hostname || cr->pod.namespaces.of[NS_UTS] || cr->pod.namespaces.shared[NS_UTS])
		return;
	own = path ? open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC) : -1;
	other = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (!path || (own >= 0 && other >= 0 && setns(other, CLONE_NEWUTS) == 0)) {
		if (gethostname(name, sizeof(name) - 1) == 0)
			cr->spec.hostname = arena_strdup(&cr->spec.arena, name);
		if (path && setns(own, CLONE_NEWUTS) < 0)
			log_warn("cannot return from the uts namespace %s: %s", path, strerror(errno));
	}
	fd_close(own);
	fd_close(other);
}

/* Tells the sentry: CreateRoot, or CreateSubcontainer of the sandbox that is joined. */
static int create_container(struct creation *cr, struct error *err)
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
		.cgroup_version = cgroup_host_version(),
		.namespaces = cr->pod.namespaces,
		.mount_is_file = cr->mount_is_file,
		.seccomp = cr->seccomp,
		.seccomp_size = cr->seccomp_size,
	};
	int fds[URPC_MAX_FDS], ret;
	Urpc__Container *message;
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
	if (cr->socket_ours >= 0)
		fds[count++] = cr->socket_ours;
	fds[count++] = cr->status_fd;
	take_hostname(cr);
	message = message_of_spec(&cr->spec.arena, &cr->spec, &extra);
	ret = cr->pod.root ? urpc_containerManager_CreateSubcontainer(client, message, fds, count, &empty) :
			     urpc_containerManager_CreateRoot(client, message, fds, count, &empty);
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
	int ret;

	cr->c->status = STATUS_CREATED;
	if (cr->args->pid_file && write_pid_file(cr->args->pid_file, cr->c->gofer.pid, err))
		return -1;
	if (container_save(cr->c, err))
		return -1;
	if (cr->args->foreground || cr->pod.root)
		return 0;
	/* it may have ended just now */
	signal(SIGPIPE, SIG_IGN);
	ret = write_all(cr->live->death_fd, "c", 1);
	signal(SIGPIPE, SIG_DFL);
	if (ret)
		return error_set(err, "the sentry ended while the container was created (see --debug-log)");
	return 0;
}

static int create_steps(struct creation *cr, struct error *err)
{
	if (make_descriptors(cr, err) || spawn_all(cr, err) ||
	    run_create_hooks(cr, err) || create_container(cr, err) || commit(cr, err))
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
	fd_close(cr->socket_ours);
	fd_close(cr->socket_theirs);
	fd_close(cr->slave);
	cgroup_entry_close(&cr->cgroup);
	pod_fini(&cr->pod);
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
			       .socket_ours = -1,
			       .socket_theirs = -1,
			       .pod = POD_NONE,
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
		if (container_destroy(cr.c, cr.hooks_began, &other))
			log_warn("%s", other.text);
	}
	janitor_dismiss(&cr.janitor);
	/* the foreground watches for the end of the sandbox */
	live->sentry.pid_fd = cr.pod.root ? TAKE_FD(cr.pod.sentry.pid_fd) : live->sentry.pid_fd;
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
