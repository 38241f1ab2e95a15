"""exec and its options."""
import json
import os
import socket
import subprocess
import threading

from cases import expect, expect_refused, until
from e2e import registry
from e2e.lifecycle import created, detached

case = registry.case


def running(env, root, args="sleep 100", **changes):
    cid, _ = created(env, root, args, **changes)
    expect(env.runsc("start", cid))
    return cid


@case()
def exec_output_status_stdin(env, root):
    cid = running(env, root)
    expect(env.runsc("exec", cid, "sh", "-c", "echo out; echo err >&2; exit 7"), 7, "out\n", "err\n")
    expect(env.runsc("exec", cid, "cat", stdin="typed"), 0, "typed")
    expect(env.runsc("exec", cid, "sh", "-c", "kill -KILL $$"), 137)
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_program_errors(env, root):
    cid = running(env, root)
    expect_refused(env.runsc("exec", cid, "no-such-program"), "no-such-program", 127)
    expect_refused(env.runsc("exec", cid, "/etc/passwd"), None, 126)
    expect_refused(env.runsc("exec", cid, "/etc"), None, 126)
    expect(env.runsc("exec", cid, "true"))
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_user_cwd_env(env, root):
    cid = running(env, root)
    expect(env.runsc("exec", "--user", "1000:1000", "--cwd", "/home/user", "--env", "A=1", "--env",
                     "B=2", cid, "sh", "-c", "id -u; id -g; pwd; echo $A$B"),
           0, "1000\n1000\n/home/user\n12\n")
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_sees_the_container(env, root):
    cid = running(env, root, "echo here >/made; sleep 100")
    until(lambda: env.runsc("exec", cid, "cat", "/made").out == "here\n", what="the file")
    out = expect(env.runsc("exec", cid, "ps", "-o", "pid,args")).out
    assert "1 " in out and "sleep 100" in out, out
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_process_file(env, root):
    cid = running(env, root)
    path = env.dir + "/process.json"
    with open(path, "w") as f:
        json.dump({"args": ["sh", "-c", "pwd; echo $X"], "cwd": "/etc", "env": ["PATH=/bin", "X=y"],
                   "user": {"uid": 0, "gid": 0}}, f)
    expect(env.runsc("exec", "--process", path, cid), 0, "/etc\ny\n")
    with open(path, "w") as f:
        f.write("{")
    expect_refused(env.runsc("exec", "--process", path, cid))
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_detached_with_pid_file(env, root):
    cid = running(env, root)
    pid_file = env.dir + "/exec.pid"
    expect(detached(env, "exec", "--detach", "--pid-file", pid_file, cid, "sh", "-c",
                    "echo detached; sleep 100"))
    with open(pid_file) as f:
        assert int(f.read()) > 0
    until(lambda: "sleep 100" in env.runsc("ps", cid).out.replace("/bin/sh -c sleep 100", ""),
          what="the second sleep")
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_fails_after_init_ends(env, root):
    cid = running(env, root, "sleep 0.2")
    until(lambda: env.runsc("exec", cid, "true").status != 0, what="refusal")
    expect_refused(env.runsc("exec", cid, "true"), "stopped")
    expect(env.runsc("delete", cid))


@case()
def init_end_kills_execs(env, root):
    cid = running(env, root, "sleep 0.5")
    process = subprocess.Popen(env.runsc_argv("exec", cid, "sleep", "100"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    assert process.wait(10) != 0
    expect(env.runsc("delete", cid))


@case()
def many_execs(env, root):
    cid = running(env, root)
    for n in range(20):
        expect(env.runsc("exec", cid, "echo", str(n)), 0, "%d\n" % n)
    processes = [subprocess.Popen(env.runsc_argv("exec", cid, "sh", "-c", "sleep 0.1; exit %d" % n),
                                  stdin=subprocess.DEVNULL, start_new_session=True)
                 for n in range(10)]
    for n, process in enumerate(processes):
        assert process.wait(20) == n
    expect(env.runsc("delete", "--force", cid))


@case()
def preserve_fds(env, root):
    with open(env.dir + "/given", "w") as f:
        f.write("through fd 3")
    bundle = env.bundle("cat <&3", root)
    fd = os.open(env.dir + "/given", os.O_RDONLY)
    argv = ["sh", "-c", 'exec "$@" 3<%s/given' % env.dir, "sh"]
    os.close(fd)
    import sandbox
    expect(sandbox.run(argv + env.runsc_argv("run", "--preserve-fds", "1", "--bundle", bundle,
                                             env.new_id())), 0, "through fd 3")


def receive_console(path, result):
    """Takes the terminal that the runtime sends to a console socket."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)

    def accept():
        connection, _ = server.accept()
        message, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        result["name"], result["fd"] = message, fds[0]
        connection.close()
        server.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    return thread


@case()
def exec_with_console_socket(env, root):
    cid = running(env, root)
    got, path = {}, env.dir + "/console.sock"
    thread = receive_console(path, got)
    expect(detached(env, "exec", "--tty", "--detach", "--console-socket", path, cid, "sh", "-c",
                    "tty; echo over"))
    thread.join(10)
    text = b""
    while b"over" not in text:
        text += os.read(got["fd"], 1000)
    assert b"/dev/pts/" in text, text
    os.close(got["fd"])
    expect(env.runsc("delete", "--force", cid))


@case()
def ps_prints_no_control_characters(env, root):
    """A command line is the guest's: it neither makes rows of its own nor commands the terminal."""
    cid = running(env, root, ["sh", "-c", "sleep 100; true", "\x1b]0;title\x07\n0  7  1 forged\u009b2J"])
    out = until(lambda: next((out for out in [expect(env.runsc("ps", cid)).out] if "  sleep 100\n" in out), None))
    assert len(out.splitlines()) == 3 and "?]0;title??0  7  1 forged??2J" in out, repr(out)
    expect(env.runsc("delete", "--force", cid))
