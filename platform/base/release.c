#include "platform/base/release.h"

const struct release_note release_note __attribute__((section(".note.runsc"), aligned(4), used)) = {
	.header = { sizeof(RELEASE_NOTE_NAME), sizeof(release_note.release), RELEASE_NOTE_TYPE },
	.name = RELEASE_NOTE_NAME,
	.release = RELEASE,
};
