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

bool passwd_find(char *text, const char *who, struct found_user *u)
{
	char *field[FIELDS_MAX];
	uint32_t number = 0, uid, gid;
	bool numeric = number_of(who, &number);

	while (next_line(&text, field)) {
		if (!number_of(field[2], &uid) || !number_of(field[3], &gid) ||
		    !(numeric ? uid == number : strcmp(field[0], who) == 0))
			continue;
		u->uid = uid;
		u->gid = gid;
		snprintf(u->name, sizeof(u->name), "%s", field[0]);
		return true;
	}
	return false;
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

bool group_find(char *text, const char *name, struct found_user *u)
{
	char *field[FIELDS_MAX];
	uint32_t gid;

	while (next_line(&text, field)) {
		if (!number_of(field[2], &gid))
			continue;
		if (name && strcmp(field[0], name) == 0) {
			u->gid = gid;
			return true;
		}
		if (!name && u->group_count < ARRAY_COUNT(u->groups) && has_member(field[3], u->name))
			u->groups[u->group_count++] = gid;
	}
	return false;
}

int user_lookup(struct urpc_request *req, const struct walk *w, const char *spec, struct found_user *ret)
{
	const char *colon = strchr(spec, ':');
	char *who = strndup(spec, colon ? (size_t)(colon - spec) : strlen(spec));
	char *users = read_text(w, "/etc/passwd"), *groups = read_text(w, "/etc/group");
	int err = who ? 0 : -ENOMEM;
	bool found;

	*ret = (struct found_user){ 0 };
	found = who && users && passwd_find(users, who, ret);
	if (who && !found && !number_of(who, &ret->uid))
		err = urpc_fail(req, -EINVAL, "unable to find user %.64s: no matching entries in passwd file", who);
	else if (colon && !number_of(colon + 1, &ret->gid) && !(groups && group_find(groups, colon + 1, ret)))
		err = urpc_fail(req, -EINVAL, "unable to find group %.64s: no matching entries in group file", colon + 1);
	else if (!colon && groups)
		(void)group_find(groups, NULL, ret);
	free(who);
	free(users);
	free(groups);
	return err;
}
