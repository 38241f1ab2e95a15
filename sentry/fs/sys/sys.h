/* The sys file system (sysfs(5)). */
#ifndef SENTRY_FS_SYS_SYS_H
#define SENTRY_FS_SYS_SYS_H

/* Registers the type "sysfs"; boot only. */
void sys_register(void);

#endif
