/*
 * Owns org.freedesktop.systemd1 on a private bus and does what the tests need of it: writes each call to a log, makes and removes
 * the cgroup of a scope. fake_systemd LOG TOP RESULT: TOP is the hierarchy to use, RESULT how jobs end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

static FILE *log_file;
static const char *top, *result;
static char unit_name[256], unit_dir[1024];
static unsigned int job_count;

static void log_call(sd_bus_message *m)
{
	fprintf(log_file, "%s\n", sd_bus_message_get_member(m));
	sd_bus_message_dump(m, log_file, 0);
	fflush(log_file);
	sd_bus_message_rewind(m, 1);
}

static int end_job(sd_bus_message *m, const char *unit)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/org/freedesktop/systemd1/job/%u", ++job_count);
	ret = sd_bus_reply_method_return(m, "o", path);
	if (ret < 0)
		return ret;
	return sd_bus_emit_signal(sd_bus_message_get_bus(m), "/org/freedesktop/systemd1",
				  "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", job_count, path, unit,
				  result);
}

static void write_pid(uint32_t pid)
{
	char path[1100], text[16];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", unit_dir);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, (size_t)sprintf(text, "%u", pid)) < 0)
		fprintf(log_file, "cannot move %u to %s: %s\n", pid, path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Properties: only the slice (one without dashes) and the processes matter. */
static int start(sd_bus_message *m, void *context, sd_bus_error *error)
{
	const char *unit, *mode, *name, *slice = "system.slice", *contents;
	const uint32_t *pids = NULL;
	size_t size = 0;
	int ret;

	(void)context;
	log_call(m);
	ret = sd_bus_message_read(m, "ss", &unit, &mode);
	if (ret < 0)
		return ret;
	if (!strcmp(unit, unit_name))
		return sd_bus_error_set(error, "org.freedesktop.systemd1.UnitExists", "it is there");
	sd_bus_message_enter_container(m, 'a', "(sv)");
	while (sd_bus_message_enter_container(m, 'r', "sv") > 0) {
		sd_bus_message_read(m, "s", &name);
		sd_bus_message_peek_type(m, NULL, &contents);
		if (!strcmp(name, "Slice")) {
			sd_bus_message_read(m, "v", "s", &slice);
		} else if (!strcmp(name, "PIDs")) {
			sd_bus_message_enter_container(m, 'v', "au");
			sd_bus_message_read_array(m, 'u', (const void **)&pids, &size);
			sd_bus_message_exit_container(m);
		} else {
			sd_bus_message_skip(m, "v");
		}
		sd_bus_message_exit_container(m);
	}
	if (!strcmp(result, "done")) {
		snprintf(unit_name, sizeof(unit_name), "%s", unit);
		snprintf(unit_dir, sizeof(unit_dir), "%s/%s", top, slice);
		mkdir(unit_dir, 0755);
		snprintf(unit_dir, sizeof(unit_dir), "%s/%s/%s", top, slice, unit);
		mkdir(unit_dir, 0755);
		for (size_t i = 0; i < size / sizeof(*pids); i++)
			write_pid(pids[i]);
	}
	return end_job(m, unit);
}

static int stop(sd_bus_message *m, void *context, sd_bus_error *error)
{
	const char *unit, *mode;

	(void)context;
	log_call(m);
	if (sd_bus_message_read(m, "ss", &unit, &mode) < 0 || strcmp(unit, unit_name) != 0)
		return sd_bus_error_set(error, "org.freedesktop.systemd1.NoSuchUnit", "there is no such unit");
	unit_name[0] = 0;
	rmdir(unit_dir);
	*strrchr(unit_dir, '/') = 0;
	rmdir(unit_dir);
	return end_job(m, unit);
}

static int reply_nothing(sd_bus_message *m, void *context, sd_bus_error *error)
{
	(void)context;
	(void)error;
	log_call(m);
	return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable methods[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("StartTransientUnit", "ssa(sv)a(sa(sv))", "o", start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("StopUnit", "ss", "o", stop, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ResetFailedUnit", "s", "", reply_nothing, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SetUnitProperties", "sba(sv)", "", reply_nothing, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
	SD_BUS_VTABLE_END,
};

int main(int argc, char **argv)
{
	sd_bus *bus = NULL;

	if (argc != 4)
		return 2;
	log_file = fopen(argv[1], "w");
	top = argv[2];
	result = argv[3];
	if (!log_file || sd_bus_open_system(&bus) < 0 ||
	    sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
				     methods, NULL) < 0 ||
	    sd_bus_request_name(bus, "org.freedesktop.systemd1", 0) < 0)
		return 1;
	fprintf(log_file, "ready\n");
	fflush(log_file);
	for (;;) {
		int ret = sd_bus_process(bus, NULL);

		if (ret < 0 || (!ret && sd_bus_wait(bus, UINT64_MAX) < 0 && errno != EINTR))
			return 0;
	}
}
