#include "runsc/sandbox/pod.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "platform/base/log.h"

/* The namespaces by which a container joins another's sandbox. The sandbox has one network: no reason to join it. */
static const struct {
	enum oci_ns_kind kind;
	const char *file; /* of /proc/PID/ns */
} joined[] = { { NS_PID, "pid" }, { NS_IPC, "ipc" }, { NS_UTS, "uts" }, { NS_USER, "user" } };

/* Who writes annotations, and whether a sandbox that is unknown or has another network is an error. */
static const struct {
	const char *type, *sandbox;
	bool strict;
} writers[] = {
	{ "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id", true },
	{ "io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID", false },
};

/* The PID of /proc/PID/ns/FILE, or 0. */
static pid_t pid_of_path(const char *path, const char *file)
{
	int pid, end = 0;

	if (!path || sscanf(path, "/proc/%d/ns/%n", &pid, &end) != 1 || !end || strcmp(path + end, file) != 0)
		return 0;
	return pid;
}

/* The container that process pid stands for, or NULL. */
static struct container *container_of_pid(const struct config *config, pid_t pid)
{
	struct container *found = NULL;
	struct error ignored;
	struct strings ids;

	if (container_list(config, &ids, &ignored))
		return NULL;
	for (size_t i = 0; i < ids.count && !found; i++) {
		AUTO(container_free) struct container *c = NULL;

		if (!container_load(config, ids.v[i], false, &c, &ignored) && c->gofer.pid == pid &&
		    process_alive(c->gofer))
			found = TAKE(c);
	}
	strings_fini(&ids);
	return found;
}

/* Makes the sandbox of c the one to join; a second one must be the same. */
static int join(const struct config *config, const struct container *c, struct pod *pod, struct error *err)
{
	const char *id = c->sandbox ? c->sandbox : c->id;
	enum container_status status;

	if (pod->root && !strcmp(pod->root->id, id))
		return 0;
	if (pod->root)
		return error_set(err, "cannot join the sandboxes of %s and of %s: a container has one", pod->root->id, id);
	if (container_load(config, id, false, &pod->root, err))
		return -1;
	status = container_status_now(pod->root);
	if (status == STATUS_STOPPED || status == STATUS_CREATING)
		return error_set(err, "cannot join the sandbox of %s: it is %s", id, container_status_name(status));
	pod->sentry.pid = pod->root->sentry.pid;
	pod->sentry.pid_fd = (int)syscall(SYS_pidfd_open, pod->sentry.pid, 0);
	/* the descriptor pins the process before its identity is checked */
	if (pod->sentry.pid_fd < 0 || !process_alive(pod->root->sentry))
		return error_set(err, "cannot join the sandbox of %s: it has ended", id);
	return 0;
}

/* Whether the container wants the network namespace that the sandbox has. */
static bool same_network(const struct config *config, const struct oci_spec *spec, const struct pod *pod)
{
	const struct oci_namespace *wish = &spec->namespaces[NS_NETWORK];
	bool host = !strcmp(config->network, "host") || (!strcmp(config->network, "sandbox") && !wish->present);
	const char *path = host ? "/proc/self/ns/net" : wish->path;
	char sandbox[64];
	struct stat a, b;

	snprintf(sandbox, sizeof(sandbox), "/proc/%d/ns/net", (int)pod->sentry.pid);
	return path && !stat(path, &a) && !stat(sandbox, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * Engines let annotations of the pod's author through, also such as another engine writes. So what they say must agree, and
 * the network of config.json must be the sandbox's. Podman has pods in which it is not: their containers join by paths.
 */
static int join_annotated(const struct config *config, const struct oci_spec *spec, struct pod *pod, struct error *err)
{
	bool is_sandbox = false;

	for (size_t i = 0; i < ARRAY_COUNT(writers); i++) {
		const char *type = oci_annotation(spec, writers[i].type);
		const char *sandbox = oci_annotation(spec, writers[i].sandbox);
		AUTO(container_free) struct container *c = NULL;

		is_sandbox |= type && !strcmp(type, "sandbox");
		if (!type || strcmp(type, "container") != 0)
			continue;
		if (!sandbox || !*sandbox)
			return error_set(err, "the annotation %s says container, but %s names no sandbox",
					 writers[i].type, writers[i].sandbox);
		if (container_load(config, sandbox, false, &c, err)) {
			if (writers[i].strict)
				return error_set(err, "cannot join the sandbox %.200s (annotation %s): there is none in %s",
						 sandbox, writers[i].sandbox, config->root_dir);
			log_info("the sandbox %s of an annotation is not in %s", sandbox, config->root_dir);
			continue;
		}
		if (join(config, c, pod, err))
			return -1;
		if (config->rootless || same_network(config, spec, pod))
			continue;
		if (writers[i].strict)
			return error_set(err, "cannot join the sandbox %.200s (annotation %s): it has another network than "
					      "config.json gives this container", sandbox, writers[i].sandbox);
		pod_fini(pod);
		*pod = POD_NONE;
	}
	return is_sandbox && pod->root ? error_set(err, "annotations say both container and sandbox") : 0;
}

static int join_by_path(const struct config *config, const struct oci_spec *spec, struct pod *pod, struct error *err)
{
	for (size_t i = 0; i < ARRAY_COUNT(joined); i++) {
		pid_t pid = pid_of_path(spec->namespaces[joined[i].kind].path, joined[i].file);
		AUTO(container_free) struct container *c = pid ? container_of_pid(config, pid) : NULL;

		if (!c)
			continue;
		if (join(config, c, pod, err))
			return -1;
		strings_add(&pod->ids, c->id);
		pod->namespaces.of[joined[i].kind] = pod->ids.v[pod->ids.count - 1];
	}
	return 0;
}

int pod_find(const struct config *config, const struct oci_spec *spec, struct pod *ret, struct error *err)
{
	bool annotated;

	*ret = POD_NONE;
	if (join_annotated(config, spec, ret, err))
		return -1;
	annotated = ret->root;
	if (join_by_path(config, spec, ret, err))
		return -1;
	if (!ret->root)
		return 0;
	ret->namespaces.own_network = !annotated && !same_network(config, spec, ret);
	if (ret->namespaces.own_network && config->rootless)
		return error_set(err, "cannot join the sandbox of %s with another network than it has without being root: give "
				      "the container the network of %s too", ret->root->id, ret->root->id);
	/* what the engine made for the whole pod: in the sandbox that is the root container's */
	for (size_t i = 0; i < NS_KINDS; i++)
		ret->namespaces.shared[i] = annotated && spec->namespaces[i].path;
	return 0;
}

void pod_fini(struct pod *pod)
{
	container_free(pod->root);
	fd_close(pod->sentry.pid_fd);
	strings_fini(&pod->ids);
}
