"""Guests that want the engine's commands to hang, or the sandbox to end: every command stays prompt."""
import os
import resource
import subprocess
import time

from cases import expect, until
from e2e import registry
from e2e.execs import running
from e2e.lifecycle import detached
from e2e.misc import sentry_of

case = registry.case

PROMPT_S = 10


def prompt(env, *args, status=None):
    """A command that ends soon, well or with an error."""
    started = time.monotonic()
    result = env.runsc(*args, timeout=2 * PROMPT_S)
    took = time.monotonic() - started
    assert took < PROMPT_S, "%s took %.1f s" % (args[0], took)
    if status is not None:
        expect(result, status)
    return result


def with_limits(**resources):
    def edit(config):
        config["linux"]["resources"] = resources
    return edit


def commands(env, cid):
    """What engines call, in any state of the guest."""
    prompt(env, "state", cid, status=0)
    prompt(env, "exec", cid, "/bin/true")
    prompt(env, "ps", cid, status=0)
    prompt(env, "events", "--stats", cid, status=0)
    prompt(env, "pause", cid)
    prompt(env, "resume", cid)
    prompt(env, "kill", cid, "TERM", status=0)
    prompt(env, "delete", "--force", cid, status=0)
    assert not os.path.exists(os.path.join(env.state, cid))


@case()
def fork_bomb_at_the_limit(env, root):
    # a shell that cannot fork ends; watch goes on
    cid = running(env, root, ["watch", "-n", "0.1", "bomb() { bomb | bomb & }; bomb 2>/dev/null"],
                  edit=with_limits(pids={"limit": 48}))
    time.sleep(1)
    commands(env, cid)


@case()
def fork_bomb_that_stops_itself(env, root):
    cid = running(env, root, "trap '' TERM; for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; kill -STOP -1; "
                             "kill -STOP $$; while :; do :; done")
    time.sleep(0.3)
    commands(env, cid)


@case()
def nobody_can_be_killed_for_memory(env, root):
    """Every process is exempt, as config.json may say: they wait for memory for ever, and nobody else does."""
    def edit(config):
        config["linux"]["resources"] = {"memory": {"limit": 32 << 20}}
        config["process"]["oomScoreAdj"] = -1000
    eat = "for i in 1 2 3 4; do (dd if=/dev/zero of=/dev/null bs=20M) & done; while :; do dd if=/dev/zero of=/dev/null bs=30M; done"
    cid = running(env, root, eat, edit=edit)
    time.sleep(1)
    commands(env, cid)


@case()
def memory_storm(env, root):
    """Processes die for memory all the time, and are born again."""
    eat = "for i in 1 2 3 4; do (while :; do dd if=/dev/zero of=/dev/null bs=24M count=2 2>/dev/null; done) & done; wait"
    cid = running(env, root, "trap '' TERM; " + eat, edit=with_limits(memory={"limit": 48 << 20}))
    time.sleep(3)
    commands(env, cid)


@case()
def output_that_nobody_reads(env, root):
    cid = running(env, root)
    with subprocess.Popen(env.runsc_argv("exec", cid, "yes"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          start_new_session=True) as full:
        time.sleep(0.3)
        prompt(env, "exec", cid, "/bin/true", status=0)
        commands(env, cid)
        full.stdout.close()
        full.wait(PROMPT_S)


@case()
def descriptors_of_the_sentry_run_out(env, root):
    """The sandbox outlives it when all that the host allows the sentry are in use."""
    # Init does nothing, so that it cannot fail: a program whose exec or fork fails for want of descriptors may end.
    script = ("for p in $(seq 30); do (for fd in 3 4 5 6 7 8 9; do echo > /bin/$p-$fd; eval \"exec $fd<>/bin/$p-$fd\"; done;"
              "sleep 3) & done; wait")
    cid = env.new_id()
    expect(detached(env, "create", "--bundle", env.bundle(["/bin/sleep", "100"], root), cid,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))))
    expect(env.runsc("start", cid))
    expect(detached(env, "exec", "--detach", cid, "/bin/sh", "-c", script))
    until(lambda: len(os.listdir("/proc/%d/fd" % sentry_of(env, cid))) > 155, what="all descriptors in use")
    for _ in range(3):
        prompt(env, "state", cid, status=0)
        prompt(env, "exec", cid, "/bin/true")
    until(lambda: env.runsc("exec", cid, "/bin/true").status == 0, 10, "exec after they were given back")
    commands(env, cid)


@case()
def many_sessions(env, root):
    """Sessions by exec that go on do not keep the others out."""
    cid = running(env, root)
    sessions = [subprocess.Popen(env.runsc_argv("exec", cid, "sleep", "100"), stdin=subprocess.DEVNULL,
                                 start_new_session=True) for _ in range(140)]
    until(lambda: prompt(env, "ps", cid, status=0).out.count("sleep 100") == 141, 60, "all sessions")
    commands(env, cid)
    for session in sessions:
        session.wait(PROMPT_S)
