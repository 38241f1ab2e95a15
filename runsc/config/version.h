/* What --version prints. */
#ifndef RUNSC_CONFIG_VERSION_H
#define RUNSC_CONFIG_VERSION_H

#include "platform/base/release.h"

#define RUNSC_VERSION RELEASE
#define RUNSC_SPEC_VERSION "1.2.0" /* of the OCI runtime specification */

#endif
