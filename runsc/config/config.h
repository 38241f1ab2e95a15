/* The global options of one invocation, and the log that they ask for. */
#ifndef RUNSC_CONFIG_CONFIG_H
#define RUNSC_CONFIG_CONFIG_H

#include "runsc/config/options.h"
#include "runsc/config/util.h"

/* One field for each FLAG row of global.def; strings point into argv. */
struct config {
#define FLAG(kind, name, alias, field, type, default_value, value, help) type field;
#define ACCEPTED(kind, name, value, help)
#define UNAVAILABLE(kind, name, value, why)
#include "runsc/config/global.def"
#undef FLAG
#undef ACCEPTED
#undef UNAVAILABLE
	const char *command; /* name of the command that runs */
	char *root_dir;	     /* --root or its default; heap, freed by main */
	bool log_is_plain;   /* no debug log: warnings and the error go to --log, if there is one */
};

extern const struct option_row config_rows[];
extern const size_t config_row_count;

/* Fills the defaults. */
void config_init(struct config *config);
/* Checks values that the table cannot, finds root_dir, opens the log. */
int config_finish(struct config *config, const char *command, const char *id, struct error *err);

#define ANNOTATION_FLAG "dev.gvisor.flag." /* + NAME: an annotation of config.json that sets option NAME */
/*
 * Sets a global option from an annotation. Without --allow-flag-override only the options that a container's author
 * may choose. value stays referenced.
 */
int config_override(struct config *config, const char *name, const char *value, struct error *err);

/* Whether --debug-log or --debug-log-fd asks for a log of this process (see below), and --debug-command allows it. */
bool config_has_debug_log(const struct config *config, const char *command);
/* Opens the file of --panic-log in the same way; -1 when there is none. */
int config_open_panic_log(const struct config *config, const char *command, const char *id);
/*
 * Opens the debug log of one process (command: "boot" for the sentry, "gofer") of a container.
 * Returns a descriptor that the caller owns, or -1 when none is asked for or it cannot be had.
 */
int config_open_debug_log(const struct config *config, const char *command, const char *id);

/*
 * Reports the error that ends the program: one line on stderr and one in --log (JSON: level, msg,
 * time, the form that engines read).
 */
void config_report(const struct config *config, const struct error *err);

/* --overlay2: whether an overlay covers the root file system and the bind mounts, and how much it may hold. */
struct overlay_choice {
	bool root, all, self;
	uint64_t size; /* bytes; 0: no limit */
};
/* What --overlay2 says; without it there is none. -1 when it has no such form. */
int config_overlay(const struct config *config, struct overlay_choice *ret, struct error *err);

#endif
