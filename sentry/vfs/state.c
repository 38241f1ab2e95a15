/* State descriptors of the VFS's shared objects (sentry/state/desc.h). */
#include "sentry/state/desc.h"
#include "sentry/vfs/mount_priv.h"

STATE_DESC(path, S_REF(path, 1, mnt, mount), S_REF(path, 2, dentry, dentry));

STATE_DESC(superblock, S_NOSAVE(superblock, refs, "recounted"), S_NOSAVE(superblock, ops, "by type of file system"),
	   S_BYTES(superblock, 1, fstype), S_VAL(superblock, 2, dev), S_VAL(superblock, 3, magic),
	   S_VAL(superblock, 4, readonly), S_VAL(superblock, 5, no_dcache), S_REF(superblock, 6, user_ns, user_ns),
	   S_REF(superblock, 7, root, inode), S_REF(superblock, 8, root_dentry, dentry),
	   S_BYTES(superblock, 9, options), S_BYTES(superblock, 10, root_name),
	   S_NOSAVE(superblock, data, "by the file system's own descriptor"));

STATE_DESC(inode, S_NOSAVE(inode, refs, "recounted"), S_NOSAVE(inode, ops, "by name"),
	   S_NOSAVE(inode, fops, "by name"), S_WEAK(inode, 1, sb, superblock), S_VAL(inode, 2, ino),
	   S_VAL(inode, 3, rdev), S_NOSAVE(inode, mu, "free at a safe point"), S_VAL(inode, 4, mode),
	   S_VAL(inode, 5, nlink), S_VAL(inode, 6, uid), S_VAL(inode, 7, gid), S_VAL(inode, 8, size),
	   S_VAL(inode, 9, atime), S_VAL(inode, 10, mtime), S_VAL(inode, 11, ctime), S_VAL(inode, 12, btime),
	   S_NOSAVE(inode, mappable, "points into the object that embeds the inode"),
	   S_REF(inode, 13, locks, inode_locks), S_NOSAVE(inode, watches, "watches register again"),
	   S_WEAK(inode, 14, unix_binding, unix_binding), S_WEAK(inode, 15, fifo, pipe),
	   S_NOSAVE(inode, twins, "found again by identity"),
	   S_VAL(inode, 16, write_count), S_NOSAVE(inode, aliases, "linked again by dentries"),
	   S_VAL(inode, 17, linkable), S_NOSAVE(inode, valid_until_ns, "verified anew"),
	   S_NOSAVE(inode, names_gen, "only compared with that of dentries"));

STATE_DESC(dentry, S_NOSAVE(dentry, refs, "recounted"), S_NOSAVE(dentry, hash_next, "hashed again"),
	   S_NOSAVE(dentry, lru_node, "linked again"), S_NOSAVE(dentry, child_node, "linked again"),
	   S_NOSAVE(dentry, children, "linked again"), S_NOSAVE(dentry, alias_node, "linked again"),
	   S_REF(dentry, 1, parent, dentry), S_REF(dentry, 2, inode, inode), S_BYTES(dentry, 3, name),
	   S_NOSAVE(dentry, hash, "from the name"), S_NOSAVE(dentry, name_len, "from the name"),
	   S_VAL(dentry, 4, hashed), S_NOSAVE(dentry, names_gen, "only compared with that of inodes"),
	   S_NOSAVE(dentry, used, "a hint"),
	   S_NOSAVE(dentry, mounted, "counted again by mounts"), S_WEAK(dentry, 5, sb, superblock),
	   S_NOSAVE(dentry, inline_name, "storage of name"));

STATE_DESC(mount, S_NOSAVE(mount, refs, "recounted"), S_REF(mount, 1, sb, superblock), S_REF(mount, 2, root, dentry),
	   S_REF(mount, 3, parent, mount), S_REF(mount, 4, mountpoint, dentry),
	   S_NOSAVE(mount, hash_node, "hashed again"), S_NOSAVE(mount, child_node, "linked again"),
	   S_LIST(mount, 5, children, mount), S_NOSAVE(mount, ns_node, "linked again"), S_WEAK(mount, 6, ns, mnt_ns),
	   S_VAL(mount, 7, id), S_VAL(mount, 8, peer_group), S_VAL(mount, 9, flags), S_VAL(mount, 10, locked_flags),
	   S_VAL(mount, 11, unbindable), S_VAL(mount, 12, locked), S_NOSAVE(mount, expiring, "asked again"),
	   S_NOSAVE(mount, uses, "only compared"), S_NOSAVE(mount, expire_uses, "only compared"), S_BYTES(mount, 13, source),
	   S_LIST(mount, 14, peer_node, mount), S_NOSAVE(mount, slave_node, "linked again"),
	   S_LIST(mount, 15, slaves, mount), S_WEAK(mount, 16, master, mount),
	   S_VAL(mount, 17, dead));

STATE_DESC(mnt_ns, S_NOSAVE(mnt_ns, refs, "recounted"), S_REF(mnt_ns, 1, owner, user_ns), S_VAL(mnt_ns, 2, ino),
	   S_REF(mnt_ns, 3, root, mount), S_LIST(mnt_ns, 4, mounts, mount), S_VAL(mnt_ns, 5, count));

STATE_DESC(file, S_NOSAVE(file, refs, "recounted"), S_NOSAVE(file, ops, "by name"), S_EMBED(file, 1, path, path),
	   S_REF(file, 2, inode, inode), S_VAL(file, 3, flags), S_NOSAVE(file, pos_mu, "free at a safe point"),
	   S_VAL(file, 4, pos), S_REF(file, 5, cred, cred), S_NOSAVE(file, data, "by the kind's own descriptor"),
	   S_VAL(file, 6, write_access), S_VAL(file, 8, denies_write), S_VAL(file, 9, created),
	   S_REF(file, 7, owner, file_owner),
	   S_NOSAVE(file, epoll_count, "counted again"), S_NOSAVE(file, epoll_items, "linked again"));

STATE_DESC(fs_struct, S_NOSAVE(fs_struct, refs, "recounted"), S_NOSAVE(fs_struct, mu, "free at a safe point"),
	   S_EMBED(fs_struct, 1, root, path), S_EMBED(fs_struct, 2, cwd, path), S_VAL(fs_struct, 3, umask),
	   S_REF(fs_struct, 4, mnt_ns, mnt_ns));
