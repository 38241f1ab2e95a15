/* libFuzzer harness of the ELF parser: what it accepts must keep its promises to sentry/loader/map.c. */
#include <stdlib.h>

#include "sentry/loader/loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elf_image e;
	size_t need = 0;
	int r = elf_parse(data, size, &e, &need);

	if (r == -E2BIG) {
		if (need <= size || need > (1u << 20))
			abort();
		return 0;
	}
	if (r < 0)
		return 0;
	if (e.segment_count == 0 || e.segment_count > ELF_SEGMENTS_MAX || e.low >= e.high || e.high > (1ull << 47) + 4096)
		abort();
	for (unsigned i = 0; i < e.segment_count; i++) {
		const struct elf_segment *s = &e.segment[i];

		if (s->vaddr < e.low || s->vaddr + s->mem_size > e.high || s->file_size > s->mem_size ||
		    (s->vaddr & 4095) != (s->file_offset & 4095))
			abort();
	}
	return 0;
}
