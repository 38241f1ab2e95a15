/* memfd_create(2): an unnamed tmpfs file shown as "/memfd:NAME (deleted)". */
#include "sentry/fs/memfd/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>

#include "sentry/fs/tmpfs/tmpfs.h"

#define NAME_MAX_MEMFD 249
#define MFD_NOEXEC_SEAL_FLAG 8u
#define MFD_EXEC_FLAG 16u
#define SEAL_EXEC 0x20u
#define LARGEFILE_FLAG 0100000 /* O_LARGEFILE of the guest ABI */

int memfd_new(const char *name, unsigned flags, const struct cred *cred, struct file **ret_file)
{
	unsigned known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL_FLAG | MFD_EXEC_FLAG;
	char text[NAME_MAX_MEMFD + 32];
	struct inode *inode;
	struct path place;
	unsigned seals;
	int r;

	/* Huge pages are a matter of the host here; the size asked for in the high bits is accepted. */
	if (flags & MFD_HUGETLB)
		known |= MFD_HUGETLB | 0xfc000000u;
	if (flags & ~known || (flags & MFD_EXEC_FLAG && flags & MFD_NOEXEC_SEAL_FLAG))
		return -EINVAL;
	if (strlen(name) > NAME_MAX_MEMFD)
		return -EINVAL;
	r = tmpfs_unnamed(flags & MFD_NOEXEC_SEAL_FLAG ? 0666 : 0777, cred, &inode);
	if (r < 0)
		return r;
	seals = flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL_FLAG) ? 0 : F_SEAL_SEAL;
	tmpfs_init_seals(inode, flags & MFD_NOEXEC_SEAL_FLAG ? seals | SEAL_EXEC : seals);
	snprintf(text, sizeof(text), "/memfd:%s (deleted)", name);
	r = path_new_anon(inode, text, &place);
	if (r == 0) {
		r = file_new(&place, inode, &tmpfs_file_ops, O_RDWR | LARGEFILE_FLAG, cred, ret_file);
		path_put(&place);
	}
	inode_put(inode);
	return r;
}
