/* Lines in the style of strace(1), made from the rows of syscalls.def. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/task.h"
#include "sentry/syscalls/strace_priv.h"

enum arg_format { FD, DEC, UDEC, HEX, OCT, PATH, PTR };

static const enum arg_format format_of[] = {
#define ARGKIND(kind, type, conv, fmt) [ARG_##kind] = fmt,
#include "sentry/syscalls/argkind.def"
#undef ARGKIND
};

_Atomic bool strace_active;
static _Atomic int strace_fd = -1;
static _Atomic bool filtered;
static _Atomic bool selected[1024]; /* by place in the table; only when filtered */

#define PATH_SHOWN 128

struct line {
	char text[1024];
	size_t len;
};

static void PRINTF_LIKE(2, 3) add(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->len, sizeof(l->text) - l->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len = MIN(l->len + (size_t)n, sizeof(l->text) - 1);
}

/* Guest bytes as a quoted string; never an unprintable one. */
static void add_path(struct line *l, struct task *t, uint64_t addr)
{
	char buf[PATH_SHOWN];
	int64_t n;

	if (!addr) {
		add(l, "NULL");
		return;
	}
	n = copy_in_str(task_umem(t), buf, UADDR(addr), sizeof(buf));
	if (n == -EFAULT) {
		add(l, "%#llx", (unsigned long long)addr);
		return;
	}
	if (n < 0)
		n = sizeof(buf) - 1;
	add(l, "\"");
	for (int64_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)buf[i];

		if (c == '"' || c == '\\')
			add(l, "\\%c", c);
		else if (c >= 32 && c < 127)
			add(l, "%c", c);
		else
			add(l, "\\x%02x", c);
	}
	add(l, n == sizeof(buf) - 1 ? "\"..." : "\"");
}

static void add_arg(struct line *l, struct task *t, enum arg_kind kind, uint64_t r)
{
	switch (format_of[kind]) {
	case FD:
		if ((int32_t)(uint32_t)r == -100)
			add(l, "AT_FDCWD");
		else
			add(l, "%d", (int32_t)(uint32_t)r);
		break;
	case DEC:
		add(l, "%lld", kind == ARG_off || kind == ARG_slong ? (long long)r : (long long)(int32_t)(uint32_t)r);
		break;
	case UDEC:
		add(l, "%llu", kind == ARG_size ? (unsigned long long)r : (unsigned long long)(uint32_t)r);
		break;
	case HEX:
		add(l, "%#llx", kind == ARG_ulong ? (unsigned long long)r : (unsigned long long)(uint32_t)r);
		break;
	case OCT:
		add(l, "%#o", (uint32_t)r);
		break;
	case PATH:
		add_path(l, t, r);
		break;
	case PTR:
		if (r)
			add(l, "%#llx", (unsigned long long)r);
		else
			add(l, "NULL");
		break;
	}
}

static void add_result(struct line *l, int64_t ret)
{
	static const char *const restart[] = { "ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "?",
					       "ERESTART_RESTARTBLOCK" };

	if (ret >= 0 || ret < -4095)
		add(l, ret > 65536 || ret < 0 ? ") = %#llx" : ") = %lld", (long long)ret);
	else if (ret == -EJUSTRETURN)
		add(l, ") = ?");
	else if (ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK)
		add(l, ") = ? %s", restart[-ret - ERESTARTSYS]);
	else
		add(l, ") = -1 %s (%s)", strerrorname_np((int)-ret), strerrordesc_np((int)-ret));
}

static void emit(struct line *l, int64_t start_ns)
{
	int64_t us = (clock_mono() - start_ns) / 1000;

	add(l, " <%lld.%06lld>\n", (long long)(us / 1000000), (long long)(us % 1000000));
	l->text[l->len - 1] = '\n';
	(void)!write(strace_fd, l->text, l->len);
}

static void begin(struct line *l, struct task *t)
{
	l->len = 0;
	add(l, "[%5d] [%-15.15s] ", task_tid_in(t, task_pid_ns(t)), t->comm);
}

int64_t strace_call(struct task *t, struct syscall_desc *d, const uint64_t arg[6])
{
	struct line l __attribute__((uninitialized));
	size_t count;
	int64_t ret, start;

	if (filtered && !selected[d - syscall_table(&count)])
		return d->call(t, arg);
	begin(&l, t);
	add(&l, "%s(", d->name);
	for (int i = 0; i < d->arg_count; i++) {
		if (i)
			add(&l, ", ");
		add_arg(&l, t, d->arg[i].kind, arg[i]);
	}
	start = clock_mono();
	ret = d->call(t, arg);
	add_result(&l, ret);
	emit(&l, start);
	return ret;
}

int64_t strace_unknown(struct task *t, int64_t nr, const uint64_t arg[6])
{
	struct line l __attribute__((uninitialized));

	begin(&l, t);
	add(&l, "syscall_%lld(%#llx, %#llx, %#llx", (long long)nr, (unsigned long long)arg[0],
	    (unsigned long long)arg[1], (unsigned long long)arg[2]);
	add_result(&l, -ENOSYS);
	emit(&l, clock_mono());
	return -ENOSYS;
}

/* fd < 0 keeps the descriptor given before. Any thread. */
void strace_configure(int fd, bool on, const char *const *names, size_t count)
{
	size_t rows;
	struct syscall_desc *d = syscall_table(&rows);

	_Static_assert(ARRAY_COUNT(selected) >= 512, "one place a row");
	if (fd >= 0)
		strace_fd = fd;
	filtered = names && count;
	for (size_t i = 0; i < rows && i < ARRAY_COUNT(selected); i++) {
		selected[i] = false;
		for (size_t j = 0; names && j < count; j++)
			selected[i] = selected[i] || !strcmp(d[i].name, names[j]);
	}
	strace_active = on && strace_fd >= 0;
	kernel_see_all_calls(strace_active);
}
