/*
 * The release that a program was built from. It stands as an ELF note in every program, so that runsc can
 * refuse helpers of another release before it runs them.
 */
#ifndef PLATFORM_BASE_RELEASE_H
#define PLATFORM_BASE_RELEASE_H

#include <elf.h>

#define RELEASE "0.1.0"

#define RELEASE_NOTE_NAME "runsc"
#define RELEASE_NOTE_TYPE 1
struct release_note {
	Elf64_Nhdr header;
	char name[8]; /* padded to a multiple of 4 */
	char release[32];
};
extern const struct release_note release_note;

#endif
