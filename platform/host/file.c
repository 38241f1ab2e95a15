#include "platform/host/file.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct stat of libc is the kernel's on 64-bit architectures. */
int host_fstat(int fd, struct stat *ret_stat)
{
	struct stat st;

	if (syscall(SYS_fstat, fd, &st) < 0)
		return -errno;
	*ret_stat = st;
	return 0;
}
