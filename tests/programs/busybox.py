"""Shell scripts of busybox sh: pipes, jobs, traps, here-documents, its own tools."""
from cases import expect
from programs import registry
from programs.roots import run_script


def script(name, text, out, status=0, timeout=30, stdin=None):
    def run(env, roots):
        expect(run_script(env, roots.busybox, text, timeout, "/bin/sh", stdin), status, out)
    run.__name__, run.__module__ = name, __name__
    registry.case()(run)


script("pipes", "seq 1 1000 | grep 7 | sort -rn | head -3; echo a b c | tr ' ' '\\n' | wc -l; "
       "yes | head -100000 | wc -c", "997\n987\n979\n3\n200000\n")
script("here_documents", "x=world; cat <<EOF\nhello $x\n$((6*7))\nEOF\ncat <<'EOF'\n$x\nEOF\n"
       "while read a b; do echo $b $a; done <<EOF\n1 2\n3 4\nEOF\n", "hello world\n42\n$x\n2 1\n4 3\n")
script("jobs_and_wait", "sleep 0.2 & p=$!; (exit 3) & q=$!; wait $q; echo $?; kill $p; wait $p; echo $?; "
       "for i in 1 2 3; do (sleep 0.$i; echo $i) & done; wait; echo end", "3\n143\n1\n2\n3\nend\n")
script("traps", "trap 'echo usr1' USR1; trap 'echo bye' EXIT; kill -USR1 $$; (trap 'echo sub' EXIT; exit 4); "
       "echo $?; sh -c 'trap \"echo term; exit 9\" TERM; kill -TERM $$; sleep 5'; echo $?; exit 2",
       "usr1\nsub\n4\nterm\n9\nbye\n", 2)
script("functions_and_tests", "f() { local n=$1; [ $n -le 1 ] && { echo 1; return; }; "
       "echo $((n * $(f $((n-1))))); }; f 12; case abc in a*) echo match;; esac; "
       "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo $i; set -- a 'b c' d; echo $# \"$2\"",
       "479001600\nmatch\n2000\n3 b c\n")
script("files_and_tools", "mkdir -p d/e; echo one >d/a; echo two >d/e/b; ln -s a d/l; find d | sort; "
       "tar cf t.tar d; rm -r d; tar xf t.tar; cat d/l d/e/b; gzip t.tar; gunzip -t t.tar.gz && echo ok; "
       "cp -a d c; diff -r d c && echo same; du -a d | wc -l; md5sum d/a | cut -c1-8",
       "d\nd/a\nd/e\nd/e/b\nd/l\none\ntwo\nok\nsame\n5\n5bbf5a52\n")
script("text_tools", "printf 'b 2\\na 1\\nc 3\\n' >t; sort t | sed 's/a/A/;2d' | awk '{s+=$2; print $1} END {print s}'; "
       "echo hello | sed -n 's/l\\+/L/p'; expr 7 \\* 6; printf '%05.1f\\n' 3.14159; seq 3 | xargs -n1 echo n",
       "A\nc\n4\nheLo\n42\n003.1\nn 1\nn 2\nn 3\n")
script("stdin_is_passed", "read a; echo first $a; wc -l", "first 1\n99999\n",
       stdin="".join("%d\n" % n for n in range(1, 100001)))
script("subshells_and_substitution", "echo $(echo $(echo deep)); a=$(for i in 1 2 3; do echo -n $i; done); echo $a; "
       "(cd /etc; pwd); pwd; { echo x; echo y; } | while read l; do echo [$l]; done; echo ${a#1} ${#a}",
       "deep\n123\n/etc\n/tmp\n[x]\n[y]\n23 3\n")
script("fork_heavy", "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; echo done", "done\n", timeout=60)
script("fifo_and_redirections", "mkfifo p; (echo through >p) & cat p; exec 3>f; echo to3 >&3; exec 3>&-; cat f; "
       "ls /none 2>&1 | grep -c none; echo err 2>/dev/null >&2; sh -c 'echo a; echo b >&2' 2>&1 >/dev/null",
       "through\nto3\n1\nb\n")
script("network_on_loopback", "(echo pong | nc -l -p 7777 >got) & sleep 0.3; echo ping | nc -w 3 127.0.0.1 7777; "
       "wait; cat got; ifconfig lo | grep -o 127.0.0.1", "pong\nping\n127.0.0.1\n")
script("process_tools", "n=50; sleep $n & until pidof sleep >/dev/null; do usleep 1000; done; "
       "ps | grep -c '[s]leep 50'; pidof sleep | grep -c .; kill %1 2>/dev/null || kill $!; "
       "top -b -n1 | grep -c '[C]OMMAND'; uptime | grep -c load; free | grep -c Mem; uname -s; hostname; nproc | grep -c .",
       "1\n1\n1\n1\n1\nLinux\nguest\n1\n")
script("set_e_and_exit_codes", "set -e; true; false; echo not reached", "", 1)
