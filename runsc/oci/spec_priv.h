/* Shared by the files that parse config.json. */
#ifndef RUNSC_OCI_SPEC_PRIV_H
#define RUNSC_OCI_SPEC_PRIV_H

#include "runsc/oci/spec.h"

void spec_parse_process(struct document *doc, const struct node *node, struct oci_process *process);
void spec_parse_linux(struct document *doc, const struct node *node, struct oci_spec *spec);
void spec_parse_resources(struct document *doc, const struct node *node, struct oci_resources *ret);
/* Sorts the option words of a mount into flags, propagation and data. */
void spec_parse_mount_options(struct document *doc, const struct node *node, struct oci_mount *mount,
			      struct oci_strings words);

#endif
