/* The proc file system (proc(5)). */
#ifndef SENTRY_FS_PROC_PROC_H
#define SENTRY_FS_PROC_PROC_H

struct pid_ns;
struct superblock;

/* Registers the type "proc"; boot only. */
void proc_register(void);
/* A superblock that shows ns; one reference. Any thread. -ENOMEM. */
int proc_new(struct pid_ns *ns, struct superblock **ret_sb);

/* The process of an open /proc/PID directory (pidfd_send_signal(2) takes one), a reference, or NULL. */
struct file;
struct thread_group;
struct thread_group *proc_dir_thread_group(struct file *f);

#endif
