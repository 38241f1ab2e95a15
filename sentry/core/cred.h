/*
 * Credentials and user namespaces (credentials(7), capabilities(7), user_namespaces(7)).
 * A cred is immutable once installed in a task or file; changing means cred_dup, edit, install.
 * Ids are kernel ids (of the root user namespace of the sandbox) in types of their own.
 */
#ifndef SENTRY_CORE_CRED_H
#define SENTRY_CORE_CRED_H

#include "platform/base/refcount.h"
#include "platform/base/mutex.h"

typedef struct {
	uint32_t v;
} kuid_t;
typedef struct {
	uint32_t v;
} kgid_t;
#define KUID(x) ((kuid_t){ (uint32_t)(x) })
#define KGID(x) ((kgid_t){ (uint32_t)(x) })
#define ID_INVALID UINT32_MAX
#define OVERFLOW_ID 65534u

#define ID_MAP_MAX 340
struct id_map_extent {
	uint32_t first, lower_first, count; /* first: in this namespace; lower_first: in the parent's */
};

struct user_ns {
	struct refcount refs;
	struct user_ns *parent; /* reference; NULL for the root namespace; const after init */
	uint32_t level;
	kuid_t owner;
	kgid_t owner_group;
	uint64_t ns_ino; /* what /proc/PID/ns/user shows */
	struct mutex mu; /* LOCK_LEAF: the maps, each written once */
	struct id_map_extent *uid_map, *gid_map;
	unsigned uid_map_count, gid_map_count;
	bool setgroups_denied;
};

extern struct user_ns root_user_ns; /* identity map; never freed */

struct user_ns *user_ns_get(struct user_ns *ns);
void user_ns_put(struct user_ns *ns);
/* New child namespace without maps, owned by owner. NULL when out of memory or deeper than 32. */
struct user_ns *user_ns_new(struct user_ns *parent, kuid_t owner, kgid_t owner_group);
/* Id conversion between a namespace's view and kernel ids; ID_INVALID / false when unmapped. */
bool user_ns_make_kuid(struct user_ns *ns, uint32_t id, kuid_t *ret_kuid);
bool user_ns_make_kgid(struct user_ns *ns, uint32_t id, kgid_t *ret_kgid);
/* Whether both maps are there, so that what ids look like in ns does not change any more. */
bool user_ns_mapped(struct user_ns *ns);
uint32_t user_ns_from_kuid(struct user_ns *ns, kuid_t id); /* ID_INVALID when unmapped */
uint32_t user_ns_from_kgid(struct user_ns *ns, kgid_t id);
uint32_t user_ns_from_kuid_munged(struct user_ns *ns, kuid_t id); /* OVERFLOW_ID when unmapped */
uint32_t user_ns_from_kgid_munged(struct user_ns *ns, kgid_t id);

#define CRED_GROUPS_MAX 65536

struct cred {
	struct refcount refs;
	kuid_t ruid, euid, suid, fsuid;
	kgid_t rgid, egid, sgid, fsgid;
	unsigned group_count;
	kgid_t *groups; /* sorted; owned */
	uint64_t cap_permitted, cap_effective, cap_inheritable, cap_bounding, cap_ambient;
	uint32_t securebits;
	bool no_new_privs;
	struct user_ns *user_ns; /* reference */
};

struct cred *cred_get(const struct cred *c);
void cred_put(const struct cred *c);
DEFINE_AUTO(cred_put, const struct cred *)
/* A private copy with one reference, to be edited and then installed; NULL when out of memory. */
struct cred *cred_dup(const struct cred *c);
/* Root with all capabilities in ns; NULL when out of memory. */
struct cred *cred_new_root(struct user_ns *ns);
bool cred_in_group(const struct cred *c, kgid_t gid); /* fsgid or a supplementary group */
/* Does c have cap in target, by the rules of user_namespaces(7) (owner of a child namespace has all)? */
bool cred_capable(const struct cred *c, const struct user_ns *target, int cap);

#endif
