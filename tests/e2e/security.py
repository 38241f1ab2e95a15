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
