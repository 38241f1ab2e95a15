/* Shared by the files of sentry/fs/gofer only. */
#ifndef SENTRY_FS_GOFER_GOFER_PRIV_H
#define SENTRY_FS_GOFER_GOFER_PRIV_H

#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/proto/proto.h"
#include "platform/base/rbtree.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/vfs/fs_ops.h"

/* One connection. */
struct gofer_client {
	int sock; /* const */
	_Atomic bool dead; /* set once: every call is -EIO from then on */
	struct mutex mu; /* LOCK_FS_DATA: one round trip at a time; seq and buf */
	uint32_t seq;
	uint8_t *buf; /* GOFER_MSG_MAX bytes, request and reply */
	int more_fd[GOFER_AHEAD_MAX]; /* that came behind the first descriptor; owned until the next call */
	uint32_t more_count;
	struct mutex close_mu; /* LOCK_LEAF: closes */
	uint32_t close_count;
	uint64_t *closes; /* node references to give back with the next call */
	uint32_t close_capacity;
};

NODISCARD int client_init(struct gofer_client *c, int sock);
void client_fini(struct gofer_client *c);
/* Gives a node reference back, at the latest with the next call. Any context. */
void client_close_node(struct gofer_client *c, uint64_t id);

/*
 * One round trip: packs with pack(req), sends, waits, unpacks with unpack(rep). c->mu held, since
 * strings and blobs of rep borrow c->buf. ret_fd may be NULL when none can come; else *ret_fd is
 * owned or -1. Returns 0, the gofer's errno (negative), -EIO when it is dead or broke the protocol.
 */
#define gofer_call_locked(client, msg, req, rep, ret_fd)                                           \
	({                                                                                         \
		struct gofer_client *call_c_ = (client);                                           \
		struct cursor call_cur_;                                                           \
		client_begin(call_c_, &call_cur_, GOFER_##msg);                                    \
		gofer_pack_##msg##_req(&call_cur_, req);                                           \
		int call_err_ = client_exchange(call_c_, &call_cur_, GOFER_##msg, ret_fd);         \
		if (call_err_ == 0 && gofer_unpack_##msg##_rep(&call_cur_, rep) < 0)               \
			call_err_ = client_broken(call_c_, ret_fd);                                \
		call_err_;                                                                         \
	})
/* The same with c->mu taken around it, for replies without strings and blobs. */
#define gofer_call(client, msg, req, rep, ret_fd)                                                  \
	({                                                                                         \
		mutex_lock(&(client)->mu);                                                         \
		int call_res_ = gofer_call_locked(client, msg, req, rep, ret_fd);                  \
		mutex_unlock(&(client)->mu);                                                       \
		call_res_;                                                                         \
	})
void client_begin(struct gofer_client *c, struct cursor *cur, uint16_t id);
NODISCARD int client_exchange(struct gofer_client *c, struct cursor *cur, uint16_t id, int *ret_fd);
NODISCARD int client_broken(struct gofer_client *c, int *ret_fd);

/* Who else changes the files: seldom anybody (what is known counts for a second), or the host all the time. */
enum gofer_cache { GOFER_EXCLUSIVE, GOFER_SHARED };

struct gofer_sb {
	struct superblock *sb;
	struct gofer_client client;
	enum gofer_cache cache;	 /* const */
	bool uds;		 /* const */
	bool slave; /* const: the host mounts and unmounts below it: no descriptor is kept for later */
	uint64_t root_dev;	 /* const */
	struct mutex table_mu;	 /* LOCK_OBJECT: inode table */
	struct gofer_inode **table; /* by host device and inode number */
	uint32_t table_buckets, table_count;
	struct mutex handle_mu;	 /* LOCK_OBJECT: handles of all inodes, idle list */
	struct list_node idle;	 /* gofer_inode.idle_node: handles kept open without open files */
	_Atomic uint32_t changes; /* operations begun that change names */
	struct mutex prefetch_mu; /* LOCK_OBJECT: prefetched children of all directories */
	struct list_node prefetched; /* prefetch.fs_node, oldest first */
	uint32_t prefetch_count;
	int32_t prefetch_score;	 /* do listed entries get used? positive: mostly */
	uint32_t listings;	 /* read so far */
	struct prefetch **prefetch_table; /* PREFETCH_BUCKETS, by directory and name */
	struct mutex check_mu;	 /* LOCK_OBJECT: exclusive: inodes in the order of their last check */
	struct list_node checked; /* gofer_inode.checked_node, the longest ago first */
	struct gofer_inode *check_next; /* behind those of the last check */
	uint32_t check_window;
	struct gofer_inode *open_next; /* behind those that were opened last */
	uint32_t open_window;
	struct list_node fs_node; /* among all exclusive ones; check.c */
};

/* Bounds of what is kept without being asked for. */
enum {
	HANDLES_IDLE_MAX = 512, /* over all mounts; a mount keeps at least one */
	PREFETCH_MAX = 8192,
	PREFETCH_BUCKETS = 2048,
	PREFETCH_DIR_MAX = 4096, /* entries of one readdir that get inodes ahead */
	LEARN_MAX = 4096, /* entries of a directory whose names are read for misses */
	MISSES_MAX = 4,		 /* after so many a directory's names are read as a whole */
	NAMES_MAX = 16384,	 /* names known of one directory, and of all */
	NAMES_TOTAL_MAX = 65536,
	CHECK_MIN = 4, /* inodes of one check, more when they were needed in that order before */
};

/* For so long what is known of an exclusive tree counts as right. */
#define EXCLUSIVE_VALID_NS 1000000000ll

/* A child that came along with another answer, until lookup asks for it. */
struct prefetch {
	struct list_node dir_node, fs_node;
	struct prefetch *hash_next;
	bool listed; /* came with a listing */
	struct gofer_inode *dir; /* borrowed: the entry goes with it */
	struct inode *inode;	 /* reference; NULL: the name does not exist */
	int64_t when_ns;
	char name[];
};

/* A directory's entries as of one moment. */
struct listing {
	struct refcount refs;
	uint32_t count, capacity;
	struct listing_entry {
		uint64_t ino;
		uint32_t name; /* offset in names */
		uint8_t len, type;
	} *entry;
	char *names;
	uint32_t names_size, names_capacity;
};

/* All names of a directory (names.c). */
struct names;

struct gofer_inode {
	struct inode inode; /* first member */
	struct gofer_sb *fs; /* const */
	struct gofer_inode *table_next; /* fs->table_mu */
	bool in_table;			/* fs->table_mu */
	/* fs->table_mu; they change when an overlay of the host copies the file up. */
	uint64_t host_ino, host_dev;
	struct timespec host_btime; /* tells reused inode numbers apart */
	uint64_t *node; /* fs->table_mu: node references held, one for each known name; node[0] is used */
	uint32_t node_count, node_capacity;
	uint64_t node0; /* storage for one */
	/* Directory: where it is. fs->table_mu; the parent is only compared, never followed. */
	const struct gofer_inode *place_dir;
	uint32_t place_name; /* hash */

	uint64_t blocks;  /* inode.mu */
	uint32_t blksize; /* inode.mu */
	enum { XATTRS_UNKNOWN, XATTRS_NONE, XATTRS_SOME } xattrs; /* exclusive: inode.mu */
	_Atomic bool stale; /* attributes must be asked for again */
	/* Exclusive: */
	struct list_node checked_node; /* fs->check_mu */
	_Atomic uint32_t changes; /* times that attributes were set or touched: answers from before are not used */
	struct timespec seen_ctime; /* inode.mu: the host's, when the attributes were taken */
	bool recent; /* directory, inode.mu: changed so shortly before that its time may not tell the next change */
	_Atomic bool gone; /* its name leads elsewhere */
	/* A file that we made: mode and times that the host gets when it is closed; GOFER_SET_ bits. inode.mu */
	bool made;
	_Atomic uint32_t pending;
	_Atomic int64_t known_ns; /* shared cache: when attributes were last right */
	char *_Atomic target; /* symlink text, set once, owned */

	/* Host descriptors of a regular file, set once while opens or idle keep them. fs->handle_mu;
	 * read without it by holders of an open. */
	int rfd, wfd; /* wfd reads too; -1 */
	uint32_t opens;
	struct list_node idle_node;

	struct mappable mappable;
	struct host_frames *frames; /* made on first use, atomic; one reference */

	struct list_node prefetched; /* directory: fs->prefetch_mu */
	struct listing *listing; /* directory, exclusive: inode.mu; reference, NULL: ask */
	struct names *names; /* directory, exclusive: inode.mu; owned, NULL: not all are known */
	uint32_t misses; /* directory, inode.mu: names asked for that do not exist */
};

/* fstat(2) itself: libc's takes a path-taking call, which the filter forbids. 0 or -1 with errno. */
struct stat;
static inline int fstat_fd(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}

/* The gofer inode behind an inode; the caller knows that it is one. */
struct gofer_inode *gofer_inode_of(struct inode *i);
static inline struct gofer_client *gofer_client_of(struct gofer_inode *gi)
{
	return &gi->fs->client;
}

/* inode.c */
/*
 * The inode for an entry of a reply, found as name in dir (NULL for the root): known or new, one
 * reference. Takes the node reference over. A directory is known by one place only: whatever a
 * broken gofer says, the tree stays a tree and no directory is locked twice.
 */
NODISCARD int gofer_inode_get(struct gofer_sb *fs, const struct gofer_entry *e,
			      struct gofer_inode *dir, const char *name, struct inode **ret_inode);
/* The directory gi is now called name in dir. */
void gofer_inode_placed(struct gofer_inode *gi, struct gofer_inode *dir, const char *name);
/* Copies attributes of the host into the inode, and forgets the names of a directory that others changed.
 * inode.mu held. */
void gofer_inode_update(struct gofer_inode *gi, const struct gofer_attr *a);
/* The same after a change of our own to the directory gd. */
void gofer_dir_changed(struct gofer_inode *gd, const struct gofer_around *around);
/* Nothing that is known of the names of gd can be used without asking. inode.mu held. */
void gofer_names_forget(struct gofer_inode *gd);
uint64_t gofer_ino(const struct gofer_sb *fs, uint64_t dev, uint64_t ino);
uint64_t gofer_node(struct gofer_inode *gi);
/* Gives the host what setattr has kept back. No locks held. */
int gofer_flush(struct gofer_inode *gi);
/* The next stat asks the host again. */
void gofer_inode_touch(struct gofer_inode *gi);
int gofer_refresh(struct inode *i);
extern const struct inode_ops gofer_ops_exclusive, gofer_ops_shared;

/* check.c: exclusive trees that others change now and then */
void check_sb_add(struct gofer_sb *fs);
void check_sb_remove(struct gofer_sb *fs);
void check_add(struct gofer_inode *gi);
void check_remove(struct gofer_inode *gi);
/* Is what is known of the inode too old to be used? */
bool check_due(const struct gofer_inode *gi);
/* Asks what became of gi, and in the same trip of others that will be due. 0, or the gofer is gone. No locks held. */
int gofer_check(struct gofer_inode *gi);
void gofer_verify(struct inode *dir);
/*
 * gi is about to be opened: which files will probably be next? Fills gi[] with references on at most
 * GOFER_AHEAD_MAX that have no descriptor; returns how many.
 */
uint32_t check_open_ahead(struct gofer_inode *gi, struct gofer_inode **ahead);
/* Nothing of fs counts as right any more. */
void check_expire(struct gofer_sb *fs);

/* names.c; no locks of their own: the directory's inode.mu is held */
struct names *names_new(void);
void names_free(struct names *n);
bool names_has(const struct names *n, const char *name);
/* False, and nothing added, when a bound is reached or memory is short. */
bool names_add(struct names *n, const char *name);
void names_remove(struct names *n, const char *name);

/* dir.c */
int gofer_lookup(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode);
int gofer_revalidate(struct inode *dir, const char *name, struct inode *inode);
int gofer_create(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode);
int gofer_mkdir(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode);
int gofer_mknod(struct inode *dir, const char *name, uint32_t mode, dev_t rdev,
		const struct cred *cred, struct inode **ret_inode);
int gofer_symlink(struct inode *dir, const char *name, const char *target,
		const struct cred *cred, struct inode **ret_inode);
int gofer_tmpfile(struct inode *dir, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode);
int gofer_link(struct inode *dir, const char *name, struct inode *target);
int gofer_unlink(struct inode *dir, const char *name, struct inode *victim);
int gofer_rmdir(struct inode *dir, const char *name, struct inode *victim);
int gofer_rename(struct inode *old_dir, const char *old_name, struct inode *inode, struct inode *new_dir,
		 const char *new_name, struct inode *replaced, unsigned flags);

/* readdir.c */
extern const struct file_ops gofer_dir_fops;
void listing_put(struct listing *l);
/* Reads the names of dir, so that further misses need no round trip. dir->mu held. */
void listing_learn(struct gofer_inode *dir);

/* prefetch.c */
/* Keeps an answer (inode reference taken over) unless a change began after fs->changes was `changes`: the
 * change drops what is kept of its names, but only what it finds. */
void prefetch_add(struct gofer_inode *dir, const char *name, struct inode *inode, uint32_t changes,
		  bool listed);
/* Is it worth asking for the inodes of all entries with the next listing? */
bool prefetch_worthwhile(struct gofer_sb *fs);
/* Takes what is known of the name: true with *ret_inode (reference, or NULL: does not exist). */
bool prefetch_take(struct gofer_inode *dir, const char *name, struct inode **ret_inode);
/* Forgets one name (NULL: all) of dir, whose entries changed or which goes away. */
void prefetch_drop(struct gofer_inode *dir, const char *name);
void prefetch_drop_all(struct gofer_sb *fs);

/* file.c */
extern const struct file_ops gofer_file_fops;
int gofer_open(struct inode *i, struct file *f);
/* Keeps a descriptor that came along with another answer, or closes it. */
void gofer_handle_offer(struct gofer_inode *gi, int fd, bool writable);
/* Closes the inode's descriptors; it is going away. */
void gofer_handles_close(struct gofer_inode *gi);
/* A descriptor to ask the host by, valid while the returned pin is held; -1 when none is open. */
int gofer_handle_pin(struct gofer_inode *gi, bool write);
void gofer_handle_unpin(struct gofer_inode *gi);

/* frames.c: the pages of a host file. */
struct host_frames;
extern const struct mappable_ops gofer_mappable_ops;
/* Tells the pages which descriptor to use from now on (-1: none). */
void host_frames_set_fd(struct host_frames *hf, int fd, bool writable);
void host_frames_put(struct host_frames *hf);

#endif
