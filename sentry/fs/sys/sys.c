/* The sys file system (sysfs(5)): processors, memory nodes, and the empty places that programs look into. */
#include "sentry/fs/sys/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/kernel/container.h"
#include "sentry/mm/mm.h"
#include "sentry/vfs/simple.h"

#define SYSFS_MAGIC 0x62656572

static int text_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_printf(q, "%s\n", (const char *)s->data);
	return 0;
}

static const struct simple_ops text_ops = { .name = "sys text", .show = text_show };

/* "0-3" */
static int cpus_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	unsigned n = task_cpu_count(current);

	(void)s;
	(void)f;
	seq_printf(q, n > 1 ? "0-%u\n" : "0\n", n - 1);
	return 0;
}

static const struct simple_ops cpus_ops = { .name = "sys cpus", .show = cpus_show };

/* A bit mask of one processor (num), or of all (num == UINT64_MAX). */
static int mask_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	unsigned n = task_cpu_count(current);

	(void)f;
	seq_printf(q, "%llx\n",
		   s->num == UINT64_MAX ? (n >= 64 ? ~0ull : (1ull << n) - 1) : 1ull << (s->num & 63));
	return 0;
}

static const struct simple_ops mask_ops = { .name = "sys mask", .show = mask_show };

static int number_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_printf(q, "%llu\n", (unsigned long long)s->num);
	return 0;
}

static const struct simple_ops number_ops = { .name = "sys number", .show = number_show };

static int node_meminfo_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct cgroup_memory m;

	(void)s;
	(void)f;
	cgroup_memory(task_cgroup(current), false, &m);
	seq_printf(q, "Node 0 MemTotal:       %llu kB\nNode 0 MemFree:        %llu kB\nNode 0 MemUsed:        %llu kB\n",
		   (unsigned long long)m.total >> 10, (unsigned long long)(m.total - m.used) >> 10,
		   (unsigned long long)m.used >> 10);
	return 0;
}

static const struct simple_ops node_meminfo_ops = { .name = "sys node meminfo", .show = node_meminfo_show };

struct fixed {
	const char *dir, *name; /* name NULL: the directory alone; parents come first */
	const char *text;
};

static const struct fixed fixed[] = {
	{ "block", NULL, NULL },
	{ "bus", NULL, NULL },
	{ "bus/pci", NULL, NULL },
	{ "bus/pci/devices", NULL, NULL },
	{ "class", NULL, NULL },
	{ "class/net", NULL, NULL },
	{ "class/power_supply", NULL, NULL },
	{ "class/tty", NULL, NULL },
	{ "dev", NULL, NULL },
	{ "dev/block", NULL, NULL },
	{ "dev/char", NULL, NULL },
	{ "devices", NULL, NULL },
	{ "devices/virtual", NULL, NULL },
	{ "devices/system", NULL, NULL },
	{ "devices/system/cpu", NULL, NULL },
	{ "devices/system/cpu", "isolated", "" },
	{ "devices/system/cpu", "kernel_max", "8191" },
	{ "devices/system/cpu", "offline", "" },
	{ "devices/system/node", NULL, NULL },
	{ "devices/system/node", "online", "0" },
	{ "devices/system/node", "possible", "0" },
	{ "devices/system/node", "has_memory", "0" },
	{ "devices/system/node", "has_cpu", "0" },
	{ "devices/system/node/node0", NULL, NULL },
	{ "devices/system/node/node0", "distance", "10" },
	{ "firmware", NULL, NULL },
	{ "fs", NULL, NULL },
	{ "fs/cgroup", NULL, NULL },
	{ "hypervisor", NULL, NULL },
	{ "kernel", NULL, NULL },
	{ "kernel", "uevent_seqnum", "0" },
	{ "kernel", "profiling", "0" },
	{ "kernel/debug", NULL, NULL },
	{ "kernel/security", NULL, NULL },
	{ "kernel/tracing", NULL, NULL },
	{ "kernel/mm", NULL, NULL },
	{ "kernel/mm/hugepages", NULL, NULL },
	{ "kernel/mm/transparent_hugepage", NULL, NULL },
	{ "kernel/mm/transparent_hugepage", "enabled", "always [madvise] never" },
	{ "kernel/mm/transparent_hugepage", "defrag", "always defer defer+madvise [madvise] never" },
	{ "kernel/mm/transparent_hugepage", "shmem_enabled", "always within_size advise [never] deny force" },
	{ "kernel/mm/transparent_hugepage", "hpage_pmd_size", "2097152" },
	{ "module", NULL, NULL },
	{ "power", NULL, NULL },
};

/* The inode of a directory made before. */
struct made {
	const char *dir;
	struct inode *inode;
};

static struct inode *made_find(const struct made *m, unsigned count, const char *dir, size_t len)
{
	for (unsigned i = 0; i < count; i++) {
		if (strlen(m[i].dir) == len && memcmp(m[i].dir, dir, len) == 0)
			return m[i].inode;
	}
	return NULL;
}

static int add_cpu(struct inode *cpus, unsigned n)
{
	static const struct {
		const char *name;
		bool mask;
	} topology[] = { { "core_cpus", true },	     { "thread_siblings", true }, { "core_siblings", true },
			 { "package_cpus", true },   { "core_id", false },	  { "physical_package_id", false } };
	struct inode *cpu, *dir;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "cpu%u", n);
	r = simple_add_dir(cpus, name, &cpu);
	if (r == 0)
		r = simple_add_dir(cpu, "topology", &dir);
	for (unsigned i = 0; i < ARRAY_COUNT(topology) && r == 0; i++) {
		bool all = strncmp(topology[i].name, "core_s", 6) == 0 || topology[i].name[0] == 'p';
		uint64_t num = topology[i].mask && all ? UINT64_MAX : n;

		if (!topology[i].mask && topology[i].name[0] == 'p')
			num = 0;
		r = simple_add(dir, topology[i].name,
			       simple_new(cpus->sb, topology[i].mask ? &mask_ops : &number_ops, S_IFREG | 0444,
					  NULL, num));
	}
	return r;
}

static int fill(struct inode *root)
{
	struct made made[ARRAY_COUNT(fixed)];
	unsigned count = 0;
	struct inode *cpus, *node;
	int r = 0;

	for (unsigned i = 0; i < ARRAY_COUNT(fixed) && r == 0; i++) {
		const struct fixed *x = &fixed[i];
		const char *slash = strrchr(x->dir, '/');
		union {
			const char *in;
			void *out;
		} text = { .in = x->text }; /* only read by text_show */

		if (x->name) {
			r = simple_add_file(made_find(made, count, x->dir, strlen(x->dir)), x->name,
					    S_IFREG | 0444, &text_ops, text.out);
			continue;
		}
		made[count].dir = x->dir;
		r = simple_add_dir(slash ? made_find(made, count, x->dir, (size_t)(slash - x->dir)) : root,
				   slash ? slash + 1 : x->dir, &made[count].inode);
		count++;
	}
	if (r < 0)
		return r;
	node = made_find(made, count, "devices/system/node/node0", strlen("devices/system/node/node0"));
	r = simple_add_file(node, "cpulist", S_IFREG | 0444, &cpus_ops, NULL);
	if (r == 0)
		r = simple_add(node, "cpumap", simple_new(root->sb, &mask_ops, S_IFREG | 0444, NULL, UINT64_MAX));
	if (r == 0)
		r = simple_add_file(node, "meminfo", S_IFREG | 0444, &node_meminfo_ops, NULL);
	if (r < 0)
		return r;
	cpus = made_find(made, count, "devices/system/cpu", strlen("devices/system/cpu"));
	r = simple_add_file(cpus, "online", S_IFREG | 0444, &cpus_ops, NULL);
	if (r == 0)
		r = simple_add_file(cpus, "possible", S_IFREG | 0444, &cpus_ops, NULL);
	if (r == 0)
		r = simple_add_file(cpus, "present", S_IFREG | 0444, &cpus_ops, NULL);
	for (unsigned i = 0; i < kernel_cpu_count() && r == 0; i++)
		r = add_cpu(cpus, i);
	return r;
}

static int sys_mount(const struct fs_type *type, const char *source, uint64_t flags, const char *data,
		     const struct cred *cred, struct superblock **ret_sb)
{
	struct superblock *sb = superblock_new(&simple_superblock_ops, "sysfs", SYSFS_MAGIC, cred->user_ns);
	int r = -ENOMEM;

	(void)type;
	(void)source;
	(void)flags;
	(void)data;
	if (!sb)
		return -ENOMEM;
	sb->root = simple_new(sb, NULL, S_IFDIR | 0555, NULL, 0);
	if (sb->root)
		r = fill(sb->root);
	if (r < 0) {
		superblock_put(sb);
		return r;
	}
	*ret_sb = sb;
	return 0;
}

static struct fs_type sys_type = { .name = "sysfs", .user_mountable = true, .nodev = true, .mount = sys_mount };

void sys_register(void)
{
	fs_type_register(&sys_type);
}
