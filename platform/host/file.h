/* Host files by descriptor, by calls that take no path whatever libc makes of them. */
#ifndef PLATFORM_HOST_FILE_H
#define PLATFORM_HOST_FILE_H

#include <sys/stat.h>

#include "platform/base/compiler.h"

/* fstat(2) itself: libc's function is a path-taking newfstatat, which the filters refuse. 0 or -errno. */
NODISCARD int host_fstat(int fd, struct stat *ret_stat);

#endif
