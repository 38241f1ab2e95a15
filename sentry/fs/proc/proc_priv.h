/* Shared by the files of sentry/fs/proc only. */
#ifndef SENTRY_FS_PROC_PROC_PRIV_H
#define SENTRY_FS_PROC_PROC_PRIV_H

#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/simple.h"

#define PROC_ROOT_INO 1

/* The pid namespace a mount of proc shows. */
static inline struct pid_ns *proc_ns(struct simple_inode *s)
{
	return s->inode.sb->data;
}

/* The task behind a node below /proc/PID; a reference held by the node. */
static inline struct task *proc_task(struct simple_inode *s)
{
	return s->data;
}

/* Drops the node's task reference: simple_ops.free of everything below /proc/PID. */
void proc_free_task(struct simple_inode *s);
/* Owner of the node as proc(5) says: the task's effective ids when it is dumpable, else root. */
void proc_refresh_owner(struct simple_inode *s);
/* simple_ops.open: 0 when current may read the task as ptrace(2) would, else -EACCES. */
int proc_open_private(struct simple_inode *s, struct file *f);
/* A node of task t below /proc/PID with a stable inode number; kind is unique within a task. */
struct inode *proc_task_inode(struct superblock *sb, const struct simple_ops *ops, uint32_t mode,
			      struct task *t, unsigned kind, uint64_t num);

/* /proc/PID (group: with task/) and /proc/PID/task/TID. t: reference taken over. NULL: out of memory. */
struct inode *proc_pid_dir(struct superblock *sb, struct task *t, bool group);

/* Tables of the other files. */
extern const struct simple_ops proc_fd_dir_ops, proc_fdinfo_dir_ops, proc_task_dir_ops, proc_ns_dir_ops;
extern const struct simple_ops proc_net_dir_ops;

struct proc_entry {
	const char *name;
	uint32_t mode;
	const struct simple_ops *ops;
	bool group_only; /* not in /proc/PID/task/TID */
};
/* Text files of a task, in pid_text.c, pid_maps.c and pid_ids.c; end with a NULL name. */
extern const struct proc_entry proc_text_entries[], proc_maps_entries[], proc_ids_entries[];

/* Builders of the static part, each in its own file. 0 or -ENOMEM. */
int proc_fill_system(struct inode *root);
int proc_fill_sysctl(struct inode *root);

/* The text of a place as the calling task's root sees it; length or -errno. */
int64_t proc_place_text(const struct path *p, char *buf, size_t size);
/* Reads up to size bytes of t's memory at addr into buf; bytes read or -errno. */
int64_t proc_read_memory(struct task *t, uint64_t addr, void *buf, size_t size);

#endif
