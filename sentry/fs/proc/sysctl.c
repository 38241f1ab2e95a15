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

#define WORDS_MAX 4
#define EXTRA_MAX 128

struct sysctl {
	const char *dir, *name;
	const char *text;		    /* TEXT */
	_Atomic int64_t value;		    /* INT */
	int64_t min, max;
	_Atomic uint64_t word[WORDS_MAX];   /* WORDS */
	unsigned word_count;
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

static int words_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	const struct sysctl *c = s->data;

	(void)f;
	for (unsigned i = 0; i < c->word_count; i++)
		seq_printf(q, "%s%llu", i ? "\t" : "", (unsigned long long)c->word[i]);
	seq_putc(q, '\n');
	return 0;
}

/* All the words, or with fewer the first of them. */
static int words_parse(struct sysctl *c, const char *text)
{
	unsigned long long word[WORDS_MAX];
	unsigned count = 0;
	char *end;

	for (text += strspn(text, " \t\n"); *text; text = end + strspn(end, " \t\n")) {
		errno = 0;
		if (count == c->word_count || *text == '-')
			return -EINVAL;
		word[count++] = strtoull(text, &end, 10);
		if (end == text || errno || (*end && !strchr(" \t\n", *end)))
			return -EINVAL;
	}
	if (!count)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		c->word[i] = word[i];
	return 0;
}

static int64_t words_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	int r = words_parse(s->data, text);

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
static const struct simple_ops words_ops = { .name = "sysctl words", .show = words_show, .store = words_store };
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
#define SYSCTL_WORDS(d, n, count, ...)                                                             \
	{ .dir = #d, .name = #n, .word = { __VA_ARGS__ }, .word_count = count, .mode = 0644, .ops = &words_ops },
#define SYSCTL_LIVE(d, n, m, fn) { .dir = #d, .name = #n, .mode = m, .ops = &fn##_ops },
#define CLAMP(v) ((int64_t)(v))
#include "sentry/fs/proc/sysctl.def"
#undef SYSCTL_DIR
#undef SYSCTL_TEXT
#undef SYSCTL_INT
#undef SYSCTL_WORDS
#undef SYSCTL_LIVE
};

/* Network values of config.json that the host took and the table does not know. Only added to, and only while no guest
 * runs. */
static struct sysctl extra[EXTRA_MAX];
static _Atomic unsigned extra_count;

static unsigned row_count(void)
{
	return (unsigned)ARRAY_COUNT(table) + extra_count;
}

static struct sysctl *row_at(unsigned i)
{
	return i < ARRAY_COUNT(table) ? &table[i] : &extra[i - ARRAY_COUNT(table)];
}

static struct sysctl *sysctl_find(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t dir_len = slash ? (size_t)(slash + 1 - path) : 0;

	for (unsigned i = 0; i < row_count(); i++) {
		struct sysctl *c = row_at(i);

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

uint64_t sysctl_word(const char *path, unsigned i)
{
	struct sysctl *c = sysctl_find(path);

	return c && i < c->word_count ? c->word[i] : 0;
}

/* The name before '=' as a path. A name whose first separator is a slash is one with dots in its parts. */
static int path_of(const char *assignment, char path[256])
{
	size_t n = strcspn(assignment, "=");
	bool dots = assignment[strcspn(assignment, "./")] != '/';

	if (assignment[n] != '=' || n >= 256)
		return -EINVAL;
	memcpy(path, assignment, n);
	path[n] = 0;
	for (char *p = path; dots && *p; p++)
		*p = (char)(*p == '.' ? '/' : *p == '/' ? '.' : *p);
	return 0;
}

int sysctl_set(const char *assignment)
{
	const char *value = strchr(assignment, '=');
	char path[256];
	struct sysctl *c;
	int err = path_of(assignment, path);

	if (err < 0)
		return err;
	c = sysctl_find(path);
	if (!c)
		return -ENOENT;
	if (c->ops == &words_ops)
		return words_parse(c, value + 1);
	return c->ops == &int_ops ? sysctl_parse(c, value + 1) : -EPERM;
}

/* Adds a row, and the directories that lead to it, for path. 0, -ENOMEM. */
static int add_rows(const char *path, const char *value)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		char *dir = strndup(path, (size_t)(slash + 1 - path));
		bool known = false;

		for (unsigned i = 0; dir && i < row_count() && !known; i++)
			known = strcmp(row_at(i)->dir, dir) == 0;
		if (!dir || known || extra_count == EXTRA_MAX) {
			free(dir);
			if (!known)
				return -ENOMEM;
			continue;
		}
		extra[extra_count] = (struct sysctl){ .dir = dir };
		extra_count++;
	}
	if (extra_count == EXTRA_MAX)
		return -ENOMEM;
	extra[extra_count] = (struct sysctl){ .dir = strndup(path, (size_t)(strrchr(path, '/') + 1 - path)),
					      .name = strdup(strrchr(path, '/') + 1),
					      .text = strdup(value),
					      .mode = 0444,
					      .ops = &text_ops };
	if (!extra[extra_count].dir || !extra[extra_count].name || !extra[extra_count].text)
		return -ENOMEM;
	extra_count++;
	return 0;
}

int sysctl_show(const char *assignment)
{
	const char *value = strchr(assignment, '=');
	char path[256];
	struct sysctl *c;
	int err = path_of(assignment, path);

	if (err < 0)
		return err;
	if (strncmp(path, "net/", 4) != 0)
		return -EINVAL;
	c = sysctl_find(path);
	if (!c)
		return add_rows(path, value + 1);
	if (c->ops != &text_ops)
		return sysctl_set(assignment);
	c->text = strdup(value + 1); /* for good */
	return c->text ? 0 : -ENOMEM;
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
	const struct sysctl *c = row_at(i);
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

	for (unsigned i = 0; i < row_count(); i++) {
		const char *n = child_name(i, dir, &len);
		struct sysctl *c = row_at(i);

		if (!n || strlen(name) != len || memcmp(n, name, len) != 0)
			continue;
		*ret = simple_new_ino(d->inode.sb, c->name ? c->ops : &dir_ops,
				      c->name ? S_IFREG | c->mode : S_IFDIR | 0555, SYSCTL_INO + i, c, 0);
		return *ret ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

static int dir_iterate(struct simple_inode *d, struct file *f, struct dir_emit *out, int64_t *pos)
{
	const char *dir = d->data ? ((const struct sysctl *)d->data)->dir : "";
	size_t len;

	(void)f;
	for (int64_t i = *pos - SIMPLE_DYNAMIC; i < (int64_t)row_count(); i++) {
		const char *n = child_name((unsigned)i, dir, &len);

		if (n && !out->emit(out, n, len, SYSCTL_INO + (uint64_t)i, row_at((unsigned)i)->name ? DT_REG : DT_DIR,
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
