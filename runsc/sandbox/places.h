/* Where mounts go: directories and files that config.json wants something mounted on. */
#ifndef RUNSC_SANDBOX_PLACES_H
#define RUNSC_SANDBOX_PLACES_H

#include "runsc/oci/spec.h"

/*
 * Makes what is missing of the places of spec's mounts in the root file system, as runc does: directories, or an
 * empty file for a mount of which is_file says so. Places below another mount are not made: they are within
 * that. Resolves within rootfs, whose symbolic links are the container's. What cannot be made is left to
 * the sentry, which says why the mount failed.
 */
void places_make(const char *rootfs, const struct oci_spec *spec, const bool *is_file);

#endif
