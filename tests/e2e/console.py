"""Terminals: with a console socket, and runsc's own terminal passed through."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from cases import expect, until
from e2e import registry
from e2e.execs import receive_console
from e2e.lifecycle import detached

case = registry.case


class Terminal:
    """A program on a terminal of its own; `say` types, `until` reads."""

    def __init__(self, argv, rows=30, columns=100):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def lead():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave,
                                        preexec_fn=lead, close_fds=True)
        os.close(slave)
        self.text = ""
        self.seen = 0

    def say(self, text):
        os.write(self.master, text.encode())

    def until(self, wanted, seconds=10):
        """Reads until `wanted` comes after what earlier calls have matched."""
        end = time.monotonic() + seconds
        while wanted not in self.text[self.seen:]:
            ready = select.select([self.master], [], [], max(0, end - time.monotonic()))[0]
            data = b""
            if ready:
                try:
                    data = os.read(self.master, 4096)
                except OSError:
                    pass
            if not data:
                raise AssertionError("no %r in %r" % (wanted, self.text[self.seen:]))
            self.text += data.decode(errors="replace")
        self.seen = self.text.index(wanted, self.seen) + len(wanted)

    def end(self, seconds=10):
        """Exit status, after reading what is left."""
        stop = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < stop:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    time.sleep(0.02)
        if self.process.poll() is None:
            self.process.kill()
            raise AssertionError("no end; last output %r" % self.text[-500:])
        os.close(self.master)
        return self.process.returncode


def shell(env, root, args=("/bin/sh",), **changes):
    def edit(config):
        config["process"]["terminal"] = True
        config["process"]["env"].append("PS1=$ ")
    bundle = env.bundle(list(args), root, edit=edit, **changes)
    return Terminal(env.runsc_argv("run", "--bundle", bundle, env.new_id()))


@case()
def interactive_shell(env, root):
    term = shell(env, root)
    term.until("$ ")
    term.say("tty; echo $((6*7))\r")
    term.until("/dev/")
    term.until("42")
    term.until("$ ")
    term.say("exit 3\r")
    assert term.end() == 3


@case()
def console_device(env, root):
    term = shell(env, root, ["/bin/sh", "-c", "stat -c '%F %t %n' /dev/console; test $(stat -c %r /dev/console) = "
                             "$(stat -c %r $(tty)) && echo the same; echo said to it >/dev/console"])
    term.until("character special file 88 /dev/console")
    term.until("the same")
    term.until("said to it")
    assert term.end() == 0


@case()
def window_size(env, root):
    term = shell(env, root, ["/bin/sh", "-c", "stty size; trap 'echo winched; stty size' WINCH; echo set; "
                             "while :; do sleep 0.05; done"])
    term.until("30 100")
    term.until("set")
    fcntl.ioctl(term.master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    term.until("winched")
    term.until("50 132")
    term.say("\x03")
    term.end()


@case()
def interrupt_character(env, root):
    term = shell(env, root)
    term.until("$ ")
    term.say("sleep 100\r")
    time.sleep(0.3)
    term.say("\x03")
    term.until("$ ")
    term.say("echo status $?\r")
    term.until("status 130")
    term.say("exit\r")
    term.end()


@case()
def job_control(env, root):
    term = shell(env, root)
    term.until("$ ")
    term.say("sleep 100\r")
    time.sleep(0.3)
    term.say("\x1a")
    term.until("Stopped")
    term.until("$ ")
    term.say("bg\r")
    term.until("sleep 100")
    term.say("jobs\r")
    term.until("Running")
    term.say("fg\r")
    time.sleep(0.2)
    term.say("\x03")
    term.until("$ ")
    term.say("jobs; echo no jo''bs left\r")
    term.until("no jobs left")
    term.say("exit\r")
    term.end()


@case()
def end_of_input(env, root):
    term = shell(env, root, ["/bin/cat"])
    term.say("hello\r")
    term.until("hello\r\nhello")
    term.say("\x04")
    assert term.end() == 0


@case()
def host_terminal_is_restored(env, root):
    term = shell(env, root, ["/bin/sh", "-c", "stty -echo; sleep 0.3"])
    before = termios.tcgetattr(term.master)
    time.sleep(0.15)
    during = termios.tcgetattr(term.master)
    assert not during[3] & termios.ICANON, "the host's terminal must be raw while the guest's is not"
    term.process.wait(10)
    after = termios.tcgetattr(term.master)
    assert after[3] & (termios.ICANON | termios.ECHO) == termios.ICANON | termios.ECHO, (before, after)
    term.end()


@case()
def console_socket(env, root):
    def edit(config):
        config["process"]["terminal"] = True
    bundle = env.bundle("tty; stty size; read x; echo got $x", root, edit=edit,
                        consoleSize={"height": 20, "width": 60})
    cid, got, path = env.new_id(), {}, env.dir + "/console.sock"
    thread = receive_console(path, got)
    expect(detached(env, "create", "--bundle", bundle, "--console-socket", path, cid))
    thread.join(10)
    expect(env.runsc("start", cid))
    text = b""
    while b"20 60" not in text:
        text += os.read(got["fd"], 1000)
    os.write(got["fd"], b"typed\n")
    while b"got typed" not in text:
        text += os.read(got["fd"], 1000)
    until(lambda: '"stopped"' in env.runsc("state", cid).out, what="stopped")
    os.close(got["fd"])
    expect(env.runsc("delete", cid))


@case()
def console_socket_resized(env, root):
    """The size comes later, on the other end of the terminal, as conmon and shims set it."""
    def edit(config):
        config["process"]["terminal"] = True
    script = "trap 'echo changed' WINCH; stty -echo; stty size; read x; stty size; while :; do sleep 0.1; done"
    bundle = env.bundle(script, root, edit=edit,
                        consoleSize={"height": 20, "width": 60})
    cid, got, path = env.new_id(), {}, env.dir + "/console.sock"
    thread = receive_console(path, got)
    expect(detached(env, "create", "--bundle", bundle, "--console-socket", path, cid))
    thread.join(10)
    expect(env.runsc("start", cid))
    text = b""
    while b"20 60" not in text:
        text += os.read(got["fd"], 1000)
    fcntl.ioctl(got["fd"], termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.write(got["fd"], b"typed\n")
    while b"33 77" not in text:
        text += os.read(got["fd"], 1000)
    assert b"changed" in text, text
    # Nobody types or asks: the program is told within moments.
    text = b""
    fcntl.ioctl(got["fd"], termios.TIOCSWINSZ, struct.pack("HHHH", 34, 78, 0, 0))
    while b"changed" not in text:
        assert select.select([got["fd"]], [], [], 5)[0], text
        text += os.read(got["fd"], 1000)
    os.close(got["fd"])
    expect(env.runsc("delete", "--force", cid))


@case()
def exec_on_terminal(env, root):
    cid = env.new_id()
    bundle = env.bundle("sleep 100", root)
    expect(detached(env, "run", "--detach", "--bundle", bundle, cid))
    term = Terminal(env.runsc_argv("exec", "--tty", cid, "/bin/sh"))
    term.say("tty; echo $((40+2))\r")
    term.until("/dev/")
    term.until("42")
    term.say("exit 6\r")
    assert term.end() == 6
    expect(env.runsc("delete", "--force", cid))
