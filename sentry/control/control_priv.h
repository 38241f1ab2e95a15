#ifndef SENTRY_CONTROL_CONTROL_PRIV_H
#define SENTRY_CONTROL_CONTROL_PRIV_H

#include "sentry/control/control.h"
#include "sentry/kernel/container.h"

DEFINE_AUTO(container_put, struct container *)

/* What a process of a message turns into; owns everything until process_build_fini. */
struct process_build {
	struct process_args args;
	char **argv, **envv;
	char *cwd, *exe;
	const struct cred *cred;
	struct file **files;
	unsigned file_count;
	bool cwd_failed;
};

/* process.c: how many descriptors the message says ride along for its process. */
size_t process_fd_count(const Urpc__Process *p);
/*
 * Checks and converts p for a process in user_ns; descriptors [first_fd, first_fd + process_fd_count)
 * of the request become files; a terminal gets a name in the /dev/pts of root and mnt_ns. 0, or
 * -errno with the request's message. *ret is to be released in
 * any case.
 */
NODISCARD int process_build(struct urpc_request *req, const Urpc__Process *p, size_t first_fd,
			    struct user_ns *user_ns, const struct path *root,
			    struct mnt_ns *mnt_ns, struct process_build *ret);
/* The answer when the program could not be started; runsc makes runc's text of it. Returns err. */
int process_fail(struct urpc_request *req, const struct process_build *b, int err);
void process_build_fini(struct process_build *b);
/* A string of a message's bytes: NULL when it holds a NUL or memory is out. */
char *bytes_dup(const ProtobufCBinaryData *b);

/* user.c: what /etc/passwd and /etc/group of the tree at w say. */
struct found_user {
	uint32_t uid, gid;
	uint32_t groups[256]; /* further groups; none when the group was named */
	size_t group_count;
	char name[256];
};
/*
 * Both change the file's text, NUL-terminated and of any content. passwd_find: the first line of a user, by name or number.
 * group_find: the number of a group by name; with name NULL the groups that u->name is a member of, and false.
 */
bool passwd_find(char *text, const char *who, struct found_user *u);
bool group_find(char *text, const char *name, struct found_user *u);
/* spec is USER or USER:GROUP, each a name or a number; a number needs no line in the files. 0, or -EINVAL with the request's
 * message. */
NODISCARD int user_lookup(struct urpc_request *req, const struct walk *w, const char *spec, struct found_user *ret);

/* The value of a setting "kernel.domainname=x", or NULL for any other. */
const char *sysctl_domainname(const char *setting);
/*
 * home.c: the home of the first line of a passwd(5) file that is uid's; false when there is none, or it is empty, too
 * long or holds a NUL. *ret_home points into text.
 */
bool passwd_home(const char *text, size_t size, uint32_t uid, const char **ret_home, size_t *ret_len);
/* "HOME=..." for uid as /etc/passwd below root has it, else "HOME=/"; NULL without memory. The caller frees it. May sleep. */
char *home_variable(const struct path *root, struct mnt_ns *mnt_ns, struct user_ns *user_ns, uint32_t uid);

/* copy_up.c: copies what is in directory from (nothing mounted below it) into directory to, as w->cred: modes, owners,
 * times, links; sockets, devices and fifos are left out. Bounded in depth and in entries (-E2BIG). */
NODISCARD int tree_copy(const struct walk *w, const struct path *from, const struct path *to);

/* create.c: all that a container consists of but its files; references. */
struct container_parts {
	struct user_ns *user_ns;
	struct pid_ns *pid_ns;
	struct uts_ns *uts_ns;
	struct ipc_ns *ipc_ns;
	struct net_ns *net_ns;
	struct cgroup *cgroup;
	struct seccomp_filter *seccomp; /* NULL: none */
};

/*
 * mounts.c: the container's tree, with file systems that show its namespaces and cgroup. gofer connections are descriptors
 * [first_fd, ...) of the request.
 */
struct mount_build {
	struct mnt_ns *ns;
	struct path root;
};
NODISCARD int mounts_build(struct urpc_request *req, const Urpc__Container *c, size_t first_fd,
			   const struct container_parts *parts, struct mount_build *ret);
/* Binds tty, a terminal in the tree's /dev/pts, to /dev/console. 0, or -errno with the request's message. */
NODISCARD int mounts_add_console(struct urpc_request *req, const struct mount_build *m, struct user_ns *user_ns,
				 struct file *tty);

/* create.c: the sandbox ends with its root container. */
NODISCARD int control_create(struct urpc_request *req, const Urpc__Container *arg, bool root);
/* Ends what runs in c and takes it out of the list. At most some seconds. */
void control_remove(struct container *c);

/* Of a container: its first process, whatever number it has. */
#define INIT_PID 0

/*
 * end.c: waits until process pid of c has ended: 0 and *ret_status. Hang-up of conn_fd (-1: none) ends the
 * wait with -ECANCELED; -ECHILD for a process that is not known. Sleeps.
 */
NODISCARD int control_wait_exit(struct container *c, int32_t pid, int conn_fd, uint32_t *ret_status);
/* Kills all that is left in c, or in every container (NULL), and waits for it, at most a second. */
void control_end_processes(struct container *c);
/*
 * Sees to the end of c, on a thread of its own: when init has ended so does what is left in the container, its files
 * are given up, its wait status goes to status_fd, and the sandbox ends with its root container. A gofer that is gone
 * (hang-up of status_fd) ends the container. Takes status_fd over, also on error.
 */
NODISCARD int control_watch_end(struct container *c, int status_fd, bool root);
/* Ends the sandbox. */
void control_stop(void);

/* resources.c */
/* Changes what the message names of the group's limits, or nothing: -EINVAL. */
NODISCARD int control_set_limits(struct cgroup *cg, const Urpc__Resources *r);
int control_update(struct urpc_request *req, const Urpc__UpdateArgs *arg, Urpc__Empty *result);
int control_event(struct urpc_request *req, const Urpc__ContainerId *arg, Urpc__EventData *result);
int control_wait_oom(struct urpc_request *req, const Urpc__WaitOomArgs *arg, Urpc__OomStatus *result);

/* inspect.c */
int control_processes(struct urpc_request *req, const Urpc__ContainerId *arg, Urpc__ProcessList *result);
/* What runs the guest, in words. */
const char *control_platform(void);
int control_stacks(struct urpc_request *req, const Urpc__Empty *arg, Urpc__Stacks *result);

/* The sandbox's root container; a reference, NULL before there is one. */
struct container *control_root(void);
/* The container of an id, or NULL with the request's message (-ENOENT). */
struct container *control_find(struct urpc_request *req, const char *id);

#endif
