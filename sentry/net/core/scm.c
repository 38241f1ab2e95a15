/* Ancillary objects: files and credentials that travel with a message. */
#include <stdlib.h>

#include "sentry/kernel/task.h"
#include "sentry/net/core/socket.h"

void scm_files_free(struct scm_files *files)
{
	if (!files)
		return;
	for (unsigned i = 0; i < files->count; i++)
		file_put(files->file[i]);
	free(files);
}

void scm_creds_fini(struct scm_creds *creds)
{
	if (creds->pid)
		pid_put(creds->pid);
	creds->pid = NULL;
}

void sock_control_fini(struct sock_control *c)
{
	scm_files_free(c->files);
	scm_creds_fini(&c->creds);
	free(c->other);
	*c = (struct sock_control){ 0 };
}
