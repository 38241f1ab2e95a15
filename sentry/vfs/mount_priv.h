/* Mounts, inside sentry/vfs/mount*.c. */
#ifndef SENTRY_VFS_MOUNT_PRIV_H
#define SENTRY_VFS_MOUNT_PRIV_H

#include "sentry/vfs/vfs_priv.h"

#define MOUNTS_MAX 100000u
/* Flags of a mount, as against those of its superblock. */
#define MOUNT_FLAGS                                                                                \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME |  \
	 MS_STRICTATIME | MS_NOSYMFOLLOW)

struct mnt_ns {
	struct refcount refs;
	struct user_ns *owner; /* const; reference */
	uint64_t ino;	       /* const */
	struct mount *root;    /* LOCK_MOUNT; in mounts */
	struct list_node mounts; /* LOCK_MOUNT: mount.ns_node in order of mounting */
	unsigned count;	       /* LOCK_MOUNT */
};

struct mount *mount_new(struct superblock *sb, struct dentry *root, uint64_t flags, const char *source);
struct mount *mount_child_locked(struct mount *m, struct dentry *d);
void mount_attach_locked(struct mount *m, struct mount *parent, struct dentry *at, struct mnt_ns *ns);
void mount_detach_locked(struct mount *m, struct list_node *dead);
void mount_detach_tree_locked(struct mount *m, struct list_node *dead);
void mounts_release(struct list_node *dead);
struct mount *mount_next_in_tree(struct mount *m, struct mount *top);
bool mount_is_below(struct mount *m, struct mount *top);

enum clone_flags { CLONE_MNT_UNBINDABLE = 1, CLONE_MNT_PRIVATE = 2, CLONE_MNT_SLAVE = 4, CLONE_MNT_LOCK = 8 };
struct mount *mount_clone_locked(struct mount *m, struct dentry *root, unsigned how);
int mount_clone_tree_locked(struct mount *m, struct dentry *root, bool recursive, unsigned how, struct mount **ret);

/* mount_prop.c */
int32_t peer_group_new(void);
void mount_set_shared_locked(struct mount *m);
void mount_set_private_locked(struct mount *m);
void mount_set_slave_locked(struct mount *m);
void mount_join_peer_locked(struct mount *m, struct mount *peer);
int mount_attach_propagate_locked(struct mount *tree, const struct path *at);
void mount_detach_propagate_locked(struct mount *m, struct list_node *dead);

#endif
