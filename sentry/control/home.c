/* The home directory of a user as the container's /etc/passwd has it (passwd(5)). The file is the guest's: hostile. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/control/control_priv.h"

/* More than this of the file is not looked at. */
#define PASSWD_MAX (1u << 20)
#define HOME_MAX 4096u

/* The number that fills [s, end), or -1. */
static int64_t number_of(const char *s, const char *end)
{
	int64_t value = 0;

	if (s == end || end - s > 10)
		return -1;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		value = value * 10 + (*s - '0');
	}
	return value;
}

/* One line, name:password:uid:gid:comment:home:shell: its home when it is uid's. */
static bool line_home(const char *line, const char *end, uint32_t uid, const char **ret_home, size_t *ret_len)
{
	const char *field[7] = { line }, *stop[7];

	for (int i = 0; i < 6; i++) {
		stop[i] = memchr(field[i], ':', (size_t)(end - field[i]));
		if (!stop[i])
			return false;
		field[i + 1] = stop[i] + 1;
	}
	if (number_of(field[2], stop[2]) != uid)
		return false;
	*ret_home = field[5];
	*ret_len = (size_t)(stop[5] - field[5]);
	return true;
}

bool passwd_home(const char *text, size_t size, uint32_t uid, const char **ret_home, size_t *ret_len)
{
	const char *line = text, *end = text + size;

	while (line < end) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));

		if (!stop)
			stop = end;
		if (line_home(line, stop, uid, ret_home, ret_len))
			return *ret_len > 0 && *ret_len <= HOME_MAX && !memchr(*ret_home, 0, *ret_len);
		line = stop + 1;
	}
	return false;
}

/* Up to PASSWD_MAX bytes of the regular file at p; NULL when it cannot be had. */
static char *read_whole(const struct path *p, const struct cred *cred, size_t *ret_size)
{
	AUTO(file_put) struct file *f = NULL;
	struct kstat st;
	char *text;
	int64_t n;

	/* Asked before it is opened: opening something else could wait. */
	if (vfs_getattr(p, &st) < 0 || !S_ISREG(st.mode) || vfs_open_path(p, cred, O_RDONLY | O_NONBLOCK, &f) < 0)
		return NULL;
	*ret_size = (size_t)MIN(st.size, (uint64_t)PASSWD_MAX);
	text = malloc(*ret_size + 1);
	if (!text)
		return NULL;
	n = file_read_kernel(f, text, *ret_size, 0);
	if (n < 0) {
		free(text);
		return NULL;
	}
	*ret_size = (size_t)n;
	return text;
}

char *home_variable(const struct path *root, struct mnt_ns *mnt_ns, struct user_ns *user_ns, uint32_t uid)
{
	static const char name[] = "HOME=", none[] = "/";
	const char *home = none;
	size_t len = sizeof(none) - 1, size;
	struct cred *cred = cred_new_root(user_ns);
	struct walk w = { .cred = cred, .root = *root, .start = *root, .mnt_ns = mnt_ns };
	struct path path;
	char *text = NULL, *variable;

	if (!cred)
		return NULL;
	if (vfs_walk(&w, "/etc/passwd", WALK_FOLLOW, &path) == 0) {
		text = read_whole(&path, cred, &size);
		path_put(&path);
	}
	if (text && !passwd_home(text, size, uid, &home, &len)) {
		home = none;
		len = sizeof(none) - 1;
	}
	variable = malloc(sizeof(name) + len);
	if (variable) {
		memcpy(variable, name, sizeof(name) - 1);
		memcpy(variable + sizeof(name) - 1, home, len);
		variable[sizeof(name) - 1 + len] = 0;
	}
	free(text);
	cred_put(cred);
	return variable;
}
