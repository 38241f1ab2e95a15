#include "runsc/oci/names.h"

#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "runsc/config/util.h"

static const char *const capabilities[CAPABILITY_COUNT] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

int capability_by_name(const char *name)
{
	for (unsigned int i = 0; i < CAPABILITY_COUNT; i++) {
		if (!strcasecmp(name, capabilities[i]) || !strcasecmp(name, capabilities[i] + 4))
			return (int)i;
	}
	return -1;
}

const char *capability_name(unsigned int number)
{
	return number < CAPABILITY_COUNT ? capabilities[number] : NULL;
}

int rlimit_by_name(const char *name)
{
	static const struct {
		const char *name;
		int resource;
	} rows[] = {
		{ "RLIMIT_CPU", RLIMIT_CPU },
		{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
		{ "RLIMIT_DATA", RLIMIT_DATA },
		{ "RLIMIT_STACK", RLIMIT_STACK },
		{ "RLIMIT_CORE", RLIMIT_CORE },
		{ "RLIMIT_RSS", RLIMIT_RSS },
		{ "RLIMIT_NPROC", RLIMIT_NPROC },
		{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
		{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
		{ "RLIMIT_AS", RLIMIT_AS },
		{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
		{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
		{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
		{ "RLIMIT_NICE", RLIMIT_NICE },
		{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
		{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		if (!strcmp(rows[i].name, name))
			return rows[i].resource;
	}
	return -1;
}

int signal_by_name(const char *name)
{
	int64_t number;

	if (parse_int64(name, 10, &number))
		return number >= 0 && number <= 64 ? (int)number : -1;
	if (!strncasecmp(name, "SIG", 3))
		name += 3;
	for (int i = 1; i < 32; i++) {
		const char *abbreviation = sigabbrev_np(i);

		if (abbreviation && !strcasecmp(abbreviation, name))
			return i;
	}
	if (!strcasecmp(name, "IOT"))
		return SIGABRT;
	if (!strcasecmp(name, "CLD"))
		return SIGCHLD;
	if (!strncasecmp(name, "RTMIN", 5) && (!name[5] || (name[5] == '+' &&
							     parse_int64(name + 6, 10, &number) &&
							     number >= 0 && number <= 30)))
		return 34 + (name[5] ? (int)number : 0);
	if (!strncasecmp(name, "RTMAX", 5) && (!name[5] || (name[5] == '-' &&
							     parse_int64(name + 6, 10, &number) &&
							     number >= 0 && number <= 30)))
		return 64 - (name[5] ? (int)number : 0);
	return -1;
}
