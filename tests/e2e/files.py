"""Files: what the guest writes is what the host sees, and the other way round."""
import os
import random
import shutil
import socket
import stat
import subprocess
import time

from cases import expect, expect_refused
from e2e import registry

case = registry.case

NAME_255 = "n" * 255


class Look:
    """The guest program look.c over a root, in the foreground: `say` sends a command and returns the answer."""

    def __init__(self, env, root, flags=(), edit=None):
        shutil.copy(env.out + "/tests/e2e/look", root + "/bin/look")
        self.id = env.new_id("look")
        bundle = env.bundle(["/bin/look"], root, edit=edit)
        self.process = subprocess.Popen(env.runsc_argv("run", "--bundle", bundle, self.id, flags=flags), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def do(self, *commands):
        """Commands that must succeed without an answer."""
        for command in commands:
            answer = self.say(command)
            assert answer == "", "%s: %s" % (command, answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        status = self.process.wait(20)
        self.process.stdout.close()
        assert status == 0, status


def tree(top):
    """What matters of each file below top: by path, without the times of directories."""
    rows = {}
    for directory, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            rows[os.path.relpath(path, top)] = (
                stat.filemode(st.st_mode), st.st_uid, st.st_gid, st.st_nlink if not stat.S_ISDIR(st.st_mode) else 0,
                st.st_size if stat.S_ISREG(st.st_mode) else 0)
    return rows


WRITER = r"""
set -e
mkdir -p made/deep/er
echo hello >made/plain
echo x >>made/plain
chmod 4750 made/plain
chown 12345:54321 made/plain
chmod 4750 made/plain
touch -d '2001-02-03 04:05:06' made/plain
ln made/plain made/deep/hard
ln -s ../plain made/deep/soft
ln -s dangling made/dangling
chown -h 7:8 made/dangling
mkfifo -m 640 made/fifo
truncate -s 100M made/sparse
echo end >>made/sparse
mkdir -m 1777 made/sticky
mkdir -m 2755 made/setgid
chown 0:99 made/setgid
chmod 2755 made/setgid
touch made/setgid/inherits
echo gone >made/gone
rm made/gone
echo moved >made/old
mv made/old made/deep/er/new
rm etc/hosts
echo other >etc/hostname
"""


@case()
def writes_reach_the_root(env, root):
    """Owner, mode, times, links, sparse sizes, names: all as the guest made them, after its end."""
    script = WRITER + "echo odd >\"made/$(printf 'o\\001d\\377 d')\"\necho long >made/%s\n" % NAME_255
    bundle = env.bundle("cd /; " + script, root)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "")
    made = root + "/made"
    found = {path: row for path, row in tree(made).items()}
    odd = os.fsdecode(b"o\x01d\xff d")
    assert found == {
        "plain": ("-rwsr-x---", 12345, 54321, 2, 8), "deep": ("drwxr-xr-x", 0, 0, 0, 0),
        "deep/hard": ("-rwsr-x---", 12345, 54321, 2, 8), "deep/soft": ("lrwxrwxrwx", 0, 0, 1, 0),
        "deep/er": ("drwxr-xr-x", 0, 0, 0, 0), "deep/er/new": ("-rw-r--r--", 0, 0, 1, 6),
        "dangling": ("lrwxrwxrwx", 7, 8, 1, 0), "fifo": ("prw-r-----", 0, 0, 1, 0),
        "sparse": ("-rw-r--r--", 0, 0, 1, (100 << 20) + 4), "sticky": ("drwxrwxrwt", 0, 0, 0, 0),
        "setgid": ("drwxr-sr-x", 0, 99, 0, 0), "setgid/inherits": ("-rw-r--r--", 0, 99, 1, 0),
        odd: ("-rw-r--r--", 0, 0, 1, 4), NAME_255: ("-rw-r--r--", 0, 0, 1, 5)}, found
    assert os.stat(made + "/plain").st_ino == os.stat(made + "/deep/hard").st_ino
    assert os.stat(made + "/plain").st_mtime == 981173106, os.stat(made + "/plain")
    assert os.readlink(made + "/deep/soft") == "../plain"
    assert os.stat(made + "/sparse").st_blocks * 512 < 1 << 20
    with open(made + "/plain") as f:
        assert f.read() == "hello\nx\n"
    assert not os.path.exists(root + "/etc/hosts")
    with open(root + "/etc/hostname") as f:
        assert f.read() == "other\n"


@case()
def writes_stay_in_the_overlay(env, root):
    before = tree(root)
    for choice in ("root:memory", "root:self", "all:memory", "root:dir=/tmp", "root:memory,size=256m"):
        bundle = env.bundle("cd /; " + WRITER + "test ! -e etc/hosts; cat etc/hostname", root)
        expect(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--overlay2", choice]), 0, "other\n")
        after = tree(root)
        assert after == before, (choice, set(before.items()) ^ set(after.items()))


@case()
def overlay_choices(env, root):
    bundle = env.bundle(["true"], root)
    for choice in ("root", "root:", "memory", "root:disk", "root:dir=relative", "none:memory", "root:memory,size=x",
                   "root:memory,speed=9"):
        result = env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--overlay2", choice])
        assert result.status == 1 and "--overlay2" in result.err, result


@case()
def overlay_size_is_kept(env, root):
    bundle = env.bundle("dd if=/dev/zero of=/big bs=64k count=64 2>&1; ls -l /big | awk '{print $5}'", root)
    result = expect(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--overlay2", "root:memory,size=1m"]), 0,
                    has="No space left on device")
    assert int(result.out.split()[-1]) <= 1 << 20, result


@case()
def do_leaves_the_host_alone(env, root):
    name = env.dir + "/from-do"
    expect(env.runsc("do", "--root", root, "--", "/bin/sh", "-c", "echo x >/from-do && cat /from-do"), 0, "x\n")
    expect(env.runsc("do", "--", "/bin/sh", "-c", "echo x >%s && cat %s" % (name, name)), 0, "x\n")
    assert not os.path.exists(name) and not os.path.exists(root + "/from-do")


@case()
def special_files_and_attributes(env, root):
    """Extended attributes, capabilities of files, sockets, files without a name, both ways."""
    os.mkfifo(root + "/fifo")
    os.mknod(root + "/null", stat.S_IFCHR, os.makedev(1, 3))
    os.chmod(root + "/null", 0o666)
    os.mknod(root + "/disk", stat.S_IFBLK, os.makedev(254, 0))
    os.chmod(root + "/disk", 0o660)
    os.chown(root + "/disk", 4000000000, 3999999999)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(root + "/socket")
    with open(root + "/host", "w") as f:
        f.write("from the host")
    os.setxattr(root + "/host", "user.of", b"host")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(root + "/host", "security.capability", capability)
    with Look(env, root) as look:
        assert look.say("stat /null").startswith("2 666 0 0 0 1 "), look.say("stat /null")
        assert look.say("stat /disk").startswith("6 660 4000000000 3999999999 0 1 "), look.say("stat /disk")
        assert look.say("stat /fifo").startswith("1 ") and look.say("stat /socket").startswith("14 ")
        assert look.say("getxattr /host user.of") == "host"
        assert look.say("getxattr /host security.capability").encode()[:1] == b"\x01"
        look.do("open 1 /plain wc", "write 1 0 text", "setxattr /plain user.mine abc", "setxattr / user.root r",
                "open 2 / wT", "write 2 0 unnamed", "linkat 2 /named", "mknod /made-fifo p", "mknod /made-socket s")
        # Still open, and seen at once.
        with open(root + "/plain") as f:
            assert f.read() == "text"
        look.do("map 1 4096", "poke 1 0 TE")
        with open(root + "/plain") as f:
            assert f.read() == "TExt"
    assert os.getxattr(root + "/plain", "user.mine") == b"abc"
    assert os.getxattr(root, "user.root") == b"r"
    assert os.getxattr(root + "/host", "security.capability") == capability
    with open(root + "/named") as f:
        assert f.read() == "unnamed"
    assert stat.S_ISFIFO(os.stat(root + "/made-fifo").st_mode)
    assert stat.S_ISSOCK(os.stat(root + "/made-socket").st_mode)


def soon(look, command, wanted, seconds=2.5):
    """The answer to a command is as wanted within seconds: a change of the host is seen then."""
    end = time.monotonic() + seconds
    while True:
        seen = look.say(command)
        if seen == wanted or time.monotonic() > end:
            assert seen == wanted, "%s: %r instead of %r" % (command, seen, wanted)
            return
        time.sleep(0.05)


def write(path, text):
    """Replaces a file as engines do: the old one goes, a new one comes."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w") as f:
        f.write(text)


@case()
def host_changes_are_seen(env, root):
    """What an engine does to the root of a running container from outside, while the guest looks."""
    os.makedirs(root + "/d/sub")
    for name in ("kept", "replaced", "removed", "grown"):
        write(root + "/d/" + name, name)
    os.symlink("kept", root + "/d/link")
    with Look(env, root) as look:
        names = "grown kept link removed replaced sub"
        for _ in range(3):  # all of it is cached, that `new` does not exist included
            assert look.say("list /d") == names
            assert look.say("cat /d/replaced") == "replaced" and look.say("cat /d/removed") == "removed"
            assert look.say("cat /d/new") == "-ENOENT" and look.say("cat /d/sub/deep/new") == "-ENOENT"
            assert look.say("stat /d/grown").split()[4] == "5" and look.say("cat /d/link") == "kept"
        look.do("open 1 /d/replaced r", "open 2 /d/removed r", "open 3 /d/grown wa", "map 3 8192", "map 1 4096")
        write(root + "/d/new", "new")
        write(root + "/d/replaced", "another")
        os.unlink(root + "/d/removed")
        with open(root + "/d/grown", "a") as f:
            f.write("x" * 5000)
        os.chmod(root + "/d/kept", 0o600)
        os.unlink(root + "/d/link")
        os.symlink("new", root + "/d/link")
        os.mkdir(root + "/d/sub/deep")
        write(root + "/d/sub/deep/new", "deep")
        soon(look, "cat /d/new", "new")
        soon(look, "cat /d/replaced", "another")
        soon(look, "cat /d/removed", "-ENOENT")
        soon(look, "cat /d/sub/deep/new", "deep")
        soon(look, "cat /d/link", "new")
        soon(look, "list /d", "grown kept link new replaced sub")
        soon(look, "size 3", "5005")
        assert look.say("stat /d/grown").split()[4] == "5005", look.say("stat /d/grown")
        assert look.say("stat /d/kept").split()[1] == "600"
        # Open files and mappings stay what they were; what grew is there.
        assert look.say("read 1 0 100") == "replaced" and look.say("read 2 0 100") == "removed"
        assert look.say("peek 1 0 8") == "replaced" and look.say("peek 3 4990 10") == "x" * 10
        with open(root + "/d/grown", "a") as f:
            f.write("host")
        look.do("append 3 guest")
        with open(root + "/d/grown") as f:
            assert f.read()[5:] == "x" * 5000 + "hostguest"
        # A name that the guest takes is taken, and the other way round.
        look.do("open 4 /d/mine wc", "write 4 0 guest")
        write(root + "/d/mine", "host")
        soon(look, "cat /d/mine", "host")
        look.do("write 4 0 still")
        os.unlink(root + "/d/new")
        soon(look, "cat /d/new", "-ENOENT")


@case()
def host_replaces_directories(env, root):
    """Directories that the guest works in are removed, replaced and moved under its feet."""
    os.makedirs(root + "/top/one/two")
    write(root + "/top/one/two/f", "old")
    with Look(env, root) as look:
        assert look.say("cat /top/one/two/f") == "old" and look.say("list /top/one") == "two"
        look.do("open 1 /top/one/two/f w")
        shutil.rmtree(root + "/top/one")
        os.makedirs(root + "/top/one/two")
        write(root + "/top/one/two/f", "new")
        soon(look, "cat /top/one/two/f", "new")
        assert look.say("read 1 0 10") == "old"
        os.rename(root + "/top/one", root + "/top/moved")
        soon(look, "cat /top/moved/two/f", "new")
        soon(look, "cat /top/one/two/f", "-ENOENT")
        os.mkdir(root + "/top/one")
        soon(look, "list /top/one", "")
        look.do("open 2 /top/one/made wc")
        assert os.listdir(root + "/top/one") == ["made"]


@case()
def host_reuses_inode_numbers(env, root):
    """A file that comes right after another went mostly has its inode number: it is another file all the same."""
    with Look(env, root) as look:
        for k in range(2):
            write(root + "/f", "number %d" % k)
            soon(look, "cat /f", "number %d" % k)
            look.do("open 1 /f r")
            os.unlink(root + "/f")
            write(root + "/f", "other %d" % k)
            soon(look, "cat /f", "other %d" % k)
            look.do("close 1")
            os.unlink(root + "/f")


@case()
def host_changes_while_paused(env, root):
    """Engines pause the container while they copy: everything is seen at once when it goes on."""
    write(root + "/replaced", "old")
    with Look(env, root) as look:
        for k in range(3):
            assert look.say("cat /replaced") == ("old" if k == 0 else "new %d" % (k - 1))
            assert look.say("cat /new%d" % k) == "-ENOENT"
            expect(env.runsc("pause", look.id))
            write(root + "/replaced", "new %d" % k)
            write(root + "/new%d" % k, "there")
            expect(env.runsc("resume", look.id))
            assert look.say("cat /new%d" % k) == "there"
            assert look.say("cat /replaced") == "new %d" % k


@case()
def files_of_lower_layers(env, root):
    """
    The root is an overlay of the host, as the storage of engines has it: the first change of a file copies it up, with
    other numbers, and it is the same file for the guest all the same.
    """
    ways = {"w": "open 5 %s w", "chmod": "chmod %s 600", "link": "link %s /d/linked", "rename": "rename %s /d/renamed",
            "xattr": "setxattr %s user.a b", "trunc": "open 5 %s wt"}
    os.makedirs(root + "/d/sub/deep")
    for name in ways:
        write(root + "/d/" + name, name)
    top = env.dir + "/top"
    for name in ("u", "w", "m"):
        os.makedirs(top + "/" + name)
    shutil.copy(env.out + "/tests/e2e/look", root + "/bin/look")
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s/u,workdir=%s/w" % (
        root, top, top), top + "/m"], check=True)
    try:
        with Look(env, top + "/m") as look:
            for name, way in ways.items():
                look.do("open 1 /d/%s r" % name, way % ("/d/" + name), "close 1")
            for count in (1, 2):
                for name in ways:
                    path = "/d/renamed" if name == "rename" else "/d/" + name
                    look.do("open 2 %s wa" % path, "append 2 +", "close 2")
                    wanted = (name if name != "trunc" else "") + "+" * count
                    assert look.say("stat " + path).split()[4] == str(len(wanted)), look.say("stat " + path)
                    with open(top + "/m" + path) as f:
                        assert f.read() == wanted and look.say("cat " + path) == wanted, name
                time.sleep(1.1)
            look.do("open 3 /d/sub/deep/made wc", "mkdir /d/sub/deep/er", "rename /d/sub/deep/er /d/sub/to")
            time.sleep(1.1)
            look.do("open 4 /d/sub/to/f wc", "write 4 0 f")
            assert look.say("list /d/sub") == "deep to" and look.say("list /d/sub/deep") == "made"
    finally:
        subprocess.run(["umount", top + "/m"], check=True)
    with open(top + "/u/d/sub/to/f") as f:
        assert f.read() == "f"


def host_step(action, path, other):
    """One change of the host; most fail, since nothing is where it should be."""
    try:
        if action == "write":
            write(path, "host")
        elif action == "mkdir":
            os.mkdir(path)
        elif action == "rename":
            os.rename(path, other)
        elif action == "unlink":
            os.unlink(path)
        elif action == "link":
            os.link(path, other)
        else:
            shutil.rmtree(path)
    except OSError:
        pass


@case()
def host_and_guest_change_together(env, root):
    """Both change the same few names at random; a second after the end the guest sees what there is."""
    seed = int.from_bytes(os.urandom(4), "big")
    dice = random.Random(seed)
    os.mkdir(root + "/x")
    places = ["/x/" + a for a in "abcd"] + ["/x/%s/%s" % (a, b) for a in "ab" for b in "efg"]
    actions = ["write", "mkdir", "rename", "unlink", "link"]
    guest = {"write": "open 1 {0} wct", "mkdir": "mkdir {0}", "rename": "rename {0} {1}", "unlink": "unlink {0}",
             "link": "link {0} {1}"}
    with Look(env, root) as look:
        for _ in range(6):
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                path, other = dice.choice(places), dice.choice(places)
                if dice.random() < 0.5:
                    action = dice.choice(actions)
                    if look.say(guest[action].format(path, other)) == "" and action == "write":
                        look.do("write 1 0 guest", "close 1")
                    look.say("stat " + other)
                    look.say("list " + os.path.dirname(other))
                else:
                    host_step(dice.choice(actions + ["rmtree"]), root + path, root + other)
            time.sleep(1.2)
            for path in ["/x"] + places:
                real = root + path
                if os.path.isdir(real):
                    wanted, seen = [" ".join(sorted(os.listdir(real)))], look.say("list " + path)
                elif os.path.exists(real):
                    with open(real) as f:
                        wanted, seen = [f.read()], look.say("cat " + path)
                else:
                    wanted, seen = ["-ENOENT", "-ENOTDIR"], look.say("stat " + path)
                assert seen in wanted, "seed %d, %s: %r instead of %r" % (seed, path, seen, wanted)


@case()
def places_of_mounts(env, root):
    """Missing places are made as runc does, below a read-only root too, and never outside of the root."""
    outside = env.dir + "/outside"
    os.mkdir(outside)
    os.symlink(outside, root + "/link")
    os.symlink("/nowhere", root + "/dangling")
    os.rmdir(root + "/proc")

    def edit(config):
        config["root"]["readonly"] = True
        config["mounts"] += [
            {"destination": "/new/dir", "type": "bind", "source": env.dir, "options": ["bind"]},
            {"destination": "/tmp/in/tmpfs", "type": "bind", "source": env.dir, "options": ["bind"]},
            {"destination": "/new//file", "type": "bind", "source": "/etc/hostname", "options": ["bind", "ro"]},
            {"destination": "/usr/../up/dir", "type": "tmpfs", "source": "tmpfs"}]
    bundle = env.bundle("ls -d /proc/self /new/dir/state /tmp/in/tmpfs/state /up/dir; cat /new/file; : >/x", root, edit=edit)
    with open("/etc/hostname") as f:
        name = f.read()
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 1, has=name, err_has="Read-only file system")
    assert os.listdir(root + "/new/dir") == [] and os.path.getsize(root + "/new/file") == 0
    assert not os.path.exists(root + "/tmp/in") and os.path.isdir(root + "/up/dir")
    for place in ("/link/dir", "/dangling/dir", "/../../dir"):
        bundle = env.bundle("ls -d %s" % place, root, edit=lambda config, place=place: config["mounts"].append(
            {"destination": place, "type": "tmpfs", "source": "tmpfs"}))
        env.runsc("run", "--bundle", bundle, env.new_id())
        assert os.listdir(outside) == [] and not os.path.exists("/nowhere"), place
    assert not os.path.exists(env.dir + "/dir")
    # An overlay takes them.
    bundle = env.bundle("ls -d /over", root, edit=lambda config: config["mounts"].append(
        {"destination": "/over", "type": "tmpfs", "source": "tmpfs"}))
    expect(env.runsc("run", "--bundle", bundle, env.new_id(), flags=["--overlay2", "root:memory"]), 0, "/over\n")
    assert not os.path.exists(root + "/over")


@case()
def attributes_of_open_files(env, root):
    """Mode and times that are set on a file being made are the host's after close, fsync, or the guest's end."""
    with Look(env, root) as look:
        for slot, name in enumerate(("closed", "synced", "left", "written", "removed"), 1):
            look.do("open %d /%s wc" % (slot, name), "write %d 0 x" % slot, "futimes %d 1000000000" % slot,
                    "fchmod %d 4751" % slot)
            assert look.say("stat /" + name) == "10 4751 0 0 1 1 1000000000", look.say("stat /" + name)
        look.do("close 1", "fsync 2", "write 4 1 y", "unlink /removed", "close 5", "chmod /left 600")
        for name in ("closed", "synced"):
            st = os.stat(root + "/" + name)
            assert (st.st_mode & 0o7777, st.st_mtime) == (0o4751, 1000000000), (name, st)
        assert look.say("stat /written").split()[6] != "1000000000"
    for name, mode, mtime in (("closed", 0o4751, True), ("left", 0o600, True), ("written", 0o4751, False)):
        st = os.stat(root + "/" + name)
        assert (st.st_mode & 0o7777, st.st_mtime == 1000000000) == (mode, mtime), (name, st)


@case()
def mounts_of_the_host_follow(env, root):
    """Below a bind mount with rslave, what the host mounts later is seen, and does not keep the host from unmounting."""
    top = env.dir + "/share"
    os.mkdir(top)
    os.mkdir(top + "/m")
    subprocess.run(["mount", "--bind", top, top], check=True)
    subprocess.run(["mount", "--make-shared", top], check=True)
    try:
        for options, late in ((["rbind", "rslave"], "late"), (["rbind", "rshared"], "late"), (["rbind"], "-ENOENT")):
            with Look(env, root, edit=lambda config, options=options: config["mounts"].append(
                    {"destination": "/v", "type": "bind", "source": top, "options": options})) as look:
                assert look.say("list /v/m") == ""
                subprocess.run(["mount", "-t", "tmpfs", "late", top + "/m"], check=True)
                write(top + "/m/f", "late")
                soon(look, "cat /v/m/f", late)
                soon(look, "list /v/m", "f" if late == "late" else "")
                subprocess.run(["umount", top + "/m"], check=True)
                soon(look, "cat /v/m/f", "-ENOENT")
    finally:
        subprocess.run(["umount", top + "/m"], stderr=subprocess.DEVNULL)
        subprocess.run(["umount", top], check=True)


@case()
def deep_tree(env, root):
    """A path almost as long as PATH_MAX allows."""
    make = "cd /; mkdir top; cd top; i=0; while [ $i -lt 60 ]; do mkdir %s; cd %s; i=$((i+1)); done; echo end >f" % (
        "d" * 60, "d" * 60)
    bundle = env.bundle(make + "; cat f", root)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 0, "end\n")
    depth = subprocess.run(["find", root + "/top", "-name", "f", "-printf", "%d"], capture_output=True, text=True)
    assert depth.stdout == "61", depth
    bundle = env.bundle("find /top -type d | wc -l; rm -rf /top; ls -d /top 2>&1", root)
    expect(env.runsc("run", "--bundle", bundle, env.new_id()), 1, has="61\n")
    assert not os.path.exists(root + "/top")


@case()
def many_bind_mounts(env, root):
    """As many as are taken, and one more."""
    def mounts(count):
        def edit(config):
            config["mounts"] += [{"destination": "/many/%d" % n, "type": "bind", "source": env.dir + "/shown",
                                  "options": ["bind", "ro"]} for n in range(count)]
        return edit
    os.mkdir(env.dir + "/shown")
    with open(env.dir + "/shown/file", "w") as f:
        f.write("seen\n")
    run = ("run", "--bundle", env.bundle("cat /many/*/file | sort | uniq -c", root, edit=mounts(200)), env.new_id())
    assert expect(env.runsc(*run)).out.split() == ["200", "seen"]
    run = ("run", "--bundle", env.bundle("true", root, edit=mounts(201)), env.new_id())
    expect_refused(env.runsc(*run), "more than 200 bind mounts")
