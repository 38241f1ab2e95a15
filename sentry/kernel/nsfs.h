/* What setns(2) needs of namespace files. */
#ifndef SENTRY_KERNEL_NSFS_H
#define SENTRY_KERNEL_NSFS_H

#include "sentry/kernel/namespaces.h"

/* Is f a namespace file? Then its kind and the namespace, borrowed from the file. */
bool ns_file_kind(struct file *f, enum ns_kind *ret_kind, void **ret_ns);
uint32_t ns_kind_flag(enum ns_kind kind); /* CLONE_NEW* */
struct user_ns *ns_file_owner(struct file *f); /* borrowed; of a namespace file; NULL: the root's */
/* setns(2): puts the calling task into namespace ns of kind; it checks capabilities. */
int task_setns(struct task *t, enum ns_kind kind, void *ns, struct user_ns *owner);

#endif
