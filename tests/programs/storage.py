"""What programs leave in the root file system: the same as under another runtime."""
import difflib
import hashlib
import os
import shutil
import stat
import subprocess

import sandbox
from cases import Skip
from programs import registry
from programs.roots import host_script, merged, over

# Builds a package with all kinds of files and installs it, as a RUN of a Dockerfile would; then changes, removes and
# installs again. Whatever depends on the time of day or on chance is removed at the end.
DPKG = r"""
set -e
export SOURCE_DATE_EPOCH=1000000000 DEBIAN_FRONTEND=noninteractive
mkdir -p /build/p/DEBIAN && cd /build
cat >p/DEBIAN/control <<'C'
Package: sample
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Depends: bash
Description: files of all kinds
C
echo /etc/sample.conf >p/DEBIAN/conffiles
cat >p/DEBIAN/postinst <<'C'
#!/bin/sh
set -e
adduser --system --group --no-create-home --quiet sampled 2>/dev/null || useradd --system -M sampled
chown sampled /var/lib/sample
chown root:sampled /usr/bin/sample-suid
chmod 4750 /usr/bin/sample-suid
[ -p /var/lib/sample/fifo ] || mkfifo -m 600 /var/lib/sample/fifo
update-alternatives --install /usr/bin/sample sample /usr/bin/sample-1 10 >/dev/null
ldconfig
touch -d '2002-03-04 05:06:07 UTC' /var/lib/sample/stamp
C
chmod 755 p/DEBIAN/postinst
mkdir -p p/usr/bin p/usr/share/sample p/etc p/var/lib/sample "p/usr/share/sample/name with spaces"
i=0; while [ $i -lt 1500 ]; do mkdir -p p/usr/share/sample/$((i%30)); echo "file $i" >p/usr/share/sample/$((i%30))/$i; i=$((i+1)); done
printf '#!/bin/sh\necho one\n' >p/usr/bin/sample-1; chmod 755 p/usr/bin/sample-1
cp p/usr/bin/sample-1 p/usr/bin/sample-suid; ln p/usr/bin/sample-1 p/usr/bin/sample-linked
ln -s ../share/sample p/usr/bin/to-share; ln -s /nowhere p/usr/share/sample/dangling
echo 'a = 1' >p/etc/sample.conf
dd if=/dev/urandom of=p/usr/share/sample/random bs=1k count=300 2>/dev/null; : >p/usr/share/sample/random
find p -exec touch -h -d '2001-01-01 UTC' {} +
dpkg-deb --build p sample.deb >/dev/null
dpkg -i sample.deb >/dev/null
sample | grep -q one
sed -i 's/Version: 1.0/Version: 2.0/' p/DEBIAN/control
rm -r p/usr/share/sample/7 p/usr/bin/sample-linked
dpkg-deb --build p sample.deb >/dev/null
echo 'a = 2' >/etc/sample.conf
dpkg --force-confold -i sample.deb >/dev/null
dpkg --verify sample || true
rm -rf /usr/share/doc/bash /usr/share/locale/de
mv /usr/share/sample/8 /usr/share/moved
cp -a /usr/share/sample/9 /usr/share/copied
chmod -R g+w /usr/share/copied
mkdir /build/keep && truncate -s 1M /build/keep/sparse && echo x >>/build/keep/sparse
python3 - <<'P'
import os
os.setxattr("/build/keep/sparse", "user.note", b"kept")
fd = os.open("/build/keep", os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b"unnamed")
os.link("%d" % fd, "/build/keep/named", src_dir_fd=os.open("/proc/self/fd", os.O_RDONLY), follow_symlinks=True)
os.mkdir(b"/build/keep/odd \xff\x01")
open("/build/keep/" + "n" * 255, "w").close()
P
rm -rf /build/p /var/log/* /var/cache/ldconfig /var/lib/dpkg/info/*.md5sums
sync
"""


def listing(top):
    """A line for each file below top: what an engine would put into a layer, but for times that depend on the run."""
    lines = []
    for directory, dirs, files in os.walk(os.fsencode(top)):
        for name in dirs + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            row = [stat.filemode(st.st_mode), str(st.st_uid), str(st.st_gid)]
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    row += [str(st.st_nlink), str(st.st_size), hashlib.md5(f.read()).hexdigest()]
                row += ["%s=%s" % (key, os.getxattr(path, key)) for key in os.listxattr(path)]
            elif stat.S_ISLNK(st.st_mode):
                row.append(repr(os.readlink(path)))
            if st.st_mtime < 1500000000:
                row.append("%d" % st.st_mtime)
            lines.append("%r %s" % (os.path.relpath(path, os.fsencode(top)), " ".join(row)))
    return sorted(lines)


def tree_after(env, root, tag, argv):
    """Runs argv over an overlay of root and copies what is in its upper directory (changes and whiteouts)."""
    top, copy = merged(env), env.dir + "/" + tag
    script = '"$@" || exit; cp -a %s/u %s' % (top, copy)
    result = sandbox.run(over(top, root, ["sh", "-c", script, "sh", *argv]), timeout=200)
    assert result.status == 0, (tag, result)
    lines = listing(copy)
    shutil.rmtree(copy)
    return lines


@registry.case()
def deb_package_leaves_the_same_tree(env, roots):
    """dpkg in the sandbox changes the upper directory of the root's overlay exactly as it does under runc."""
    if env.on_host:
        host_script(env, roots.debian, "true", 10, "/bin/sh", None)
        return
    if not shutil.which("runc"):
        raise Skip("no runc to compare with")
    bundle = env.bundle(["/bin/bash", "-c", DPKG], merged(env) + "/m", edit=for_every_host)
    ours = tree_after(env, roots.debian, "ours", env.runsc_argv("run", "--bundle", bundle, env.new_id()))
    runc = ["runc", "--root", env.dir + "/runc", "run", "--bundle", bundle, env.new_id("runc")]
    theirs = tree_after(env, roots.debian, "theirs", runc)
    subprocess.run(["rm", "-rf", env.dir + "/runc"], check=True)
    assert len(ours) > 1500, ours
    difference = [line for line in difflib.unified_diff(theirs, ours, "runc", "ours", n=0, lineterm="")]
    assert not difference, "\n".join(difference[:40])


def for_every_host(config):
    """What runc can give on every host."""
    config["mounts"] = [m for m in config["mounts"] if m["type"] not in ("mqueue", "sysfs")]
    keep = ["CAP_" + c for c in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
                                 "SETFCAP", "MKNOD", "NET_BIND_SERVICE", "SYS_CHROOT", "AUDIT_WRITE")]
    config["process"]["capabilities"] = {k: keep for k in ("bounding", "effective", "permitted")}
    config["process"].pop("rlimits", None)
