/* Names of users and groups, looked up in the container's own files. They are the guest's: every byte is hostile. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/control/control_priv.h"
#include "sentry/vfs/fs_ops.h"

#define FILE_MAX_SIZE (1u << 20)
#define FIELDS_MAX 7

/* The whole regular file at path (its first MiB), NUL-terminated; NULL: there is none. */
static char *read_text(const struct walk *w, const char *path)
{
	struct file *f;
	struct path at;
	char *text;
	size_t size = 0;
	int64_t n = 1;
	int err = vfs_walk(w, path, WALK_FOLLOW, &at);

	if (err < 0)
		return NULL;
	err = S_ISREG(at.dentry->inode->mode) ? vfs_open_path(&at, w->cred, O_RDONLY, &f) : -EINVAL;
	path_put(&at);
	if (err < 0)
		return NULL;
	text = malloc(FILE_MAX_SIZE + 1);
	while (text && n > 0 && size < FILE_MAX_SIZE) {
		struct uio u;

		uio_init_kernel(&u, text + size, FILE_MAX_SIZE - size);
		n = file_read(f, &u, NULL);
		size += n > 0 ? (size_t)n : 0;
	}
	file_put(f);
	if (text)
		text[size] = 0;
	return text;
}

/* Cuts the next line off *rest and splits it at colons; missing fields are empty. false: no more. */
static bool next_line(char **rest, char *field[FIELDS_MAX])
{
	char *line = strsep(rest, "\n");

	if (!line)
		return false;
	for (unsigned i = 0; i < FIELDS_MAX; i++) {
		field[i] = strsep(&line, ":");
		if (!field[i])
			field[i] = strchr(field[0], 0);
	}
	return true;
}

static bool number_of(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long long v;

	if (*text < '0' || *text > '9')
		return false;
	v = strtoull(text, &end, 10);
	if (*end || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* The line of passwd for a name, or for a number. true: found, with the name copied. */
static bool find_user(const struct walk *w, const char *who, struct found_user *u)
{
	char *text = read_text(w, "/etc/passwd"), *rest = text, *field[FIELDS_MAX];
	uint32_t number = 0, uid, gid;
	bool numeric = number_of(who, &number), found = false;

	while (!found && text && next_line(&rest, field)) {
		if (!number_of(field[2], &uid) || !number_of(field[3], &gid))
			continue;
		found = numeric ? uid == number : strcmp(field[0], who) == 0;
		if (!found)
			continue;
		u->uid = uid;
		u->gid = gid;
		snprintf(u->name, sizeof(u->name), "%s", field[0]);
	}
	free(text);
	return found;
}

static bool has_member(char *members, const char *name)
{
	char *one;

	while ((one = strsep(&members, ",")) != NULL) {
		if (*one && strcmp(one, name) == 0)
			return true;
	}
	return false;
}

/* The number of a group's name, and the groups that u's name is a member of. */
static bool find_groups(const struct walk *w, const char *name, struct found_user *u)
{
	char *text = read_text(w, "/etc/group"), *rest = text, *field[FIELDS_MAX];
	bool found = false;
	uint32_t gid;

	while (text && next_line(&rest, field)) {
		if (!number_of(field[2], &gid))
			continue;
		if (name && !found && strcmp(field[0], name) == 0) {
			u->gid = gid;
			found = true;
		}
		if (!name && u->group_count < ARRAY_COUNT(u->groups) && has_member(field[3], u->name))
			u->groups[u->group_count++] = gid;
	}
	free(text);
	return found;
}

int user_lookup(struct urpc_request *req, const struct walk *w, const char *spec, struct found_user *ret)
{
	const char *colon = strchr(spec, ':');
	char *who = strndup(spec, colon ? (size_t)(colon - spec) : strlen(spec));
	int err = who ? 0 : -ENOMEM;

	*ret = (struct found_user){ 0 };
	if (who && !find_user(w, who, ret) && !number_of(who, &ret->uid))
		err = urpc_fail(req, -EINVAL, "unable to find user %.64s: no matching entries in passwd file", who);
	free(who);
	if (err < 0)
		return err;
	if (!colon) {
		find_groups(w, NULL, ret);
		return 0;
	}
	if (!number_of(colon + 1, &ret->gid) && !find_groups(w, colon + 1, ret))
		return urpc_fail(req, -EINVAL, "unable to find group %.64s: no matching entries in group file", colon + 1);
	return 0;
}
