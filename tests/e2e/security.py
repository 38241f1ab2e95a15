"""Security options of config.json."""
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
