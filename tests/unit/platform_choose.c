/* Which backend is taken: by name, by auto, and on hosts that forbid what one needs. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "platform/choose/choose.h"
#include "tests/lib/test.h"

/* EPERM from now on, as in a container with a narrow profile, for listeners and for all of ptrace when that is asked. */
static int forbid(bool ptrace)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ptrace ? SYS_ptrace : UINT32_MAX, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_COUNT(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static bool choose(const char *name, struct platform_report *r, char why[256])
{
	struct platform *p = NULL;

	if (platform_choose(name, memfd_create("memory", MFD_CLOEXEC), &p, r, why, 256) < 0)
		return false;
	CHECK(p && strcmp(p->ops->name, r->name) == 0);
	p->ops->close(p);
	return true;
}

TEST(named)
{
	struct platform_report r;
	char why[256];

	CHECK(choose("null", &r, why) && r.works && !r.automatic && r.call_ns == 0);
	CHECK(choose("ptrace", &r, why) && r.works && r.automatic && r.call_ns > 100);
	CHECK(choose("systrap", &r, why) && r.works && r.automatic && r.call_ns > 50 && why[0] == 0);
	CHECK(!choose("abacus", &r, why) && strstr(why, "no platform abacus"));
	CHECK(!choose("", &r, why) && why[0]);
}

/* Its note tells the mode; in exit mode it is for those who name it. */
TEST(kvm)
{
	struct platform_report r;
	char why[256];

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		CHECK(!choose("kvm", &r, why) && strstr(why, "kvm: /dev/kvm cannot be opened: "));
		return;
	}
	CHECK(choose("kvm", &r, why) && r.works && r.call_ns > 50 && r.note[0]);
	CHECK(r.automatic != (strcmp(r.note, "exit mode") == 0));
	CHECK(choose("auto", &r, why) && (strcmp(r.name, "kvm") == 0 || strstr(why, "kvm: works")));
}

TEST(automatic)
{
	struct platform_report r;
	char why[256];

	CHECK(choose("auto", &r, why) && r.automatic && strcmp(r.name, "null") != 0);
}

TEST(without_notification)
{
	struct platform_report r;
	char why[256];

	CHECK(forbid(false) == 0);
	CHECK(!choose("systrap", &r, why) && strstr(why, "systrap: ") && strstr(why, "seccomp user notification"));
	CHECK(choose("auto", &r, why) && strcmp(r.name, "ptrace") == 0 && strstr(why, "systrap: "));
}

TEST(without_both)
{
	struct platform_report r;
	char why[256];

	CHECK(forbid(true) == 0);
	CHECK(!choose("ptrace", &r, why) && strstr(why, "is ptrace forbidden"));
	CHECK(!choose("auto", &r, why) && strstr(why, "systrap: ") && strstr(why, "; ptrace: "));
}
