/* User and group ids, groups, capabilities, securebits, no_new_privs. */
#include "tests/lib/guest.h"

#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static void check_uids(uid_t r, uid_t e, uid_t s)
{
	uid_t got[3];

	OK(getresuid(&got[0], &got[1], &got[2]));
	CHECK_EQ(got[0], r);
	CHECK_EQ(got[1], e);
	CHECK_EQ(got[2], s);
}

static struct __user_cap_data_struct cap_data[2];

static void get_caps(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };

	OK(syscall(SYS_capget, &header, cap_data));
}

static long set_caps(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return syscall(SYS_capset, &header, cap_data);
}

TEST(setuid_of_root_is_final)
{
	OK(setuid(1000));
	check_uids(1000, 1000, 1000);
	ERR(setuid(0), EPERM);
	ERR(seteuid(0), EPERM);
	OK(setuid(1000));
}

TEST(seteuid_and_back)
{
	OK(seteuid(1000));
	check_uids(0, 1000, 0);
	ERR(setuid(1001), EPERM);
	get_caps();
	CHECK_EQ(cap_data[0].effective, 0);
	CHECK(cap_data[0].permitted != 0);
	OK(seteuid(0));
	get_caps();
	CHECK(cap_data[0].effective != 0);
}

TEST(setreuid_and_setresuid)
{
	OK(setreuid(1000, 1001));
	check_uids(1000, 1001, 1001);
	OK(setreuid(1001, 1000));
	check_uids(1001, 1000, 1000);
	ERR(setresuid(5, (uid_t)-1, (uid_t)-1), EPERM);
	OK(setresuid(1000, 1001, (uid_t)-1));
	check_uids(1000, 1001, 1000);
	OK(setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1));
}

TEST(keeps_nothing_after_last_root_id)
{
	OK(setresuid(1000, 1000, 0));
	get_caps();
	CHECK_EQ(cap_data[0].effective, 0);
	CHECK(cap_data[0].permitted != 0);
	OK(setresuid(1000, 1000, 1000));
	get_caps();
	CHECK_EQ(cap_data[0].permitted, 0);
}

TEST(gids_and_groups)
{
	gid_t got[3], groups[4] = { 10, 20, 30 };

	OK(setgroups(3, groups));
	CHECK_EQ(getgroups(0, NULL), 3);
	CHECK_EQ(getgroups(4, groups), 3);
	CHECK_EQ(groups[2], 30);
	ERR(getgroups(1, groups), EINVAL);
	ERR(setgroups(70000, groups), EINVAL);
	OK(setresgid(1, 2, 3));
	OK(getresgid(&got[0], &got[1], &got[2]));
	CHECK_EQ(got[1], 2);
	OK(setuid(1000));
	ERR(setgroups(0, NULL), EPERM);
	OK(setregid(2, 1));
	ERR(setgid(99), EPERM);
	OK(setgid(2));
}

TEST(most_groups_that_there_can_be)
{
	static gid_t groups[65536];

	for (int i = 0; i < 65536; i++)
		groups[i] = (gid_t)(65536 - i);
	OK(setgroups(65536, groups));
	CHECK_EQ(getgroups(65536, groups), 65536);
	CHECK_EQ(groups[0], 1);
	CHECK_EQ(groups[65535], 65536);
}

TEST(fsuid_alone)
{
	OK(chmod(".", 0777));
	write_file("f", "x");
	OK(chmod("f", 0600));
	CHECK_EQ(setfsuid(1000), 0);
	CHECK_EQ(setfsuid((uid_t)-1), 1000);
	ERR(open("f", O_RDONLY), EACCES);
	close(OK(open("mine", O_WRONLY | O_CREAT, 0644)));
	struct stat st;
	OK(stat("mine", &st));
	CHECK_EQ(st.st_uid, 1000);
	CHECK_EQ(setfsuid(0), 1000);
	close(OK(open("f", O_RDONLY)));
}

TEST(group_permission_by_supplementary_group)
{
	OK(chmod(".", 0755));
	write_file("f", "x");
	OK(chown("f", 0, 77));
	OK(chmod("f", 0640));
	CHILD(pid)
	{
		gid_t group = 77;
		OK(setgroups(1, &group));
		OK(setresgid(1000, 1000, 1000));
		OK(setresuid(1000, 1000, 1000));
		close(OK(open("f", O_RDONLY)));
		ERR(open("f", O_WRONLY), EACCES);
	}
	WAIT_EXIT(pid, 0);
}

TEST(capability_sets)
{
	get_caps();
	uint32_t all = cap_data[0].permitted;
	CHECK(all & 1u << CAP_CHOWN);
	cap_data[0].effective &= ~(1u << CAP_CHOWN);
	OK(set_caps());
	write_file("f", "x");
	ERR(chown("f", 1000, 1000), EPERM);
	cap_data[0].effective |= 1u << CAP_CHOWN;
	OK(set_caps());
	OK(chown("f", 1000, 1000));
	cap_data[0].effective &= ~(1u << CAP_CHOWN);
	cap_data[0].permitted &= ~(1u << CAP_CHOWN);
	OK(set_caps());
	cap_data[0].permitted |= 1u << CAP_CHOWN;
	ERR(set_caps(), EPERM);
}

TEST(capget_versions_and_errors)
{
	struct __user_cap_header_struct header = { 0x1234, 0 };

	ERR(syscall(SYS_capget, &header, cap_data), EINVAL);
	CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
	header.version = _LINUX_CAPABILITY_VERSION_1;
	OK(syscall(SYS_capget, &header, cap_data));
	header = (struct __user_cap_header_struct){ _LINUX_CAPABILITY_VERSION_3, 999999 };
	ERR(syscall(SYS_capget, &header, cap_data), ESRCH);
	header.pid = 1;
	CHILD(pid)
	{
		get_caps();
		ERR(syscall(SYS_capset, &header, cap_data), EPERM);
	}
	WAIT_EXIT(pid, 0);
	ERR(syscall(SYS_capget, BAD_PTR, cap_data), EFAULT);
}

TEST(bounding_and_ambient)
{
	CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
	OK(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
	CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 0);
	ERR(prctl(PR_CAPBSET_READ, 99), EINVAL);
	OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0), 0);
	get_caps();
	cap_data[0].inheritable |= 1u << CAP_KILL;
	OK(set_caps());
	OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
	CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0), 1);
}

TEST(keepcaps_and_securebits)
{
	CHECK_EQ(prctl(PR_GET_KEEPCAPS), 0);
	OK(prctl(PR_SET_KEEPCAPS, 1));
	OK(setresuid(1000, 1000, 1000));
	get_caps();
	CHECK(cap_data[0].permitted & 1u << CAP_CHOWN);
	CHECK_EQ(cap_data[0].effective, 0);
	CHECK_EQ(prctl(PR_GET_SECUREBITS), 1 << 4);
}

TEST(no_setuid_fixup)
{
	OK(prctl(PR_SET_SECUREBITS, 1 << 2 /* SECBIT_NO_SETUID_FIXUP */));
	OK(setresuid(1000, 1000, 1000));
	get_caps();
	CHECK(cap_data[0].effective & 1u << CAP_CHOWN);
}

TEST(capabilities_after_exec)
{
	CHILD(pid)
	{
		become_user(1000);
		execl("/bin/sh", "sh", "-c", "grep -q '^CapEff:.*0000000000000000' /proc/self/status", NULL);
		_exit(127);
	}
	WAIT_EXIT(pid, 0);
	CHILD(second)
	{
		execl("/bin/sh", "sh", "-c", "! grep -q '^CapEff:.*0000000000000000' /proc/self/status",
		      NULL);
		_exit(127);
	}
	WAIT_EXIT(second, 0);
}

TEST(no_new_privs)
{
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
	ERR(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
	CHILD(pid)
	{
		CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	}
	WAIT_EXIT(pid, 0);
}

TEST(threads_have_own_credentials)
{
	CHILD(pid)
	{
		OK(syscall(SYS_setresuid, 1000, 1000, 0));
		CHECK_EQ(syscall(SYS_geteuid), 1000);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(geteuid(), 0);
	CHECK_EQ(getegid(), 0);
}
