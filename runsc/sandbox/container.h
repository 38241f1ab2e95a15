/*
 * A container's state on the host: ROOT/ID/ with state.json (replaced by rename), config.json (as it was at
 * create), control.sock. The lock is flock(2) on the directory itself; what changes the state holds
 * it, readers do not need it.
 */
#ifndef RUNSC_SANDBOX_CONTAINER_H
#define RUNSC_SANDBOX_CONTAINER_H

#include <jansson.h>

#include "runsc/cgroup/cgroup.h"
#include "runsc/config/config.h"
#include "runsc/oci/spec.h"

enum container_status { STATUS_CREATING, STATUS_CREATED, STATUS_RUNNING, STATUS_PAUSED, STATUS_STOPPED };

/* A process by id and start time, so that a reused id is not mistaken for it. pid 0: none. */
struct process_id {
	pid_t pid;
	uint64_t start; /* field 22 of /proc/PID/stat */
};

struct container {
	char *id;
	char *sandbox; /* id of the root container whose sandbox it is in; NULL: it has its own */
	char *dir; /* ROOT/ID */
	int dir_fd;
	bool locked;
	enum container_status status; /* as the file says; see container_status_now */
	struct process_id creator;    /* the runsc that creates it */
	struct process_id sentry, gofer;
	char *version, *bundle, *rootfs, *created, *owner;
	struct cgroup cgroup;
	struct strings annotations; /* key, value, ... */
};

/* Checks the form of an id: letters, digits, "_+-." as runc wants it. */
int container_check_id(const char *id, struct error *err);
/*
 * Makes ROOT/ID and takes its lock, status creating. Fails with "container with given ID already exists".
 * What a dead create left under the id is cleaned up first.
 */
int container_make(const struct config *config, const char *id, struct container **ret,
		   struct error *err);
#define CONTAINER_UNKNOWN "container does not exist" /* how the error of an unknown id begins */
/*
 * Loads by id; with abbreviated also by a unique beginning of one. "container does not exist".
 */
int container_load(const struct config *config, const char *id, bool abbreviated,
		   struct container **ret, struct error *err);
/* Ids of all containers below the root directory, sorted. */
int container_list(const struct config *config, struct strings *ret_ids, struct error *err);
/* Takes the lock, waiting at most a minute, and reads the state again. */
int container_lock(struct container *c, struct error *err);
void container_unlock(struct container *c);
/* Writes state.json. The lock is held. */
int container_save(const struct container *c, struct error *err);
/* Frees the object and gives the lock up; NULL is fine. Changes nothing on disk. */
void container_free(struct container *c);
DEFINE_AUTO(container_free, struct container *)

/* ROOT/ID/exit-status takes the wait status of init as 4 bytes; the sentry holds it open for that. */
int container_open_exit_file(const struct container *c, struct error *err);
/* Notes the wait status of an init that is killed with its sandbox. */
int container_note_exit(const struct container *c, int status, struct error *err);
/* Whether init has ended with a status that was told. */
bool container_exit_status(const struct container *c, int *ret_status);
/*
 * What the status is now: by the processes (a zombie does not live), and by the exit status. The sentry is
 * not asked.
 */
enum container_status container_status_now(struct container *c);
const char *container_status_name(enum container_status status);
/* "cannot VERB a container that is in the STATUS state" in runc's words unless status is one of the mask's. */
int container_need(struct container *c, const char *verb, unsigned int mask, struct error *err);
#define STATUS_BIT(status) (1u << (status))

/* The JSON of `state` and of the hooks; pid 0 when stopped. A new reference. */
json_t *container_state_json(const struct container *c, enum container_status status);
/* The element of `list -f json`. */
json_t *container_list_json(const struct container *c, enum container_status status);

/* The config.json saved at create. */
int container_spec(const struct container *c, struct oci_spec *spec, struct error *err);

struct process_id process_id_of(pid_t pid);
bool process_alive(struct process_id id);
/* Whether it was stopped by a signal or a debugger, so that it cannot answer. */
bool process_is_stopped(struct process_id id);
/* SIGKILL (or another) to exactly that process; false when it is gone already. */
bool process_kill(struct process_id id, int signo);
/* Waits until it is gone or a zombie, at most timeout_ms; true when it is. */
bool process_wait_gone(struct process_id id, int timeout_ms);

#endif
