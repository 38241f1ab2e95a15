/* What memfile.c and account.c share. */
#ifndef SENTRY_MM_ACCOUNT_PRIV_H
#define SENTRY_MM_ACCOUNT_PRIV_H

#include "sentry/mm/account.h"
#include "sentry/mm/memfile.h"

enum { ACCOUNTS_MAX = 1024 };

void accounts_init(void);
unsigned account_id(const struct memory_account *a);
struct memory_account *account_by_id(unsigned id);
/* The memory file's lock is held. False: the limit does not allow it, and memory_relieve will know. */
bool account_charge(struct memory_account *a, uint64_t size);
void account_uncharge(struct memory_account *a, uint64_t size);

/* memfile.c: adds the bytes that the host holds of the account's frames. */
void memfile_scan(struct memfile *mf, unsigned account, uint64_t by_kind[MEMFILE_KINDS]);
/* Bytes that the host holds, some MiB of free frames included. */
uint64_t memfile_held(struct memfile *mf);

#endif
