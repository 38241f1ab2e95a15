/* Several threads change one tree at once: nothing may crash, leak or hang, and the tree stays a tree. */
#include <pthread.h>

#include "tests/unit/vfs_fixture.h"

#define THREADS 4
#define ROUNDS 8000

static const char *const dirs[] = { "/a", "/a/b", "/a/b/c", "/d", "/d/e", "/m" };
static const char *const names[] = { "x", "y", "z", "sub", "link" };

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void some_path(uint32_t *seed, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s", dirs[next(seed) % ARRAY_COUNT(dirs)], names[next(seed) % ARRAY_COUNT(names)]);
}

static void one_file(uint32_t *seed, const char *name)
{
	char buf[64];
	struct file *f;
	struct listing l = { .d = { listing_emit }, .max = 8 };

	if (vfs_open(&w, name, WALK_FOLLOW, (next(seed) & 1 ? O_CREAT : 0) | O_RDWR, 0644, &f) == 0) {
		(void)!write_at(f, "some text", 9, next(seed) % 10000);
		(void)!read_at(f, buf, sizeof(buf), 0);
		(void)!file_truncate(f, next(seed) % 20000, w.cred);
		file_put(f);
	}
	if (vfs_open(&w, dirs[next(seed) % ARRAY_COUNT(dirs)], 0, O_RDONLY | O_DIRECTORY, 0, &f) == 0) {
		(void)!file_iterate(f, &l.d);
		file_put(f);
	}
}

static void *worker(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg * 7919;
	char from[64], to[64], text[256];
	struct path p;

	for (int i = 0; i < ROUNDS; i++) {
		some_path(&seed, from, sizeof(from));
		some_path(&seed, to, sizeof(to));
		switch (next(&seed) % 12) {
		case 0: (void)!vfs_mkdir(&w, from, 0755); break;
		case 1: (void)!vfs_rmdir(&w, from); break;
		case 2: (void)!vfs_unlink(&w, from); break;
		case 3: (void)!vfs_rename(&w, from, &w, to, 0); break;
		case 4: (void)!vfs_rename(&w, from, &w, to, RENAME_EXCHANGE); break;
		case 5: (void)!vfs_link(&w, from, 0, &w, to); break;
		case 6: (void)!vfs_symlink(&w, to, from); break;
		case 7: (void)!vfs_mount(&w, "x", "/m", "tmpfs", 0, NULL); break;
		case 8: (void)!vfs_umount(&w, "/m", next(&seed) & 1 ? MNT_DETACH : 0); break;
		case 9:
			if (vfs_walk(&w, from, WALK_FOLLOW, &p) == 0) {
				(void)!vfs_path_text(&p, &w.root, text, sizeof(text), NULL);
				path_put(&p);
			}
			break;
		default: one_file(&seed, from); break;
		}
	}
	return NULL;
}

TEST_TIMED(threads_change_one_tree, 120)
{
	pthread_t thread[THREADS];

	start();
	for (size_t i = 0; i < ARRAY_COUNT(dirs); i++)
		CHECK_EQ(vfs_mkdir(&w, dirs[i], 0755), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, worker, (void *)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	while (vfs_umount(&w, "/m", 0) == 0)
		;
	CHECK_EQ(walk_error(&w, "/m", 0), 0);
	CHECK(strstr(list("/", 100), " m ") != NULL);
}
