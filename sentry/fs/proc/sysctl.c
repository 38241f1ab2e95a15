/* /proc/sys: rows of sysctl.def. Values are of the sandbox as a whole. */
#include "sentry/fs/proc/sysctl.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/core/random.h"
#include "sentry/fs/proc/proc_priv.h"
#include "sentry/kernel/version.h"
#include "sentry/mm/mm.h"

struct sysctl {
	const char *dir, *name;
	const char *text;		    /* TEXT */
	_Atomic int64_t value;		    /* INT */
	int64_t min, max;
	uint32_t mode;
	const struct simple_ops *ops;
};

static int text_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	const struct sysctl *c = s->data;

	(void)f;
	seq_printf(q, "%s\n", c->text);
	return 0;
}

static int int_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	const struct sysctl *c = s->data;

	(void)f;
	seq_printf(q, "%lld\n", (long long)c->value);
	return 0;
}

static int sysctl_parse(struct sysctl *c, const char *text)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (end == text || errno || end[strspn(end, " \t\n")] || v < c->min || v > c->max)
		return -EINVAL;
	c->value = v;
	return 0;
}

static int64_t int_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	int r = sysctl_parse(s->data, text);

	(void)f;
	(void)pos;
	return r < 0 ? r : (int64_t)size;
}

/* ---- live values ---- */

static int uts_show(struct seq *q, bool domain)
{
	struct uts_ns *uts = current ? current->ns->uts : NULL;

	if (!uts)
		return -EINVAL;
	mutex_lock(&uts->mu);
	seq_printf(q, "%s\n", domain ? uts->domainname : uts->nodename);
	mutex_unlock(&uts->mu);
	return 0;
}

static int64_t uts_store(char *text, size_t size, bool domain)
{
	struct uts_ns *uts = current ? current->ns->uts : NULL;
	size_t n = strcspn(text, "\n");

	if (!uts || n > 64)
		return -EINVAL;
	if (!task_capable_ns(current, uts->user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	mutex_lock(&uts->mu);
	memset(domain ? uts->domainname : uts->nodename, 0, 65);
	memcpy(domain ? uts->domainname : uts->nodename, text, n);
	mutex_unlock(&uts->mu);
	return (int64_t)size;
}

static int hostname_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	return uts_show(q, false);
}

static int64_t hostname_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)s;
	(void)f;
	(void)pos;
	return uts_store(text, size, false);
}

static int domainname_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	return uts_show(q, true);
}

static int64_t domainname_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)s;
	(void)f;
	(void)pos;
	return uts_store(text, size, true);
}

static void seq_uuid(struct seq *q, const uint8_t r[16])
{
	seq_printf(q, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", r[0], r[1], r[2],
		   r[3], r[4], r[5], (r[6] & 0x0f) | 0x40, r[7], (r[8] & 0x3f) | 0x80, r[9], r[10], r[11], r[12],
		   r[13], r[14], r[15]);
}

static int uuid_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	uint8_t r[16];

	(void)s;
	(void)f;
	random_fill(r, sizeof(r));
	seq_uuid(q, r);
	return 0;
}

static int boot_id_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	static uint8_t id[16];

	(void)s;
	(void)f;
	mutex_lock(&taskset_mu);
	if (!id[0])
		random_fill(id, sizeof(id));
	id[0] |= 1; /* never zero again */
	mutex_unlock(&taskset_mu);
	seq_uuid(q, id);
	return 0;
}

/* Fixed: what lies below is the platform's. */
static int mmap_min_addr_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	seq_printf(q, "%llu\n", (unsigned long long)mm_min_addr());
	return 0;
}

static const struct simple_ops text_ops = { .name = "sysctl text", .show = text_show };
static const struct simple_ops int_ops = { .name = "sysctl int", .show = int_show, .store = int_store };
static const struct simple_ops hostname_ops = { .name = "hostname", .show = hostname_show, .store = hostname_store };
static const struct simple_ops domainname_ops = { .name = "domainname", .show = domainname_show, .store = domainname_store };
static const struct simple_ops boot_id_ops = { .name = "boot_id", .show = boot_id_show };
static const struct simple_ops uuid_ops = { .name = "uuid", .show = uuid_show };
static const struct simple_ops mmap_min_addr_ops = { .name = "mmap_min_addr", .show = mmap_min_addr_show };

static struct sysctl table[] = {
#define SYSCTL_DIR(d) { .dir = #d },
#define SYSCTL_TEXT(d, n, t) { .dir = #d, .name = #n, .text = t, .mode = 0444, .ops = &text_ops },
#define SYSCTL_INT(d, n, def, lo, hi)                                                              \
	{ .dir = #d,                                                                               \
	  .name = #n,                                                                              \
	  .value = CLAMP(def),                                                                     \
	  .min = CLAMP(lo),                                                                        \
	  .max = CLAMP(hi),                                                                        \
	  .mode = 0644,                                                                            \
	  .ops = &int_ops },
#define SYSCTL_LIVE(d, n, m, fn) { .dir = #d, .name = #n, .mode = m, .ops = &fn##_ops },
#define CLAMP(v) ((int64_t)(v))
#include "sentry/fs/proc/sysctl.def"
#undef SYSCTL_DIR
#undef SYSCTL_TEXT
#undef SYSCTL_INT
#undef SYSCTL_LIVE
};

static struct sysctl *sysctl_find(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t dir_len = slash ? (size_t)(slash + 1 - path) : 0;

	for (unsigned i = 0; i < ARRAY_COUNT(table); i++) {
		struct sysctl *c = &table[i];

		if (c->name && strlen(c->dir) == dir_len && memcmp(c->dir, path, dir_len) == 0 &&
		    strcmp(c->name, path + dir_len) == 0)
			return c;
	}
	return NULL;
}

int64_t sysctl_int(const char *path)
{
	struct sysctl *c = sysctl_find(path);

	return c ? c->value : 0;
}

int sysctl_set(const char *assignment)
{
	char path[256];
	size_t n = strcspn(assignment, "=");
	struct sysctl *c;

	if (assignment[n] != '=' || n >= sizeof(path))
		return -EINVAL;
	memcpy(path, assignment, n);
	path[n] = 0;
	for (char *p = path; *p; p++) {
		if (*p == '.')
			*p = '/';
	}
	c = sysctl_find(path);
	if (!c)
		return -ENOENT;
	return c->ops == &int_ops ? sysctl_parse(c, assignment + n + 1) : -EPERM;
}

/* ---- the tree: directories are made when looked at ---- */

static const struct simple_ops dir_ops;

/* Is path a directory directly below dir (or below /proc/sys for "")? Its name in *ret_name, len bytes. */
static bool dir_is_child(const char *path, const char *dir, const char **ret_name, size_t *ret_len)
{
	size_t n = strlen(dir);
	const char *slash;

	if (strncmp(path, dir, n) != 0 || path[n] == 0)
		return false;
	slash = strchr(path + n, '/');
	if (!slash || slash[1])
		return false;
	*ret_name = path + n;
	*ret_len = (size_t)(slash - (path + n));
	return true;
}

/* The name of row i as a child of dir; NULL when it is none. */
static const char *child_name(unsigned i, const char *dir, size_t *ret_len)
{
	const struct sysctl *c = &table[i];
	const char *name;

	if (!c->name)
		return dir_is_child(c->dir, dir, &name, ret_len) ? name : NULL;
	if (strcmp(c->dir, dir) != 0)
		return NULL;
	*ret_len = strlen(c->name);
	return c->name;
}

#define SYSCTL_INO 0x10000

static int dir_lookup(struct simple_inode *d, const char *name, struct inode **ret)
{
	const char *dir = d->data ? ((const struct sysctl *)d->data)->dir : "";
	size_t len;

	for (unsigned i = 0; i < ARRAY_COUNT(table); i++) {
		const char *n = child_name(i, dir, &len);

		if (!n || strlen(name) != len || memcmp(n, name, len) != 0)
			continue;
		*ret = simple_new_ino(d->inode.sb, table[i].name ? table[i].ops : &dir_ops,
				      table[i].name ? S_IFREG | table[i].mode : S_IFDIR | 0555, SYSCTL_INO + i,
				      &table[i], 0);
		return *ret ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

static int dir_iterate(struct simple_inode *d, struct file *f, struct dir_emit *out, int64_t *pos)
{
	const char *dir = d->data ? ((const struct sysctl *)d->data)->dir : "";
	size_t len;

	(void)f;
	for (int64_t i = *pos - SIMPLE_DYNAMIC; i < (int64_t)ARRAY_COUNT(table); i++) {
		const char *n = child_name((unsigned)i, dir, &len);

		if (n && !out->emit(out, n, len, SYSCTL_INO + (uint64_t)i, table[i].name ? DT_REG : DT_DIR,
				    SIMPLE_DYNAMIC + i + 1))
			return 0;
		*pos = SIMPLE_DYNAMIC + i + 1;
	}
	return 0;
}

static const struct simple_ops dir_ops = { .name = "sysctl dir", .lookup = dir_lookup, .iterate = dir_iterate };

int proc_fill_sysctl(struct inode *root)
{
	return simple_add(root, "sys", simple_new(root->sb, &dir_ops, S_IFDIR | 0555, NULL, 0));
}
