/* urpc: calls, errors, descriptors in batches, deadlines, hostile frames, hang-up while waiting. */
#include "urpc/urpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/host/clock.h"
#include "platform/host/thread.h"
#include "urpc/frame_priv.h"

static int passed, failed;
#define CHECK(c) ((c) ? passed++ : (failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

static _Atomic int hung_up;

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 2048; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* The server closes its side on its own thread: gives it time. */
static bool fds_settle(int most)
{
	for (int i = 0; i < 200 && count_fds() > most; i++)
		usleep(10000);
	return count_fds() <= most;
}

static int handle_state(struct urpc_request *req, const Urpc__ContainerId *arg,
			Urpc__RuntimeState *result)
{
	if (strcmp(arg->id, "box") != 0)
		return urpc_fail(req, -ENOENT, "no container %s", arg->id);
	result->state = URPC__RUNTIME_STATE__STATE__RUNNING;
	result->init_host_pid = (int)req->fd_count;
	return 0;
}

/* Writes one byte into each descriptor it was given, so that the caller sees the order. */
static int handle_create(struct urpc_request *req, const Urpc__Container *arg, Urpc__Empty *result)
{
	(void)arg;
	(void)result;
	for (size_t i = 0; i < req->fd_count; i++) {
		int fd = i % 2 ? req->fds[i] : urpc_take_fd(req, i);
		uint32_t n = (uint32_t)i;

		if (write(fd, &n, sizeof(n)) != sizeof(n))
			return -EIO;
		if (i % 2 == 0)
			close(fd);
	}
	return 0;
}

static int handle_wait(struct urpc_request *req, const Urpc__ContainerId *arg,
		       Urpc__WaitStatus *result)
{
	struct pollfd pfd = { .fd = req->conn_fd, .events = POLLRDHUP };

	(void)arg;
	(void)result;
	poll(&pfd, 1, 60000);
	hung_up = (pfd.revents & POLLRDHUP) != 0;
	return 0;
}

static int handle_stacks(struct urpc_request *req, const Urpc__Empty *arg, Urpc__Stacks *result)
{
	enum { SIZE = 3 << 20 };

	(void)req;
	(void)arg;
	result->text = malloc(SIZE + 1);
	memset(result->text, 'x', SIZE);
	result->text[SIZE] = 0;
	return 0;
}

static const struct urpc_handlers handlers = {
	.containerManager_ContainerRuntimeState = handle_state,
	.containerManager_CreateRoot = handle_create,
	.containerManager_Wait = handle_wait,
	.debug_Stacks = handle_stacks,
};

static void *serve(void *arg)
{
	int fd = *(int *)arg;

	free(arg);
	urpc_serve_connection(fd, &handlers, NULL);
	return NULL;
}

/* A connection to a serving thread; the raw socket is the result. */
static int raw_connection(void)
{
	int sv[2], *p = malloc(sizeof(*p));

	if (!p || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		abort();
	*p = sv[1];
	if (host_thread_start("serve", HOST_THREAD_STACK, serve, p) < 0)
		abort();
	return sv[0];
}

static struct urpc_client *connection(void)
{
	struct urpc_client *c;

	if (urpc_connect_fd(raw_connection(), &c) < 0)
		abort();
	return c;
}

static void test_calls(void)
{
	struct urpc_client *c = connection();
	Urpc__ContainerId id;
	Urpc__RuntimeState *state = NULL;
	Urpc__Stacks *stacks = NULL;
	Urpc__Empty empty;
	char box[] = "box", other[] = "other";

	urpc__container_id__init(&id);
	urpc__empty__init(&empty);
	id.id = box;
	CHECK(urpc_containerManager_ContainerRuntimeState(c, &id, NULL, 0, &state) == 0);
	CHECK(state && state->state == URPC__RUNTIME_STATE__STATE__RUNNING);
	urpc_message_free(&state->base);
	id.id = other;
	CHECK(urpc_containerManager_ContainerRuntimeState(c, &id, NULL, 0, &state) == -ENOENT);
	CHECK(strcmp(urpc_client_message(c), "no container other") == 0 && !urpc_client_broken(c));
	CHECK(urpc_containerManager_Resume(c, &id, NULL, 0, NULL) == -ENOSYS);
	CHECK(urpc_debug_Stacks(c, &empty, NULL, 0, &stacks) == 0);
	CHECK(stacks && strlen(stacks->text) == 3 << 20);
	urpc_message_free(&stacks->base);
	CHECK(urpc_call(c, 999, &empty.base, NULL, 0, 1000, NULL, NULL) == -ENOSYS);
	urpc_client_free(c);
	urpc_client_free(NULL);
	CHECK(strcmp(urpc_method_name(8), "containerManager.Signal") == 0);
	CHECK(strcmp(urpc_method_name(9999), "?") == 0);
}

static void test_descriptors(size_t count)
{
	struct urpc_client *c = connection();
	Urpc__Container container;
	int before = count_fds(), p[2], *fds = calloc(count, sizeof(int));
	bool good = true;
	uint32_t n;

	urpc__container__init(&container);
	if (!fds || pipe2(p, O_CLOEXEC) < 0)
		abort();
	for (size_t i = 0; i < count; i++)
		fds[i] = p[1];
	CHECK(urpc_containerManager_CreateRoot(c, &container, fds, count, NULL) == 0);
	for (size_t i = 0; i < count; i++)
		good = good && read(p[0], &n, sizeof(n)) == sizeof(n) && n == i;
	CHECK(good);
	close(p[0]);
	close(p[1]);
	CHECK(fds_settle(before));
	CHECK(urpc_containerManager_CreateRoot(c, &container, fds, URPC_MAX_FDS + 1, NULL) == -E2BIG);
	urpc_client_free(c);
	free(fds);
}

static void test_deadline_and_hangup(void)
{
	struct urpc_client *c = connection();
	Urpc__ContainerId id;
	Urpc__WaitStatus *status = NULL;
	int64_t start = host_monotonic_ns();

	urpc__container_id__init(&id);
	CHECK(urpc_call(c, URPC_containerManager_Wait, &id.base, NULL, 0, 50,
			&urpc__wait_status__descriptor, NULL) == -ETIMEDOUT);
	CHECK(host_monotonic_ns() - start < 2000000000 && urpc_client_broken(c));
	CHECK(urpc_containerManager_Wait(c, &id, NULL, 0, &status) == -ENOTCONN && !status);
	for (int i = 0; i < 200 && !hung_up; i++)
		usleep(10000);
	CHECK(hung_up);
	urpc_client_free(c);
}

/* The server ends the connection on a frame that is wrong and leaves no descriptor behind. */
static void test_bad_frame(uint32_t size, uint16_t fd_count, int sent_fds)
{
	int fd = raw_connection(), before = count_fds();
	uint8_t header[12] = { 0 }, byte;
	struct iovec iov = { header, sizeof(header) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	memcpy(header, &size, 4);
	header[4] = 13;
	memcpy(header + 6, &fd_count, 2);
	if (sent_fds > 0) {
		int fds[4] = { 0, 0, 0, 0 };

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE((size_t)sent_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)sent_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)sent_fds * sizeof(int));
	}
	CHECK(sendmsg(fd, &msg, 0) == sizeof(header));
	CHECK(recv(fd, &byte, 1, 0) == 0);
	close(fd);
	CHECK(count_fds() == before - 2);
}

static struct urpc_server *server;

/* A server that cannot accept for want of descriptors goes on when there are some. */
static void test_no_descriptors(const struct sockaddr_un *addr, const _Atomic int *done)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), filler[64], count = 0;
	struct rlimit old, low;
	struct urpc_client *c;
	Urpc__ContainerId id;
	char box[] = "box";

	if (getrlimit(RLIMIT_NOFILE, &old) < 0)
		abort();
	low = (struct rlimit){ 40, old.rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	while (count < 64 && (filler[count] = dup(fd)) >= 0)
		count++;
	CHECK(count > 0 && count < 64);
	CHECK(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0);
	usleep(100000);
	while (count > 0)
		close(filler[--count]);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	if (urpc_connect_fd(fd, &c) < 0)
		abort();
	urpc__container_id__init(&id);
	id.id = box;
	CHECK(urpc_containerManager_ContainerRuntimeState(c, &id, NULL, 0, NULL) == 0);
	CHECK(*done == 0);
	urpc_client_free(c);
}

static void *wait_long(void *arg)
{
	Urpc__ContainerId id;

	urpc__container_id__init(&id);
	/* the call that looks whether all have come may have had this one's place */
	while (urpc_containerManager_Wait(arg, &id, NULL, 0, NULL) == -EAGAIN)
		poll(NULL, 0, 1);
	return NULL;
}

/* However many wait, others are answered. */
static void test_many_waits(const char *path)
{
	static struct urpc_client *waiting[URPC_MAX_WAITS];
	struct urpc_client *c = NULL;
	Urpc__ContainerId id;
	char box[] = "box";
	struct rlimit files;
	int err = 0;

	/* both ends of each are here */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		abort();
	files.rlim_cur = files.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
	urpc__container_id__init(&id);
	id.id = box;
	for (size_t i = 0; i < URPC_MAX_WAITS; i++) {
		/* one after the other: the queue of those to be accepted is short */
		if (urpc_connect(path, &waiting[i]) < 0 ||
		    urpc_containerManager_ContainerRuntimeState(waiting[i], &id, NULL, 0, NULL) < 0 ||
		    host_thread_start("wait", HOST_THREAD_STACK, wait_long, waiting[i]) < 0)
			abort();
	}
	/* until all of them have come */
	for (int i = 0; i < 100 && err != -EAGAIN; i++) {
		urpc_client_free(c);
		if (urpc_connect(path, &c) < 0)
			abort();
		err = urpc_call(c, URPC_containerManager_Wait, &id.base, NULL, 0, 100, &urpc__wait_status__descriptor, NULL);
	}
	CHECK(err == -EAGAIN);
	CHECK(urpc_containerManager_ContainerRuntimeState(c, &id, NULL, 0, NULL) == 0);
	urpc_client_free(c);
}

static void *run_server(void *arg)
{
	*(_Atomic int *)arg = 1 + urpc_server_run(server);
	return NULL;
}

static void test_server(void)
{
	static _Atomic int done;
	char dir[] = "/tmp/urpc-test-XXXXXX", path[400], name[120];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct urpc_client *c = NULL;
	Urpc__ContainerId id;
	char box[] = "box";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	/* A path longer than sun_path. */
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	if (!mkdtemp(dir) || chdir(dir) < 0 || mkdir(name, 0700) < 0 || chdir(name) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/%s/control.sock", dir, name);
	strcpy(addr.sun_path, "control.sock");
	CHECK(urpc_connect(path, &c) == -ENOENT);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0)
		abort();
	CHECK(urpc_server_new(fd, &handlers, NULL, &server) == 0);
	CHECK(host_thread_start("server", HOST_THREAD_STACK, run_server, &done) == 0);
	err = urpc_connect(path, &c);
	CHECK(err == 0);
	urpc__container_id__init(&id);
	id.id = box;
	if (err == 0)
		CHECK(urpc_containerManager_ContainerRuntimeState(c, &id, NULL, 0, NULL) == 0);
	urpc_client_free(c);
	test_no_descriptors(&addr, &done);
	test_many_waits(path);
	urpc_server_stop(server);
	for (int i = 0; i < 200 && !done; i++)
		usleep(10000);
	CHECK(done == 1);
	close(fd);
	CHECK(urpc_connect(path, &c) == -ECONNREFUSED);
	unlink(path);
	if (chdir("/") == 0) {
		path[strlen(path) - strlen("/control.sock")] = 0;
		rmdir(path);
		rmdir(dir);
	}
}

static void test_peer_dies(void)
{
	struct urpc_client *c;
	Urpc__Empty empty;
	int sv[2];

	urpc__empty__init(&empty);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		abort();
	CHECK(urpc_connect_fd(sv[0], &c) == 0);
	close(sv[1]);
	CHECK(urpc_debug_Stacks(c, &empty, NULL, 0, NULL) == -ECONNRESET);
	CHECK(strcmp(urpc_client_message(c), "debug.Stacks: the sandbox has gone") == 0);
	urpc_client_free(c);
}

int main(void)
{
	test_calls();
	test_descriptors(3);
	test_descriptors(URPC_FD_BATCH + 1);
	test_descriptors(URPC_MAX_FDS);
	test_deadline_and_hangup();
	test_bad_frame(URPC_MAX_SIZE + 1, 0, 0);
	test_bad_frame(0, URPC_MAX_FDS + 1, 0);
	test_bad_frame(0, 1, 3);
	test_bad_frame(0, 0, 1);
	test_server();
	test_peer_dies();
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
