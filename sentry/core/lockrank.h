/* Lock ranks of the sentry as constants LOCK_NAME; see lockrank.def for the order. */
#ifndef SENTRY_CORE_LOCKRANK_H
#define SENTRY_CORE_LOCKRANK_H

enum lock_rank {
	LOCK_UNRANKED,
#define LOCKRANK(name) LOCK_##name,
#include "sentry/core/lockrank.def"
#undef LOCKRANK
};

#endif
