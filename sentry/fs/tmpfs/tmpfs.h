/* tmpfs(5): files in frames of the guest memory file. */
#ifndef SENTRY_FS_TMPFS_TMPFS_H
#define SENTRY_FS_TMPFS_TMPFS_H

#include "sentry/vfs/fs_ops.h"

/* Registers tmpfs and devtmpfs's base, makes the kernel's own hidden instance. Boot only. */
int tmpfs_init(void);
/* A new instance; data are mount options (size= nr_blocks= nr_inodes= mode= uid= gid=), may be NULL. */
NODISCARD int tmpfs_new(const char *fstype, const char *data, const struct cred *cred, struct superblock **ret_sb);
/* A regular file without a name in the hidden instance (memfd, System V shm): one reference. */
NODISCARD int tmpfs_unnamed(uint32_t mode, const struct cred *cred, struct inode **ret_inode);
/* File operations of regular files, for files made on tmpfs_unnamed inodes. */
extern const struct file_ops tmpfs_file_ops;

/* Seals (fcntl(2), F_ADD_SEALS); -EINVAL for inodes that are no tmpfs file. */
NODISCARD int tmpfs_get_seals(struct inode *i);
NODISCARD int tmpfs_add_seals(struct inode *i, unsigned seals);
/* Seals of a fresh memfd: 0 with MFD_ALLOW_SEALING, else F_SEAL_SEAL. */
void tmpfs_init_seals(struct inode *i, unsigned seals);

#endif
