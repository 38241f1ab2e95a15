#include "platform/host/thread.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct start {
	void *(*fn)(void *);
	void *arg;
	char name[16];
};

/* Raised by the thread's own instructions: blocking one would only lose its handler. */
static const int synchronous[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT };

static void *thread_main(void *p)
{
	struct start s = *(struct start *)p;

	free(p);
	if (s.name[0])
		prctl(PR_SET_NAME, s.name);
	return s.fn(s.arg);
}

int host_thread_start(const char *name, size_t stack_size, void *(*fn)(void *), void *arg)
{
	struct start *s = malloc(sizeof(*s));
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int err;

	if (!s)
		return -ENOMEM;
	*s = (struct start){ .fn = fn, .arg = arg };
	if (name)
		strncpy(s->name, name, sizeof(s->name) - 1);
	err = pthread_attr_init(&attr);
	if (err) {
		free(s);
		return -err;
	}
	if (stack_size < (size_t)PTHREAD_STACK_MIN)
		stack_size = (size_t)PTHREAD_STACK_MIN;
	pthread_attr_setstacksize(&attr, stack_size);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_COUNT(synchronous); i++)
		sigdelset(&all, synchronous[i]);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, &attr, thread_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		free(s);
	return -err;
}
