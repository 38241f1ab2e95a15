#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/host/clock.h"
#include "urpc/frame_priv.h"
#include "urpc/urpc.h"

struct urpc_client {
	int fd; /* -1: the connection failed */
	uint32_t sequence;
	bool broken;
	char message[512];
};

/* Fills addr with path, or with a path through the descriptor of its directory when it is too long. */
static int fill_address(const char *path, struct sockaddr_un *addr, int *ret_dir_fd)
{
	const char *slash = strrchr(path, '/');
	char *dir;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(addr->sun_path)) {
		memcpy(addr->sun_path, path, strlen(path));
		return 0;
	}
	if (!slash || strlen(slash) > 64)
		return -ENAMETOOLONG;
	dir = strndup(path, (size_t)(slash - path) + 1);
	if (!dir)
		return -ENOMEM;
	*ret_dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (*ret_dir_fd < 0)
		return -errno;
	snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d%s", *ret_dir_fd, slash);
	return 0;
}

int urpc_connect(const char *path, struct urpc_client **ret_client)
{
	struct sockaddr_un addr;
	int fd = -1, dir_fd = -1, err;

	err = fill_address(path, &addr, &dir_fd);
	if (err < 0)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err = -errno;
	if (dir_fd >= 0)
		close(dir_fd);
	if (err < 0) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	return urpc_connect_fd(fd, ret_client);
}

int urpc_connect_fd(int fd, struct urpc_client **ret_client)
{
	struct urpc_client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(fd);
		return -ENOMEM;
	}
	client->fd = fd;
	*ret_client = client;
	return 0;
}

void urpc_client_free(struct urpc_client *client)
{
	if (!client)
		return;
	if (client->fd >= 0)
		close(client->fd);
	free(client);
}

const char *urpc_client_message(const struct urpc_client *client)
{
	return client->message;
}

bool urpc_client_broken(const struct urpc_client *client)
{
	return client->broken;
}

int urpc_client_fd(const struct urpc_client *client)
{
	return client->fd;
}

/* Ends the connection after an error on it. */
static int client_break(struct urpc_client *client, uint16_t method, int err)
{
	const char *why = err == -ECONNRESET ? "the sandbox has gone" :
			  err == -ETIMEDOUT  ? "no answer from the sandbox in time" :
					       strerror(-err);

	client->broken = true;
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	snprintf(client->message, sizeof(client->message), "%s: %s", urpc_method_name(method), why);
	return err;
}

/* Opens a Reply: the method's error, or its result. */
static int read_reply(struct urpc_client *client, uint16_t method, const struct urpc_frame *frame,
		      const ProtobufCMessageDescriptor *result_type, ProtobufCMessage **ret_result)
{
	Urpc__Reply *reply = urpc__reply__unpack(NULL, frame->size, frame->payload);
	ProtobufCMessage *result;
	int err = 0;

	if (!reply)
		return client_break(client, method, -EPROTO);
	if (reply->error != 0) {
		err = reply->error < 4096 ? -(int)reply->error : -EPROTO;
		if (reply->message && reply->message[0])
			snprintf(client->message, sizeof(client->message), "%s", reply->message);
		else
			snprintf(client->message, sizeof(client->message), "%s: %s",
				 urpc_method_name(method), strerror(-err));
	} else if (ret_result) {
		result = protobuf_c_message_unpack(result_type, NULL, reply->result.len,
						   reply->result.data);
		if (result)
			*ret_result = result;
		else
			err = client_break(client, method, -EPROTO);
	}
	urpc__reply__free_unpacked(reply, NULL);
	return err;
}

int urpc_call(struct urpc_client *client, uint16_t method, const ProtobufCMessage *arg,
	      const int *fds, size_t fd_count, int deadline_ms,
	      const ProtobufCMessageDescriptor *result_type, ProtobufCMessage **ret_result)
{
	int64_t deadline = deadline_ms ? host_monotonic_ns() + deadline_ms * 1000000ll : INT64_MAX;
	size_t size = protobuf_c_message_get_packed_size(arg);
	struct urpc_frame frame = { 0 };
	uint8_t *packed;
	int err;

	client->message[0] = 0;
	client->broken = false;
	if (client->fd < 0)
		return client_break(client, method, -ENOTCONN);
	if (size > URPC_MAX_SIZE || fd_count > URPC_MAX_FDS) {
		snprintf(client->message, sizeof(client->message), "%s: argument is too big",
			 urpc_method_name(method));
		return -E2BIG;
	}
	packed = malloc(size ? size : 1);
	if (!packed)
		return -ENOMEM;
	protobuf_c_message_pack(arg, packed);
	err = urpc_frame_send(client->fd, method, ++client->sequence, packed, size, fds, fd_count,
			      deadline);
	free(packed);
	if (err == 0)
		err = urpc_frame_recv(client->fd, deadline, &frame);
	if (err == 0 && (frame.method != method || frame.sequence != client->sequence))
		err = -EPROTO;
	if (err < 0)
		err = client_break(client, method, err);
	else
		err = read_reply(client, method, &frame, result_type, ret_result);
	urpc_frame_fini(&frame);
	return err;
}

/* The generic result pointer is assigned through its own type: no cast between pointer types. */
#define METHOD(id, object, name, arg_type, result_type, deadline_ms)                               \
	int urpc_##object##_##name(struct urpc_client *client, const URPC_TYPE(arg_type) * arg,    \
				   const int *fds, size_t fd_count,                                \
				   URPC_TYPE(result_type) * *ret_result)                           \
	{                                                                                          \
		ProtobufCMessage *result = NULL;                                                   \
		int err = urpc_call(client, (id), &arg->base, fds, fd_count, (deadline_ms),        \
				    &urpc__##result_type##__descriptor,                            \
				    ret_result ? &result : NULL);                                  \
                                                                                                   \
		if (err == 0 && ret_result)                                                        \
			*ret_result = container_of(result, URPC_TYPE(result_type), base);          \
		return err;                                                                        \
	}
#include "urpc/methods.def"
#undef METHOD
