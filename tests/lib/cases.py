"""Scripted cases: functions marked with @case, checks with useful messages, the search for leftovers."""
import glob
import os
import time

import sandbox


class Skip(Exception):
    """The machine lacks what the case needs."""


class Case:
    def __init__(self, function, name, alone):
        self.function, self.name, self.alone = function, name, alone

    def run(self, env, shared):
        self.function(env, shared)
        check_clean(env)


class Registry:
    def __init__(self):
        self.rows = []

    def case(self, alone=False):
        """@registry.case(): the function's module and name give the case's name."""
        def mark(function):
            module = function.__module__.rsplit(".", 1)[-1]
            self.rows.append(Case(function, module + "." + function.__name__, alone))
            return function
        return mark


def expect(result, status=0, out=None, err=None, has=None, err_has=None):
    """Checks a sandbox.Result; returns it. err="" means silence, err_has a part of the message."""
    if status is not None and result.status != status:
        raise AssertionError("status %d instead of %d: %s\n%r" % (
            result.status, status, (result.err.strip().splitlines() or [""])[-1], result))
    if out is not None and result.out != out:
        raise AssertionError("stdout %r instead of %r\n%r" % (result.out, out, result))
    if has is not None and has not in result.out:
        raise AssertionError("%r is not in stdout\n%r" % (has, result))
    if err is not None and result.err != err:
        raise AssertionError("stderr %r instead of %r" % (result.err, err))
    if err_has is not None and err_has not in result.err:
        raise AssertionError("%r is not in stderr\n%r" % (err_has, result))
    return result


def expect_refused(result, err_has=None, status=None):
    """A failure as a user should see it: a non-zero status and one clear line."""
    if result.status == 0 or (status is not None and result.status != status):
        raise AssertionError("status %d, wanted %s\n%r" % (result.status, status or "a failure", result))
    lines = result.err.strip().splitlines()
    if len(lines) != 1:
        raise AssertionError("%d lines of error instead of one\n%r" % (len(lines), result))
    for word in ("Assertion", "core dumped", "BUG", "Traceback"):
        if word in result.err:
            raise AssertionError("not a sentence for people\n%r" % result)
    if err_has is not None and err_has.lower() not in result.err.lower():
        raise AssertionError("%r is not in the message\n%r" % (err_has, result))
    return result


def until(condition, seconds=5, what="condition"):
    """Polls; returns the first true value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("not within %g s: %s" % (seconds, what))
        time.sleep(0.01)


def check_clean(env):
    """Nothing of the case may be left but its own scratch files."""
    problems = []

    def find():
        problems.clear()
        for pid, command in env.processes():
            problems.append("process %d: %s" % (pid, command))
        for point in sandbox.mounts_below(env.dir):
            problems.append("mount " + point)
        if os.path.isdir(env.state):
            for root, dirs, files in os.walk(env.state):
                for name in files + dirs:
                    problems.append("state " + os.path.join(root, name))
        for path in glob.glob("/sys/fs/cgroup/**/*%s*" % os.path.basename(env.dir), recursive=True):
            problems.append("cgroup " + path)
        return not problems

    try:
        until(find, 4)
    except AssertionError:
        raise AssertionError("left behind: " + "; ".join(problems[:10])) from None
