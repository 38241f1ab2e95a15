/* The vDSO's pages: the image is copied once into guest memory frames that every process maps. */
#include <errno.h>
#include <string.h>

#include "sentry/core/mappable.h"
#include "sentry/core/uaddr.h"
#include "sentry/time/clock.h"
#include "sentry/time/time_priv.h"

extern const uint8_t vdso_image[], vdso_image_end[];

static struct frame_run data_run, code_run;

int vdso_init(uint32_t cpus)
{
	uint64_t size = ALIGN_UP((uint64_t)(vdso_image_end - vdso_image), GUEST_PAGE_SIZE), got;
	uint8_t *p;
	int r;

	r = memfile_alloc(main_memfile, GUEST_PAGE_SIZE, MEMFILE_ANON, &data_run);
	if (r < 0)
		return r;
	r = memfile_alloc(main_memfile, size, MEMFILE_ANON, &code_run);
	if (r < 0)
		return r;
	if (code_run.size < size)
		return -ENOMEM;
	p = code_run.ff->ops->window(code_run.ff, code_run.offset, size, &got);
	if (!p || got < size)
		return -ENOMEM;
	memcpy(p, vdso_image, (size_t)(vdso_image_end - vdso_image));
	p = data_run.ff->ops->window(data_run.ff, data_run.offset, GUEST_PAGE_SIZE, &got);
	if (!p)
		return -ENOMEM;
	clock_share_page(p, cpus);
	return 0;
}

void vdso_frames(struct frame_run *ret_data, struct frame_run *ret_code)
{
	*ret_data = data_run;
	*ret_code = code_run;
	data_run.ff->ops->get(data_run.ff, data_run.offset, data_run.size);
	code_run.ff->ops->get(code_run.ff, code_run.offset, code_run.size);
}
