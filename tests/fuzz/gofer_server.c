/*
 * libFuzzer harness of the gofer's side: the input is a run of requests (u16 size each) from a
 * hostile sentry, served on a scratch tree. Built without a jail, so it runs in a directory of its
 * own that openat2 keeps it beneath.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/backend/ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char scratch[] = "/tmp/gofer-fuzz-XXXXXX";

static void scratch_remove(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf -- %s", scratch);
	if (chdir("/") < 0 || system(cmd) != 0)
		fputs("scratch tree left behind\n", stderr);
}

static void scratch_init(void)
{
	if (!mkdtemp(scratch))
		abort();
	backend_init(open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC), 16);
	/* Only the descriptor leads to it from here on. */
	if (mkdirat(backend_base_fd, "0", 0755) < 0)
		abort();
	atexit(scratch_remove);
}

static void scratch_fill(void)
{
	int fd;

	(void)!mkdirat(backend_base_fd, "0/a", 0755);
	(void)!mkdirat(backend_base_fd, "0/a/b", 0755);
	(void)!symlinkat("a/b", backend_base_fd, "0/s");
	fd = openat(backend_base_fd, "0/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t in[GOFER_MSG_MAX], out[GOFER_MSG_MAX];
	struct conn conn = { .sock = -1, .label = "0", .path = "scratch", .state = GOFER_IN_NEW };
	static const uint8_t attach[] = { GOFER_attach, 0, 0, 0, 0, 0, 0, 0, GOFER_VERSION, 0, 0, 0 };
	int fd;

	if (backend_base_fd < 0)
		scratch_init();
	scratch_fill();
	if (size < 1)
		return 0;
	conn.readonly = data[0] & 1;
	if (!(data[0] & 2)) {
		memcpy(in, attach, sizeof(attach));
		if (backend_serve(&conn, in, sizeof(attach), out, &fd) <= 0)
			abort();
	}
	data++;
	size--;
	while (size >= 2) {
		size_t n = data[0] | (size_t)data[1] << 8;

		data += 2;
		size -= 2;
		n = n < size ? n : size;
		memcpy(in, data, n);
		data += n;
		size -= n;
		if (backend_serve(&conn, in, n, out, &fd) < 0)
			break;
		if (fd >= 0)
			close(fd);
	}
	readdir_forget(&conn);
	conn_drop(&conn);
	if (backend_fds_open() != 0)
		abort();
	return 0;
}
