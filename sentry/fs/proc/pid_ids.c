/* uid_map, gid_map and setgroups (user_namespaces(7)). */
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/proc/proc_priv.h"

static struct user_ns *task_user_ns(struct task *t)
{
	const struct cred *c = task_get_cred(t);
	struct user_ns *ns = c ? user_ns_get(c->user_ns) : NULL;

	cred_put(c);
	return ns;
}

/* A mapping is shown as the reader's namespace sees the lower ids. */
static int map_show(struct simple_inode *s, struct seq *q, bool group)
{
	struct user_ns *ns = task_user_ns(proc_task(s));
	struct user_ns *reader = current ? current->cred->user_ns : &root_user_ns;
	struct id_map_extent *map;
	unsigned count;

	if (!ns)
		return 0;
	mutex_lock(&ns->mu);
	map = group ? ns->gid_map : ns->uid_map;
	count = group ? ns->gid_map_count : ns->uid_map_count;
	mutex_unlock(&ns->mu);
	/* Written once: what was seen does not change any more. */
	for (unsigned i = 0; i < count; i++) {
		uint32_t lower = map[i].lower_first;
		struct user_ns *view = reader == ns && ns->parent ? ns->parent : reader;

		if (ns->parent) {
			kuid_t uid;
			kgid_t gid;

			if (group)
				lower = user_ns_make_kgid(ns, map[i].first, &gid) ? user_ns_from_kgid(view, gid) : ID_INVALID;
			else
				lower = user_ns_make_kuid(ns, map[i].first, &uid) ? user_ns_from_kuid(view, uid) : ID_INVALID;
		}
		seq_printf(q, "%10u %10u %10u\n", map[i].first, lower, map[i].count);
	}
	user_ns_put(ns);
	return 0;
}

static int parse_map(char *text, struct id_map_extent *map, unsigned *ret_count)
{
	unsigned n = 0;
	char *line, *save = NULL;

	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long v[3];
		char *p = line;

		for (int i = 0; i < 3; i++) {
			char *end;

			p += strspn(p, " \t");
			if (*p < '0' || *p > '9')
				return -EINVAL;
			v[i] = strtoul(p, &end, 10);
			if (v[i] > UINT32_MAX)
				return -EINVAL;
			p = end;
		}
		p += strspn(p, " \t");
		if (*p || n == ID_MAP_MAX || v[2] == 0 || v[0] + v[2] > UINT32_MAX || v[1] + v[2] > UINT32_MAX)
			return -EINVAL;
		for (unsigned i = 0; i < n; i++) {
			if ((v[0] < (uint64_t)map[i].first + map[i].count && map[i].first < v[0] + v[2]) ||
			    (v[1] < (uint64_t)map[i].lower_first + map[i].count && map[i].lower_first < v[1] + v[2]))
				return -EINVAL;
		}
		map[n++] = (struct id_map_extent){ (uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2] };
	}
	*ret_count = n;
	return n ? 0 : -EINVAL;
}

/* May current write this mapping? The rules of "Defining user and group ID mappings". */
static bool map_allowed(struct user_ns *ns, bool group, const struct id_map_extent *map, unsigned count)
{
	const struct cred *c = current->cred;
	int cap = group ? CAP_SETGID : CAP_SETUID;

	if (c->user_ns != ns && c->user_ns != ns->parent)
		return false;
	if (!cred_capable(c, ns, cap))
		return false;
	if (cred_capable(c, ns->parent, cap))
		return true;
	/* Unprivileged: one id, the creator's own. */
	if (count != 1 || map[0].count != 1 || c->euid.v != ns->owner.v)
		return false;
	if (group) {
		kgid_t g;

		return ns->setgroups_denied && user_ns_make_kgid(ns->parent, map[0].lower_first, &g) &&
		       g.v == c->egid.v;
	} else {
		kuid_t u;

		return user_ns_make_kuid(ns->parent, map[0].lower_first, &u) && u.v == c->euid.v;
	}
}

static bool map_lower_exists(struct user_ns *ns, bool group, const struct id_map_extent *map, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (int end = 0; end < 2; end++) {
			uint32_t id = map[i].lower_first + (end ? map[i].count - 1 : 0);
			kuid_t u;
			kgid_t g;

			if (group ? !user_ns_make_kgid(ns->parent, id, &g) : !user_ns_make_kuid(ns->parent, id, &u))
				return false;
		}
	}
	return true;
}

static int64_t map_store(struct simple_inode *s, char *text, size_t size, int64_t pos, bool group)
{
	struct user_ns *ns = task_user_ns(proc_task(s));
	struct id_map_extent *map = calloc(ID_MAP_MAX, sizeof(*map));
	unsigned count = 0;
	int64_t r = -ENOMEM;

	if (!ns || !map)
		goto out;
	r = -EPERM;
	if (pos != 0 || !ns->parent)
		goto out;
	r = parse_map(text, map, &count);
	if (r < 0)
		goto out;
	r = -EPERM;
	if (!map_allowed(ns, group, map, count) || !map_lower_exists(ns, group, map, count))
		goto out;
	mutex_lock(&ns->mu);
	if (!(group ? ns->gid_map : ns->uid_map)) {
		if (group) {
			ns->gid_map_count = count;
			ns->gid_map = TAKE(map);
		} else {
			ns->uid_map_count = count;
			ns->uid_map = TAKE(map);
		}
		r = (int64_t)size;
	}
	mutex_unlock(&ns->mu);
out:
	free(map);
	user_ns_put(ns);
	return r;
}

static int uid_map_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	return map_show(s, q, false);
}

static int gid_map_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	return map_show(s, q, true);
}

static int64_t uid_map_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)f;
	return map_store(s, text, size, pos, false);
}

static int64_t gid_map_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)f;
	return map_store(s, text, size, pos, true);
}

static int setgroups_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct user_ns *ns = task_user_ns(proc_task(s));

	(void)f;
	seq_puts(q, ns && ns->setgroups_denied ? "deny\n" : "allow\n");
	user_ns_put(ns);
	return 0;
}

static int64_t setgroups_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	struct user_ns *ns = task_user_ns(proc_task(s));
	int64_t r = (int64_t)size;

	(void)f;
	text[strcspn(text, "\n")] = 0;
	if (!ns || pos != 0 || (strcmp(text, "deny") != 0 && strcmp(text, "allow") != 0)) {
		r = -EINVAL;
	} else if (!cred_capable(current->cred, ns, CAP_SYS_ADMIN)) {
		r = -EPERM;
	} else {
		mutex_lock(&ns->mu);
		if (text[0] == 'd' && !ns->gid_map)
			ns->setgroups_denied = true;
		else if (text[0] == 'd' || ns->setgroups_denied)
			r = -EPERM;
		mutex_unlock(&ns->mu);
	}
	user_ns_put(ns);
	return r;
}

#define IDS_OPS(id)                                                                                \
	static const struct simple_ops id##_ops = { .name = #id, .free = proc_free_task,           \
						    .refresh = proc_refresh_owner,                 \
						    .show = id##_show, .store = id##_store,        \
						    .store_max = 4095 }
IDS_OPS(uid_map);
IDS_OPS(gid_map);
IDS_OPS(setgroups);

const struct proc_entry proc_ids_entries[] = {
	{ "uid_map", S_IFREG | 0644, &uid_map_ops, true },
	{ "gid_map", S_IFREG | 0644, &gid_map_ops, true },
	{ "setgroups", S_IFREG | 0644, &setgroups_ops, true },
	{ 0 },
};
