/* config.json files that runsc writes itself: for `spec` and for `do`. */
#ifndef RUNSC_OCI_TEMPLATE_H
#define RUNSC_OCI_TEMPLATE_H

#include <jansson.h>

#include "runsc/oci/spec.h"

struct template_args {
	char *const *args; /* NULL-terminated; NULL: sh */
	char *const *env;  /* NULL: PATH and TERM */
	const char *cwd;
	const char *root;
	const char *hostname;
	const char *net_path; /* of the network namespace; NULL: a new one */
	bool terminal, root_readonly;
	bool all_capabilities;
	bool masked; /* the masked and read-only paths that engines use */
	bool rootless;
	bool shared_pids; /* no pid namespace: signals end the program although it is the first */
};

/* A new reference, or NULL when some text is not UTF-8. */
json_t *template_json(const struct template_args *args);
/* Adds a bind mount: SOURCE and DESTINATION are absolute, readonly as it says. */
int template_add_bind(json_t *spec, const char *source, const char *destination, bool readonly);

#endif
