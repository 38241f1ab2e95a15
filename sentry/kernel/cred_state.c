/* What a checkpoint would hold of credentials. */
#include "sentry/core/cred.h"
#include "sentry/state/desc.h"

STATE_DESC(cred,
	   S_NOSAVE(cred, refs, "recounted from the references"),
	   S_VAL(cred, 1, ruid),
	   S_VAL(cred, 2, euid),
	   S_VAL(cred, 3, suid),
	   S_VAL(cred, 4, fsuid),
	   S_VAL(cred, 5, rgid),
	   S_VAL(cred, 6, egid),
	   S_VAL(cred, 7, sgid),
	   S_VAL(cred, 8, fsgid),
	   S_VAL(cred, 9, group_count),
	   S_BYTES(cred, 10, groups),
	   S_VAL(cred, 11, cap_permitted),
	   S_VAL(cred, 12, cap_effective),
	   S_VAL(cred, 13, cap_inheritable),
	   S_VAL(cred, 14, cap_bounding),
	   S_VAL(cred, 15, cap_ambient),
	   S_VAL(cred, 16, securebits),
	   S_VAL(cred, 17, no_new_privs),
	   S_REF(cred, 18, user_ns, user_ns));

STATE_DESC(user_ns,
	   S_NOSAVE(user_ns, refs, "recounted from the references"),
	   S_REF(user_ns, 1, parent, user_ns),
	   S_VAL(user_ns, 2, level),
	   S_VAL(user_ns, 3, owner),
	   S_VAL(user_ns, 4, owner_group),
	   S_VAL(user_ns, 5, ns_ino),
	   S_NOSAVE(user_ns, mu, "unheld at a safe point"),
	   S_BYTES(user_ns, 6, uid_map),
	   S_BYTES(user_ns, 7, gid_map),
	   S_VAL(user_ns, 8, uid_map_count),
	   S_VAL(user_ns, 9, gid_map_count),
	   S_VAL(user_ns, 10, setgroups_denied));
