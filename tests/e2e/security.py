"""Security options of config.json."""
import os

from cases import expect, expect_refused
from e2e import registry
from e2e.execs import running

case = registry.case


def profile(*rules, default="SCMP_ACT_ALLOW", **more):
    def edit(config):
        config["linux"]["seccomp"] = {
            "defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", **rule} for names, rule in rules], **more}
    return edit


NO_CHMOD = profile((["chmod", "fchmod", "fchmodat", "call_of_next_year"], {"errnoRet": 117}))


@case()
def seccomp_profile_binds_every_process(env, root):
    cid = running(env, root, edit=NO_CHMOD)
    script = "touch /tmp/f; chmod 600 /tmp/f; grep Seccomp: /proc/self/status"
    expect(env.runsc("exec", cid, "sh", "-c", script), 0, "Seccomp:\t2\n", "chmod: /tmp/f: Structure needs cleaning\n")
    expect(env.runsc("delete", "--force", cid))
    result = env.runsc("run", "--bundle", env.bundle(script, root, edit=NO_CHMOD), env.new_id())
    expect(result, 0, "Seccomp:\t2\n", "chmod: /tmp/f: Structure needs cleaning\n")
    result = env.runsc("run", "--bundle", env.bundle(script, root, edit=NO_CHMOD), env.new_id(),
                       flags=["--oci-seccomp=false"])
    expect(result, 0, "Seccomp:\t0\n", "")


@case()
def seccomp_profile_sees_arguments(env, root):
    # mode 0600 alone is refused
    edit = profile((["chmod"], {"args": [{"index": 1, "value": 0o600, "op": "SCMP_CMP_EQ"}]}),
                   (["fchmodat"], {"args": [{"index": 2, "value": 0o600, "op": "SCMP_CMP_EQ"}]}))
    script = "touch /tmp/f; chmod 600 /tmp/f; chmod 640 /tmp/f; stat -c %a /tmp/f"
    expect(env.runsc("run", "--bundle", env.bundle(script, root, edit=edit), env.new_id()), 0, "640\n",
           "chmod: /tmp/f: Operation not permitted\n")


@case()
def seccomp_profile_that_forbids_execve(env, root):
    edit = profile((["execve"], {}))
    expect_refused(env.runsc("run", "--bundle", env.bundle("true", root, edit=edit), env.new_id()),
                   "peration not permitted", 126)


@case()
def seccomp_profile_is_refused(env, root):
    for changes, text in (({"default": "SCMP_ACT_MAYBE"}, "is not a valid action for seccomp"),
                          ({"listenerPath": "/run/agent.sock"}, "listenerPath is not supported")):
        result = env.runsc("run", "--bundle", env.bundle("true", root, edit=profile(**changes)), env.new_id())
        expect_refused(result, text)


def with_linux(**changes):
    def edit(config):
        config["linux"].update(changes)
    return edit


@case()
def sysctl_is_in_force(env, root):
    edit = with_linux(sysctl={"kernel.shmmax": "65536", "kernel.msgmax": "100", "kernel.sem": "10 1000 5 3",
                              "fs.mqueue.queues_max": "7", "net.ipv4.ip_forward": "1", "kernel.domainname": "example.org",
                              "net.ipv4.ip_local_port_range": "40000 41000", "net/ipv4/conf/lo/arp_filter": "1"})
    names = ("kernel/shmmax", "kernel/msgmax", "kernel/sem", "fs/mqueue/queues_max", "net/ipv4/ip_forward",
             "kernel/domainname", "net/ipv4/ip_local_port_range", "net/ipv4/conf/lo/arp_filter")
    script = "cd /proc/sys; cat %s; ls net/ipv4/conf" % " ".join(names)
    result = env.runsc("run", "--bundle", env.bundle(script, root, edit=edit), env.new_id())
    expect(result, 0, "65536\n100\n10\t1000\t5\t3\n7\n1\nexample.org\n40000\t41000\n1\nlo\n", "")


@case()
def unprivileged_ports_follow_the_sysctl(env, root):
    script = "nc -l -p 80 -w 1 127.0.0.1 >/dev/null 2>&1 & sleep 0.3; kill -0 $! && echo bound"
    for start, out in (("1024", ""), ("0", "bound\n")):
        edit = with_linux(sysctl={"net.ipv4.ip_unprivileged_port_start": start})
        bundle = env.bundle(script, root, edit=edit, user={"uid": 1000, "gid": 1000})
        result = env.runsc("run", "--bundle", bundle, env.new_id())
        assert result.out == out, result


@case()
def sysctl_of_others_is_refused(env, root):
    def without(kind):
        def edit(config):
            spaces = config["linux"]["namespaces"]
            config["linux"]["namespaces"] = [n for n in spaces if n["type"] != kind]
        return edit

    for name, kind, text in (("kernel.panic", None, 'sysctl "kernel.panic" is not in a separate kernel namespace'),
                             ("net.core.somaxconn", "network",
                              'sysctl "net.core.somaxconn" not allowed in host network namespace'),
                             ("kernel.shmmax", "ipc", 'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
                             ("kernel.hostname", None, 'conflicts with the OCI "hostname" field'),
                             ("net.no.such", None, "set sysctl net.no.such")):
        def edit(config):
            without(kind)(config)
            config["linux"]["sysctl"] = {name: "1"}
        expect_refused(env.runsc("run", "--bundle", env.bundle("true", root, edit=edit), env.new_id()), text)


def run_out(box, root, script, out, edit=None, **changes):
    """Runs script in a container of the configuration with changes; box is the Env, whose name is an option's."""
    bundle = box.bundle(script, root, edit=edit, **changes)
    return expect(box.runsc("run", "--bundle", bundle, box.new_id()), 0, out)


@case()
def home_comes_from_passwd(env, root):
    def no_home(config):
        config["process"]["env"] = ["PATH=/bin:/usr/bin"]

    for uid, home in ((0, "/root\n"), (1000, "/home/user\n"), (4321, "/\n")):
        run_out(env, root, "echo $HOME", home, no_home, user={"uid": uid, "gid": 0})
    run_out(env, root, "echo $HOME", "/elsewhere\n", user={"uid": 1000, "gid": 0}, env=["PATH=/bin", "HOME=/elsewhere"])


@case()
def exec_user_by_name(env, root):
    def edit(config):
        config["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs"})

    cid = running(env, root, edit=edit)
    files = ("printf 'root:x:0:0::/root:/bin/sh\\nbad line\\nada:x:1234:100::/srv/ada:/bin/sh\\n' >/etc/passwd; "
             "printf 'staff:x:50:ada,bob\\nusers:x:100:\\nwheel:x:10:bob\\n:::\\nops:x:77:bob,ada\\n' >/etc/group")
    expect(env.runsc("exec", cid, "sh", "-c", files))
    for user, out in (("ada", "1234 100 50 77 100"), ("ada:wheel", "1234 10 10"), ("1234:ops", "1234 77 77"),
                      ("4000:4001", "4000 4001 4001")):
        words = expect(env.runsc("exec", "--user", user, cid, "sh", "-c", "id -u; id -g; id -G")).out.split()
        assert words[:2] == out.split()[:2] and sorted(set(words[2:])) == sorted(set(out.split()[2:])), (user, words)
    expect_refused(env.runsc("exec", "--user", "eve", cid, "true"), "unable to find user eve: no matching entries")
    expect_refused(env.runsc("exec", "--user", "ada:eves", cid, "true"), "unable to find group eves")
    # files that are none
    expect(env.runsc("exec", cid, "sh", "-c", "rm /etc/passwd; mkfifo /etc/passwd; ln -sf /dev/zero /etc/group"))
    expect_refused(env.runsc("exec", "--user", "ada", cid, "true", timeout=5), "unable to find user ada")
    expect(env.runsc("delete", "--force", cid))


@case()
def tmpfs_takes_over_the_directory(env, root):
    def mount(*options):
        def edit(config):
            config["mounts"] += [
                {"destination": "/base", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1751"]},
                {"destination": "/base", "type": "tmpfs", "source": "tmpfs", "options": list(options)}]
        return edit

    run_out(env, root, "stat -c %a /base", "1751\n", mount())
    run_out(env, root, "stat -c %a /base", "700\n", mount("mode=700"))

    def copied(config):
        config["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
                                 "options": ["tmpcopyup", "ro", "nosuid"]})
    script = ("cmp /etc/passwd /proc/1/root/etc/passwd && grep -c root: /etc/passwd; touch /etc/x 2>&1; "
              "grep -c ' /etc tmpfs ro,nosuid' /proc/mounts")
    run_out(env, root, script, "1\ntouch: /etc/x: Read-only file system\n1\n", copied)


@case()
def process_options(env, root):
    run_out(env, root, "uname -m", "i686\n", with_linux(personality={"domain": "LINUX32"}))
    run_out(env, root, "ionice -p $$", "best-effort: prio 6\n", ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
    run_out(env, root, "cut -d' ' -f19,41 /proc/self/stat", "7 3\n", scheduler={"policy": "SCHED_BATCH", "nice": 7})
    run_out(env, root, "umask; cat /proc/self/oom_score_adj; ulimit -Hn", "0027\n123\n9000000\n", user={
        "uid": 0, "gid": 0, "umask": 0o27}, oomScoreAdj=123,
            rlimits=[{"type": "RLIMIT_NOFILE", "soft": 9000000, "hard": 9000000}])
    run_out(env, root, "ls -A /tmp/../media; cat /etc/passwd", "", with_linux(maskedPaths=["etc/passwd", "media"]))


@case()
def options_that_are_refused(env, root):
    def top(key, value):
        return lambda config: config.update({key: value})

    def process(key, value):
        return lambda config: config["process"].update({key: value})

    def idmap(config):
        config["mounts"].append({"destination": "/mnt", "type": "bind", "source": root, "options": ["rbind", "idmap"]})

    def user_ns(config):
        config["linux"]["namespaces"].append({"type": "user"})

    rows = [(process("ioPriority", {"class": "IOPRIO_CLASS_X", "priority": 1}), "no class of I/O priorities"),
            (process("scheduler", {"policy": "SCHED_DEADLINE"}), "no policy that the sandbox has"),
            (process("scheduler", {"policy": "SCHED_OTHER", "priority": 3}), "priority must be above 0"),
            (with_linux(timeOffsets={"monotonic": {"secs": 5}}), "no time namespaces"),
            (with_linux(personality={"domain": "BSD"}), "is not LINUX or LINUX32"),
            (idmap, "idmapped mount"), (user_ns, "User namespaces enabled, but no uid mappings found."),
            (with_linux(uidMappings=[{"containerID": 0, "hostID": 5, "size": 1}]), "need a user namespace")]
    if not os.path.exists("/sys/fs/selinux/enforce"):
        rows.append((process("selinuxLabel", "a_u:b_r:c_t:s0"), "selinux is disabled or not supported"))
    if not os.path.exists("/sys/kernel/security/apparmor"):
        rows.append((process("apparmorProfile", "some"), "unable to apply apparmor profile"))
    for edit, text in rows:
        expect_refused(env.runsc("run", "--bundle", env.bundle("true", root, edit=edit), env.new_id()), text)
