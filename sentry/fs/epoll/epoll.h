/*
 * epoll(7). An instance watches files; each registration (item) sits in the watched file's wait queue
 * and moves itself to the instance's ready list when woken, so waiting costs nothing per idle file.
 */
#ifndef SENTRY_FS_EPOLL_EPOLL_H
#define SENTRY_FS_EPOLL_EPOLL_H

#include <sys/epoll.h>

#include "sentry/vfs/fs_ops.h"

void epoll_init(void); /* installs file_epoll_release; boot only */
NODISCARD int epoll_new(const struct cred *cred, struct file **ret_file);
bool file_is_epoll(const struct file *f);
/* epoll_ctl(2); ev is ignored for EPOLL_CTL_DEL. No locks held. */
NODISCARD int epoll_ctl_file(struct file *ep, int op, struct file *target, int fd, const struct epoll_event *ev);
/* Takes up to max ready events without waiting; returns how many. first: a new epoll_wait begins; without
 * it the last one goes on and no file is reported twice. No locks held. */
int epoll_harvest(struct file *ep, struct epoll_event *ev, int max, bool first);
/* More is ready while others sleep: passes an exclusive wake-up on. */
void epoll_pass_on(struct file *ep);
/* kcmp(2) KCMP_EPOLL_TFD: the file registered as fd, the toff-th of that number; borrowed or NULL. */
struct file *epoll_find_fd(struct file *ep, int fd, unsigned toff);

#endif
