"""Programs of a Debian minbase root."""
from cases import expect
from programs import registry
from programs.roots import merged, over, run_script


def script(name, text, out=None, status=0, timeout=60, has=None, stdin=None):
    """`out` is the whole of stdout; `has` are parts of it."""
    def run(env, roots):
        result = expect(run_script(env, roots.debian, text, timeout, stdin=stdin), status, out)
        for part in has or []:
            expect(result, status, has=part)
    run.__name__, run.__module__ = name, __name__
    registry.case()(run)


script("bash", "declare -A m=([a]=1 [b]=2); echo ${m[b]}; x=(1 2 3); echo ${x[@]:1}; diff <(seq 3) <(seq 3) && echo same; "
       "[[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}; printf '%q\\n' 'a b'; coproc cat; echo hi >&${COPROC[1]}; "
       "read -u ${COPROC[0]} l; echo $l; mapfile -t v < <(seq 5); echo ${#v[@]}; trap 'echo ex' EXIT",
       "2\n2 3\nsame\nc\na\\ b\nhi\n5\nex\n")
script("coreutils", "seq 100000 | sort -R | sort -n | md5sum | cut -c1-8; dd if=/dev/zero bs=64k count=16 2>/dev/null | sha256sum | cut -c1-8; "
       "touch -d '2020-01-02 03:04:05 UTC' f; TZ=UTC stat -c '%Y %a %s' f; ln f g; stat -c %h f; truncate -s 1G big; du -k big | cut -f1; "
       "shuf -i 1-10 | wc -l; split -l 10 <(seq 35) part; ls part* | wc -l; cp -r /etc/apt apt; diff -r apt /etc/apt && echo same; "
       "mktemp -d | wc -l; df /tmp | wc -l; timeout 0.2 sleep 5; echo $?; id; nproc | grep -c .; realpath /bin/sh",
       "dea9193b\n30e14955\n1577934245 644 0\n2\n0\n10\n4\nsame\n1\n2\n124\nuid=0(root) gid=0(root) groups=0(root)\n1\n/usr/bin/dash\n")
script("find_grep_sed_awk", "find /usr/lib/python3.11 -name '*.py' | wc -l | awk '{print ($1 > 500)}'; "
       "grep -rl 'def main' /usr/lib/python3.11/*.py | wc -l | awk '{print ($1 > 5)}'; "
       "find /etc -xdev -type f -exec cat {} + | wc -l | awk '{print ($1 > 500)}'; "
       "seq 10 | sed -n '3,5p;$p' | tr '\\n' ' '; echo; gawk 'BEGIN { for (i = 0; i < 5; i++) s = s i; print s, length(s) }'",
       "1\n1\n1\n3 4 5 10 \n01234 5\n", timeout=90)
script("tar_gzip_xz", "tar cf - -C /usr/share perl5 python3 2>/dev/null | tee >(gzip >t.gz) >(xz -1 >t.xz) | wc -c | awk '{print ($1 > 100000)}'; sleep 1; "
       "mkdir a b; tar xzf t.gz -C a; tar xJf t.xz -C b; diff -r a b && echo same; gzip -t t.gz && xz -t t.xz && echo intact",
       "1\nsame\nintact\n", timeout=90)
script("dpkg", "dpkg -l | grep -c '^ii' | awk '{print ($1 > 100)}'; dpkg -S /bin/bash; dpkg-query -W -f '${Status}\\n' coreutils; "
       "dpkg --verify bash && echo verified", "1\nbash: /bin/bash\ninstall ok installed\nverified\n", timeout=90)
script("perl", "perl -e 'my %h; $h{$_ % 7}++ for 1..100000; print join(\",\", map { \"$_=$h{$_}\" } sort keys %h), \"\\n\"; "
       "my $pid = fork; if (!$pid) { exit 3 } waitpid $pid, 0; print $? >> 8, \"\\n\"; print `echo sub`; "
       "use POSIX; print strftime(\"%Y\", gmtime 0), \"\\n\"; $_ = \"a1b22\"; print join(\"|\", /(\\d+)/g), \"\\n\"; "
       "local $SIG{ALRM} = sub { print \"alarm\\n\" }; alarm 1; sleep 3'",
       "0=14285,1=14286,2=14286,3=14286,4=14286,5=14286,6=14285\n3\nsub\n1970\n1|22\nalarm\n")
script("git", "git config --global user.email a@b; git config --global user.name n; git init -q repo; cd repo; "
       "for i in 1 2 3; do echo $i >f$i; git add .; git commit -qm \"commit $i\"; done; git log --oneline | wc -l; "
       "cd ..; git clone -q repo copy; cd copy; cat f3; git log --format=%s | head -1; git checkout -q -b side; echo x >>f1; "
       "git commit -qam side; git diff --stat master | tail -1; git fsck 2>&1 | grep -c error; git gc -q; git status --short | wc -l",
       "3\n3\ncommit 3\n 1 file changed, 1 insertion(+)\n0\n0\n", timeout=90)
script("make", "cat >Makefile <<'E'\nall: a b c\n\t@echo linked $^\n%: %.in\n\t@sleep 0.1; cp $< $@; echo made $@ >>log\nE\n"
       "touch a.in b.in c.in; make -s -j3; sort log; make -s -q all; echo $?; make -s; touch b.in; make -s; wc -l <log",
       "linked a b c\nmade a\nmade b\nmade c\n1\nlinked a b c\nlinked a b c\n4\n")
script("gcc_threads", "cat >t.c <<'E'\n#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\nstatic pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;\n"
       "static long sum;\nstatic void *w(void *a) { for (long i = 0; i < 50000; i++) { pthread_mutex_lock(&m); sum += (long)a; pthread_mutex_unlock(&m); } return 0; }\n"
       "int main(void) { pthread_t t[8]; for (long i = 0; i < 8; i++) pthread_create(&t[i], 0, w, (void *)i); for (int i = 0; i < 8; i++) pthread_join(t[i], 0); "
       "printf(\"%ld\\n\", sum); return 0; }\nE\ngcc -O2 -Wall -pthread t.c -o t && ./t; gcc -static -O1 -pthread t.c -o s && ./s; gcc -g -fsyntax-only t.c && echo fine",
       "1400000\n1400000\nfine\n", timeout=90)
script("python", "python3 -c 'import sys, json, hashlib, os, tempfile, re\n"
       "print(sum(range(10**6)), json.loads(\"[1,2]\"), hashlib.sha256(b\"x\").hexdigest()[:8], os.cpu_count() >= 1)\n"
       "with tempfile.NamedTemporaryFile() as f: f.write(b\"abc\"); f.flush(); print(open(f.name).read())\n"
       "print(re.sub(r\"(\\w)\", r\"<\\1>\", \"ab\")); sys.exit(5)'", "499999500000 [1, 2] 2d711642 True\nabc\n<a><b>\n", 5)
script("python_threads_and_processes", "cat >t.py <<'E'\nimport threading, subprocess, multiprocessing, queue\n"
       "def f(x):\n    return x * x\n"
       "if __name__ == '__main__':\n"
       "    q = queue.Queue()\n    ts = [threading.Thread(target=lambda i=i: q.put(i)) for i in range(20)]\n"
       "    [t.start() for t in ts]; [t.join() for t in ts]; print(sorted(q.queue)[-1])\n"
       "    print(subprocess.run(['sh', '-c', 'cat; echo err >&2; exit 3'], input=b'in', capture_output=True))\n"
       "    with multiprocessing.Pool(3) as p: print(sum(p.map(f, range(100))))\n"
       "    ctx = multiprocessing.get_context('spawn')\n    r, w = ctx.Pipe()\n"
       "    p = ctx.Process(target=w.send, args=('spawned',)); p.start(); print(r.recv()); p.join(); print(p.exitcode)\n"
       "    v = multiprocessing.Value('i', 0)\n"
       "    def add():\n        for _ in range(500):\n            with v.get_lock(): v.value += 1\n"
       "    ps = [multiprocessing.Process(target=add) for _ in range(4)]; [p.start() for p in ps]; [p.join() for p in ps]; print(v.value)\n"
       "E\npython3 t.py",
       "19\nCompletedProcess(args=['sh', '-c', 'cat; echo err >&2; exit 3'], returncode=3, stdout=b'in', stderr=b'err\\n')\n"
       "328350\nspawned\n0\n2000\n", timeout=90)
script("python_asyncio", "cat >t.py <<'E'\nimport asyncio, signal, os\n"
       "async def serve(r, w):\n    w.write((await r.readline()).upper()); await w.drain(); w.close()\n"
       "async def main():\n    s = await asyncio.start_server(serve, '127.0.0.1', 0)\n    port = s.sockets[0].getsockname()[1]\n"
       "    async def ask(i):\n        r, w = await asyncio.open_connection('127.0.0.1', port)\n        w.write(b'msg%d\\n' % i); return await r.read()\n"
       "    print(sorted(await asyncio.gather(*[ask(i) for i in range(20)]))[-1])\n"
       "    p = await asyncio.create_subprocess_exec('sh', '-c', 'sleep 0.1; echo sub', stdout=asyncio.subprocess.PIPE)\n"
       "    print((await p.communicate())[0], p.returncode)\n"
       "    try: await asyncio.wait_for(asyncio.sleep(5), 0.1)\n    except asyncio.TimeoutError: print('timeout')\n"
       "    e = asyncio.Event(); asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, e.set); os.kill(os.getpid(), signal.SIGUSR1)\n"
       "    await e.wait(); print('signal')\nasyncio.run(main())\nE\npython3 t.py",
       "b'MSG9\\n'\nb'sub\\n' 0\ntimeout\nsignal\n")
script("python_sqlite", "python3 -c 'import sqlite3\nc = sqlite3.connect(\"db\")\nc.execute(\"pragma journal_mode=wal\")\n"
       "c.execute(\"create table t (a integer primary key, b text)\")\n"
       "c.executemany(\"insert into t (b) values (?)\", [(str(i),) for i in range(20000)])\nc.commit()\n"
       "d = sqlite3.connect(\"db\")\nprint(d.execute(\"select count(*), sum(b), max(a) from t\").fetchone())\n"
       "try:\n    d.isolation_level = None; d.execute(\"begin immediate\"); sqlite3.connect(\"db\", timeout=0.1).execute(\"begin immediate\")\n"
       "except sqlite3.OperationalError as e: print(e)'", "(20000, 199990000, 20000)\ndatabase is locked\n")
script("python_venv", "python3 -m venv v && . v/bin/activate && python -c 'import sys; print(sys.prefix)' && pip --version | cut -d' ' -f1 && pip list 2>/dev/null | grep -c pip",
       "/tmp/v\npip\n1\n", timeout=120)
script("sqlite3", "sqlite3 db 'create table t(a,b); with recursive n(x) as (select 1 union all select x+1 from n where x<50000) insert into t select x, x*x from n; "
       "select count(*), sum(b) from t; create index i on t(b); select a from t where b=1521; pragma integrity_check;'; ls -la db | wc -l",
       "50000|41667916675000\n39\nok\n1\n")
script("node", "cat >t.js <<'E'\nconst http = require('http'), fs = require('fs'), cp = require('child_process');\n"
       "console.log([3,1,2].sort().join());\nfs.writeFileSync('f', 'x'.repeat(100000)); console.log(fs.statSync('f').size);\n"
       "console.log(cp.execSync('echo sub').toString().trim());\n"
       "const { Worker, isMainThread, parentPort } = require('worker_threads');\n"
       "const s = http.createServer((q, r) => r.end('served ' + q.url)).listen(0, '127.0.0.1', () => {\n"
       "  http.get({ port: s.address().port, host: '127.0.0.1', path: '/p' }, r => r.on('data', d => { console.log(d.toString()); s.close();\n"
       "    const w = new Worker('require(\"worker_threads\").parentPort.postMessage(6*7)', { eval: true }); w.on('message', m => console.log(m));\n"
       "    fs.promises.readFile('f').then(b => setTimeout(() => console.log('read', b.length), 200)); })); });\nE\nnode t.js",
       "1,2,3\n100000\nsub\nserved /p\n42\nread 100000\n", timeout=90)
script("redis", "redis-server --port 7001 --save '' --daemonize yes --logfile r.log --dir /tmp >/dev/null; "
       "for i in $(seq 50); do redis-cli -p 7001 ping 2>/dev/null | grep -q PONG && break; sleep 0.1; done; "
       "redis-cli -p 7001 set k v; redis-cli -p 7001 get k; redis-cli -p 7001 incrby n 41; redis-cli -p 7001 incr n; "
       "redis-benchmark -p 7001 -n 3000 -c 10 -t get,set -q 2>/dev/null | tr '\\r' '\\n' | grep -c 'requests per second'; "
       "redis-cli -p 7001 save; redis-cli -p 7001 bgsave >/dev/null; sleep 0.5; test -s dump.rdb && echo dumped; redis-cli -p 7001 shutdown nosave; echo end",
       "OK\nv\n41\n42\n2\nOK\ndumped\nend\n", timeout=90)
script("go_static", "file -L /usr/bin/pup | grep -o 'statically linked'; echo '<a><b class=x>one</b><b>two</b></a>' | pup 'b.x text{}'; "
       "for i in 1 2 3 4 5; do echo '<p>'$i'</p>' | pup 'p text{}'; done", "statically linked\none\n1\n2\n3\n4\n5\n")
script("ps_and_top", "n=60; sleep $n & ps aux | head -1 | awk '{print $1, $2, $NF}'; ps aux | grep -c '[s]leep 60'; ps -ef --forest | grep -c '[s]leep 60'; "
       "top -b -n1 | grep -E '^%?Cpu|^ *PID' | wc -l; top -b -n1 | grep -c ' sleep$' | awk '{print ($1 > 0)}'; pgrep sleep | wc -l; free -m | grep -c Mem; uptime | grep -c load; "
       "vmstat | tail -1 | wc -w; pkill sleep; wait; ps -eo pid,comm --no-headers | head -1 | awk '{print $1, $2}'",
       "USER PID COMMAND\n1\n1\n2\n1\n1\n1\n1\n17\n1 bash\n")
script("dynamic_loader", "ldd /bin/bash | grep -c libc.so; LD_DEBUG=libs /bin/true 2>&1 | grep -c 'calling init' | awk '{print ($1 > 0)}'; "
       "cat >l.c <<'E'\nint f(void) { return 7; }\nE\ncat >m.c <<'E'\n#include <dlfcn.h>\n#include <stdio.h>\nint main(void) { void *h = dlopen(\"./l.so\", RTLD_NOW); "
       "int (*f)(void) = (int (*)(void))dlsym(h, \"f\"); printf(\"%d\\n\", f()); return 0; }\nE\ngcc -shared -fPIC l.c -o l.so; gcc m.c -o m; ./m",
       "1\n1\n7\n")
script("users", "useradd -m joe && su joe -c 'id -un; cd; pwd; touch /etc/x 2>&1 | grep -o denied; ls -ld ~ | cut -c1-10'; "
       "setpriv --reuid=1234 --clear-groups id -u; chown joe:joe /tmp; stat -c %U /tmp", "joe\n/home/joe\ndenied\ndrwxr-xr-x\n1234\njoe\n")
script("files_in_bulk", "mkdir d; for i in $(seq 500); do echo $i >d/f$i; done; ls d | wc -l; cat d/* | awk '{s+=$1} END {print s}'; "
       "find d -name '*7*' | wc -l; rm -r d; ls", "500\n125250\n95\n")


@registry.case()
def interactive_bash(env, roots):
    """An interactive shell on a terminal, with job control."""
    from e2e.console import Terminal
    import time

    def edit(config):
        config["process"]["terminal"] = True
        config["process"]["env"].append("PS1=% ")
    if env.on_host:
        return
    top = merged(env)
    bundle = env.bundle(["/bin/bash", "--norc", "-i"], top + "/m", edit=edit)
    term = Terminal(over(top, roots.debian, env.runsc_argv("run", "--bundle", bundle, env.new_id())))
    term.until("% ")
    term.say("echo $((6*7)); tty\r")
    term.until("42")
    term.until("/dev/")
    term.until("% ")
    term.say("sleep 100\r")
    time.sleep(0.4)
    term.say("\x1a")
    term.until("Stopped")
    term.until("% ")
    term.say("bg; jobs\r")
    term.until("Running")
    term.say("kill %1; wait; echo wai''ted\r")
    term.until("waited")
    term.say("cat | tr a-z A-Z\r")
    time.sleep(0.3)
    term.say("shout\r\x04")
    term.until("SHOUT")
    term.say("while :; do :; done\r")
    time.sleep(0.3)
    term.say("\x03")
    term.until("% ")
    term.say("exit 5\r")
    assert term.end() == 5, term.text
