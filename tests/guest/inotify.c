/* inotify. */
#include "tests/lib/guest.h"

#include <sys/inotify.h>
#include <sys/ioctl.h>

static char events[4096];
static size_t event_size, event_at;

/* The next queued event, or NULL. */
static struct inotify_event *next_event(int fd)
{
	if (event_at >= event_size) {
		ssize_t got = read(fd, events, sizeof(events));
		if (got <= 0)
			return NULL;
		event_size = (size_t)got;
		event_at = 0;
	}
	struct inotify_event *event = (void *)(events + event_at);
	event_at += sizeof(*event) + event->len;
	return event;
}

#define EXPECT(fd, want_mask, want_name)                                                           \
	do {                                                                                       \
		struct inotify_event *ev_ = next_event(fd);                                        \
		CHECK(ev_ != NULL);                                                                \
		CHECK_EQ(ev_->mask, want_mask);                                                    \
		CHECK_STR(ev_->len ? ev_->name : "", want_name);                                   \
	} while (0)

TEST(directory_events)
{
	int fd = OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));

	OK(mkdir("d", 0755));
	CHECK_EQ(inotify_add_watch(fd, "d", IN_ALL_EVENTS & ~(IN_ACCESS | IN_OPEN)), 1);
	CHECK(next_event(fd) == NULL && errno == EAGAIN);
	write_file("d/f", "x");
	EXPECT(fd, IN_CREATE, "f");
	EXPECT(fd, IN_MODIFY, "f");
	EXPECT(fd, IN_CLOSE_WRITE, "f");
	OK(chmod("d/f", 0600));
	EXPECT(fd, IN_ATTRIB, "f");
	OK(mkdir("d/sub", 0755));
	EXPECT(fd, IN_CREATE | IN_ISDIR, "sub");
	OK(unlink("d/f"));
	EXPECT(fd, IN_DELETE, "f");
	OK(rmdir("d/sub"));
	EXPECT(fd, IN_DELETE | IN_ISDIR, "sub");
}

TEST(rename_cookies)
{
	int fd = OK(inotify_init1(IN_NONBLOCK));

	write_file("a", "x");
	OK(inotify_add_watch(fd, ".", IN_MOVE));
	OK(rename("a", "b"));
	struct inotify_event *event = next_event(fd);
	CHECK(event && event->mask == IN_MOVED_FROM && event->cookie != 0);
	uint32_t cookie = event->cookie;
	event = next_event(fd);
	CHECK(event && event->mask == IN_MOVED_TO);
	CHECK_EQ(event->cookie, cookie);
	CHECK_STR(event->name, "b");
}

TEST(self_events_and_ignored)
{
	int fd = OK(inotify_init1(IN_NONBLOCK));

	write_file("f", "x");
	OK(inotify_add_watch(fd, "f", IN_DELETE_SELF | IN_ATTRIB | IN_MOVE_SELF));
	OK(rename("f", "g"));
	EXPECT(fd, IN_MOVE_SELF, "");
	OK(unlink("g"));
	EXPECT(fd, IN_ATTRIB, "");
	EXPECT(fd, IN_DELETE_SELF, "");
	EXPECT(fd, IN_IGNORED, "");
}

TEST(remove_watch_and_errors)
{
	int fd = OK(inotify_init1(IN_NONBLOCK));
	int wd = OK(inotify_add_watch(fd, ".", IN_CREATE));

	OK(inotify_rm_watch(fd, wd));
	EXPECT(fd, IN_IGNORED, "");
	ERR(inotify_rm_watch(fd, wd), EINVAL);
	ERR(inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
	ERR(inotify_add_watch(fd, ".", 0), EINVAL);
	ERR(inotify_add_watch(0, ".", IN_CREATE), EINVAL);
	ERR(inotify_add_watch(99, ".", IN_CREATE), EBADF);
	ERR(inotify_init1(1), EINVAL);
	write_file("f", "x");
	ERR(inotify_add_watch(fd, "f", IN_CREATE | IN_ONLYDIR), ENOTDIR);
}

TEST(same_watch_again)
{
	int fd = OK(inotify_init1(IN_NONBLOCK));
	int wd = OK(inotify_add_watch(fd, ".", IN_CREATE));

	CHECK_EQ(inotify_add_watch(fd, ".", IN_DELETE), wd);
	close(OK(open("f", O_CREAT | O_WRONLY, 0644)));
	CHECK(next_event(fd) == NULL);
	CHECK_EQ(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_ADD), wd);
	close(OK(open("g", O_CREAT | O_WRONLY, 0644)));
	EXPECT(fd, IN_CREATE, "g");
	OK(unlink("g"));
	EXPECT(fd, IN_DELETE, "g");
	ERR(inotify_add_watch(fd, ".", IN_CREATE | IN_MASK_CREATE), EEXIST);
}

TEST(small_buffer_and_merge)
{
	int fd = OK(inotify_init1(IN_NONBLOCK)), size;
	char small[16];

	OK(inotify_add_watch(fd, ".", IN_MODIFY));
	int file = OK(open("f", O_CREAT | O_WRONLY, 0644));
	CHECK_EQ(write(file, "a", 1), 1);
	CHECK_EQ(write(file, "b", 1), 1);
	OK(ioctl(fd, FIONREAD, &size));
	CHECK_EQ(size, 32);
	ERR(read(fd, small, sizeof(small)), EINVAL);
	EXPECT(fd, IN_MODIFY, "f");
	CHECK(next_event(fd) == NULL);
}

TEST(poll_and_block)
{
	int fd = OK(inotify_init());
	struct pollfd pfd = { fd, POLLIN, 0 };

	OK(inotify_add_watch(fd, ".", IN_CREATE));
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHILD(pid)
	{
		msleep(20);
		close(OK(open("f", O_CREAT | O_WRONLY, 0644)));
	}
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	EXPECT(fd, IN_CREATE, "f");
	WAIT_EXIT(pid, 0);
}

TEST(oneshot)
{
	int fd = OK(inotify_init1(IN_NONBLOCK));

	OK(inotify_add_watch(fd, ".", IN_CREATE | IN_ONESHOT));
	close(OK(open("f", O_CREAT | O_WRONLY, 0644)));
	EXPECT(fd, IN_CREATE, "f");
	EXPECT(fd, IN_IGNORED, "");
	close(OK(open("g", O_CREAT | O_WRONLY, 0644)));
	CHECK(next_event(fd) == NULL);
}
