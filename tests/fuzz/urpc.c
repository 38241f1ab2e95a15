/*
 * libFuzzer harness of urpc: the input's first byte picks the side. A server reads the rest as frames
 * from a hostile client, or a client reads it as the reply of a hostile server. Handlers walk
 * every field of their argument, so that the sanitizers see each of them.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "urpc/urpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static int take_container(struct urpc_request *req, const Urpc__Container *arg, Urpc__Empty *result)
{
	(void)result;
	sink += strlen(arg->id) + strlen(arg->hostname) + req->fd_count;
	for (size_t i = 0; i < arg->n_mounts; i++) {
		for (size_t j = 0; j < arg->mounts[i]->destination.len; j++)
			sink += arg->mounts[i]->destination.data[j];
		sink += strlen(arg->mounts[i]->type);
	}
	if (arg->process) {
		for (size_t i = 0; i < arg->process->n_args; i++)
			sink += arg->process->args[i].len;
	}
	return 0;
}

static int take_exec(struct urpc_request *req, const Urpc__ExecArgs *arg, Urpc__Pid *result)
{
	result->pid = (int)strlen(arg->id);
	return arg->process ? 0 : urpc_fail(req, -22, "no process in %s", arg->id);
}

static int take_signal(struct urpc_request *req, const Urpc__SignalArgs *arg, Urpc__Empty *result)
{
	(void)req;
	(void)result;
	sink += (size_t)arg->signo + (size_t)arg->mode;
	return 0;
}

static const struct urpc_handlers handlers = {
	.containerManager_CreateRoot = take_container,
	.containerManager_CreateSubcontainer = take_container,
	.containerManager_ExecuteAsync = take_exec,
	.containerManager_Signal = take_signal,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct urpc_client *client;
	Urpc__ContainerId id;
	Urpc__ProcessList *list = NULL;
	int sv[2];

	/* What does not fit into the socket's buffer would block the writer. */
	if (size < 1 || size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return 0;
	if (size > 1 && write(sv[0], data + 1, size - 1) < 0)
		abort();
	shutdown(sv[0], SHUT_WR);
	if (data[0] & 1) {
		urpc_serve_connection(sv[1], &handlers, NULL);
	} else if (urpc_connect_fd(sv[1], &client) == 0) {
		urpc__container_id__init(&id);
		if (urpc_containerManager_Processes(client, &id, NULL, 0, &list) == 0)
			sink += list->n_process;
		if (list)
			urpc_message_free(&list->base);
		urpc_client_free(client);
	}
	close(sv[0]);
	return 0;
}
