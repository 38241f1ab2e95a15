"""Security options of config.json."""
import json
import os
import subprocess

import sandbox
from cases import Skip, expect, expect_refused
from e2e import registry
from e2e.execs import running
from e2e.lifecycle import detached

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


@case()
def user_namespace_maps_files(env, root):
    shared = env.dir + "/mapped"
    os.mkdir(shared)
    for name, owner in (("theirs", 100000), ("user", 101000), ("host", 0)):
        with open(shared + "/" + name, "w") as f:
            f.write(name)
        os.chown(shared + "/" + name, owner, owner)
        os.chmod(shared + "/" + name, 0o600)
    os.chown(shared, 100000, 100000)

    def edit(config):
        maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        config["linux"].update(uidMappings=maps, gidMappings=maps)
        config["linux"]["namespaces"].append({"type": "user"})
        config["mounts"].append({"destination": "/mnt", "type": "bind", "source": shared, "options": ["rbind"]})

    script = ("cd /mnt; cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c '%n %u %g' *; cat theirs user; cat host 2>&1; "
              "touch new && chown 5:6 new; chown 0:0 host 2>&1; chown 70000 new 2>&1; touch /tmp/t && stat -c %u /tmp/t; "
              "echo x >/dev/null && stat -c %u /dev/null")
    out = ("         0     100000      65536\n" * 2 + "0\nhost 65534 65534\ntheirs 0 0\nuser 1000 1000\ntheirsuser"
           "cat: can't open 'host': Permission denied\nchown: host: Operation not permitted\n"
           "chown: new: Invalid argument\n0\n0\n")
    run_out(env, root, script, out, edit)
    made = os.stat(shared + "/new")
    assert (made.st_uid, made.st_gid) == (100005, 100006), made


@case()
def propagation_of_the_root(env, root):
    script = "mkdir -p /tmp/a; mount --bind / /tmp/a 2>&1; grep -o ' / / [^-]*-' /proc/self/mountinfo"
    for name, tag in (("shared", "shared:"), ("unbindable", "unbindable"), ("private", None), (None, None)):
        edit = with_linux(**({"rootfsPropagation": name} if name else {}))
        result = env.runsc("run", "--bundle", env.bundle(script, root, edit=edit), env.new_id())
        assert (tag in result.out if tag else "shared" not in result.out), result
        assert ("Invalid argument" in result.out) == (name == "unbindable"), result


def user_argv(env, *argv):
    """runsc as an ordinary user without a name, with a state directory of its own."""
    home = env.dir + "/user"
    if not os.path.isdir(home):
        os.chmod(env.dir, 0o755)
        os.mkdir(home)
        os.chown(home, 4242, 4242)
    return ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", env.runsc_path, "--root", home + "/state",
            "--platform", env.platform, *argv]


def as_user(env, *argv):
    return sandbox.run(user_argv(env, *argv), cwd="/")


@case()
def rootless(env, root):
    probe = sandbox.run(["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "unshare", "-Urm", "true"])
    if probe.status != 0:
        raise Skip("this host lets no ordinary user make user namespaces")
    bundle = env.bundle("id -u; echo $HOME; touch /tmp/x && echo written; hostname; cat /etc/shadow 2>&1", root)
    os.chmod(bundle, 0o755)
    os.chmod(bundle + "/config.json", 0o644)
    for flags in ([], ["--rootless"]):
        result = as_user(env, *flags, "run", "--bundle", bundle, env.new_id())
        expect(result, 1, "0\n/root\nwritten\nguest\ncat: can't open '/etc/shadow': No such file or directory\n", "")
    cid = env.new_id()
    with open(bundle + "/config.json") as f:
        config = json.load(f)
    config["process"]["args"] = ["sleep", "100"]
    with open(bundle + "/config.json", "w") as f:
        json.dump(config, f)
    # no pipe of ours: the sandbox would keep it open
    assert subprocess.run(user_argv(env, "run", "--detach", "--bundle", bundle, cid), stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20).returncode == 0
    expect(as_user(env, "exec", cid, "echo", "inside"), 0, "inside\n", "")
    expect(as_user(env, "delete", "--force", cid))
    # host files that the user may not read stay unreadable
    result = as_user(env, "do", "--", "cat", "/etc/shadow")
    assert result.status != 0 and "denied" in result.err, result


@case()
def mount_options_hold(env, root):
    def edit(config):
        config["root"]["readonly"] = True
        config["linux"]["readonlyPaths"] = ["/proc/sys"]
        config["mounts"] += [{"destination": "/mnt", "type": "bind", "source": env.dir,
                              "options": ["rbind", "ro", "nosuid", "nodev", "noexec", "noatime"]},
                             {"destination": "/home", "type": "tmpfs", "source": "x", "options": ["size=64k", "uid=5"]}]

    script = ("for f in /x /sys/x /mnt/x /proc/sys/kernel/hostname; do echo a 2>/dev/null >$f || echo no $f; done; "
              "grep -E '^[^ ]* (/|/sys|/mnt|/home|/proc/sys) ' /proc/mounts | cut -d' ' -f2-4 | cut -d, -f1-6; stat -c %u /home")
    out = ("no /x\nno /sys/x\nno /mnt/x\nno /proc/sys/kernel/hostname\n/ 9p ro,relatime\n/sys sysfs ro,relatime\n"
           "/mnt 9p ro,nosuid,nodev,noexec,noatime\n/home tmpfs rw,relatime,size=64k,nr_inodes=")
    result = env.runsc("run", "--bundle", env.bundle(script, root, edit=edit), env.new_id())
    assert result.status == 0 and result.out.startswith(out), result
    assert "/proc/sys proc ro,relatime\n5\n" in result.out, result
    for path in ("/x", "/sys/x", "/mnt/x"):
        run_out(env, root, "touch %s 2>&1 || true" % path, "touch: %s: Read-only file system\n" % path, edit)


@case()
def nobody_else_controls_the_sandbox(env, root):
    """Whatever umask the engine has: another user of the host cannot reach the control socket."""
    cid = env.new_id()
    expect(detached(env, "create", "--bundle", env.bundle("sleep 100", root), cid, umask=0))
    for name in os.listdir(os.path.join(env.state, cid)):
        mode = os.stat(os.path.join(env.state, cid, name)).st_mode
        assert mode & 0o077 == 0, "%s: %o" % (name, mode)
    expect(env.runsc("delete", "--force", cid))
