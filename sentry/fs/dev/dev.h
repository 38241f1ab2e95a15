/* Memory devices (null, zero, full, random, urandom, kmsg) and devtmpfs. */
#ifndef SENTRY_FS_DEV_DEV_H
#define SENTRY_FS_DEV_DEV_H

/* Registers the devices of major 1 and terminals 5:0 and 5:2, and the type devtmpfs: a tmpfs that is
 * born with the usual nodes and links. Boot only, after tmpfs_init. 0 or -errno. */
int dev_init(void);

#endif
