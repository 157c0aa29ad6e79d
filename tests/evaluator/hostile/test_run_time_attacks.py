"""One attack a test: the right verdict, and nothing left running or written."""

import re
from pathlib import Path

from evaluator.sandbox_command import Command, Limits
from tests.evaluator.hostile.attacks import HEAD, judge, run

# ---- time -----------------------------------------------------------------------------------


def test_infinite_loop(rung):
    test = run(rung, "for (volatile int i = 0;; ++i) {}")
    assert (test.verdict, test.score) == ("TLE", 0)
    assert 300 < test.time_ms < 600


def test_sleep(rung):
    test = run(rung, "for (;;) pause();")
    assert test.verdict == "TLE"
    assert test.time_ms < 100 and "asleep" in test.detail


def test_stopping_itself(rung):
    assert run(rung, "raise(SIGSTOP); for (;;) pause();").verdict == "TLE"


def test_ignoring_every_signal(rung):
    body = "for (int s = 1; s < 65; ++s) signal(s, SIG_IGN); for (volatile int i = 0;; ++i) {}"
    assert run(rung, body).verdict == "TLE"


# ---- processes ------------------------------------------------------------------------------


def test_fork_bomb(rung):
    assert run(rung, "for (;;) fork();").verdict == "TLE"


def test_thread_bomb(rung):
    code = """
    #include <cstdio>
    #include <pthread.h>
    #include <unistd.h>
    void* nap(void*) { for (;;) pause(); }
    int main() {
        int made = 0;
        for (int i = 0; i < 1000; ++i) { pthread_t t; made += pthread_create(&t, 0, nap, 0) == 0; }
        puts(made == 0 ? "ok" : "threads");
    }"""
    assert judge(rung, code).verdict == "AC"


def test_fork_is_refused(rung):
    assert run(rung, 'puts(fork() == -1 && errno == EAGAIN ? "ok" : "forked");').verdict == "AC"


def test_double_fork_escape_dies_with_the_sandbox(rung):
    """Where processes are allowed (a compiler needs them), those that hide are killed too."""
    script = "(setsid sleep 100 & sleep 100 & ) & echo started"
    limits = Limits(2000, 6000, None, 1 << 30, 8 << 20, 1 << 20, processes=256)
    with rung.worker() as worker:
        report = worker.run(Command(("/bin/sh", "-c", script)), limits)
    assert report.stdout == b"started\n"
    assert report.wall_ms < 5000


def test_killing_the_parent(rung):
    body = """
    for (int s : {SIGTERM, SIGKILL, SIGSTOP}) { kill(getppid(), s); kill(1, s); kill(-1, s); }
    puts("ok");"""
    assert run(rung, body).verdict == "AC"


def test_tampering_with_the_supervisor(rung):
    body = """
    int open_ = 0;
    for (const char* f : {"/proc/1/mem", "/proc/1/fd/3", "/proc/1/environ", "/proc/self/exe"})
        open_ += open(f, O_RDWR) >= 0;
    for (int fd = 3; fd < 300; ++fd) open_ += fcntl(fd, F_GETFD) >= 0;
    puts(open_ == 0 ? "ok" : "open");"""
    assert run(rung, body).verdict == "AC"


def test_gaining_privileges(rung):
    code = f"""{HEAD}
    #include <sched.h>
    #include <sys/mount.h>
    #include <sys/ptrace.h>
    #include <sys/resource.h>
    int main() {{
        rlimit more = {{1 << 20, 1 << 20}};
        int gained = unshare(CLONE_NEWUSER) == 0;
        gained += mount("none", "/box", "tmpfs", 0, 0) == 0;
        gained += ptrace(PTRACE_ATTACH, 1, 0, 0) == 0;
        gained += setrlimit(RLIMIT_NPROC, &more) == 0;
        gained += chroot("/usr") == 0;
        puts(gained == 0 ? "ok" : "gained");
    }}"""
    assert judge(rung, code).verdict == "AC"


# ---- memory ---------------------------------------------------------------------------------


def test_touched_memory_bomb(rung):
    test = run(rung, "for (;;) memset(malloc(1 << 20), 1, 1 << 20);")
    assert test.verdict == "MLE"
    assert 64 << 10 < test.memory_kib < 512 << 10


def test_untouched_allocation_does_not_count(rung):
    test = run(rung, 'volatile char* p = (char*)malloc(3ull << 30); p[0] = 1; puts("ok");')
    assert test.verdict == "AC"
    assert test.memory_kib < 8 << 10


def test_impossible_allocation_is_a_runtime_error(rung):
    assert run(rung, "volatile char* p = new char[1ull << 40]; p[0] = 1;").verdict == "RE"


def test_deep_recursion(rung):
    code = """
    int f(int n) { volatile char a[512]; a[n & 511] = 1; return f(n + 1) + a[n & 511]; }
    int main() { return f(0); }"""
    assert judge(rung, code).verdict == "MLE"


def test_small_stack_overflow_is_a_runtime_error(rung):
    assert run(rung, "*(volatile int*)8 = 1;").verdict == "RE"


# ---- output ---------------------------------------------------------------------------------


def test_stdout_flood(rung):
    assert run(rung, 'for (;;) puts("flood flood flood flood flood");').verdict == "OLE"


def test_stdout_flood_that_ignores_the_signal(rung):
    body = 'signal(SIGXFSZ, SIG_IGN); for (int i = 0; i < 200000; ++i) puts("flood flood flood");'
    assert run(rung, body).verdict == "OLE"


def test_stderr_flood(rung):
    assert run(rung, 'for (;;) fputs("flood flood flood flood", stderr);').verdict == "OLE"


def test_closed_streams(rung):
    assert run(rung, 'for (int fd = 0; fd < 3; ++fd) close(fd); puts("ok");').verdict == "WA"


def test_output_that_is_no_text(rung):
    body = r'fwrite("\xff\0\xfe\n", 1, 4, stdout);'
    assert run(rung, body).verdict == "WA"
    assert run(rung, body, answer="\udcff\0\udcfe\n").verdict == "AC"


def test_right_output_with_a_wrong_exit_code(rung):
    test = run(rung, 'puts("ok"); return 3;')
    assert (test.verdict, test.exit_code) == ("RE", 3)


# ---- files and network ----------------------------------------------------------------------


def test_big_file(rung):
    body = 'FILE* f = fopen("big", "w"); for (;;) fputs("big big big big big big", f);'
    assert run(rung, body).verdict == "RE"


def test_many_files(rung):
    body = """
    char name[64];
    for (long i = 0;; ++i) {
        snprintf(name, 64, "tinylora-attack-%ld", i);
        close(creat(name, 0600));
    }"""
    assert run(rung, body).verdict == "TLE"


def test_writing_outside_of_the_box(rung):
    body = """
    int wrote = 0;
    for (const char* d : {"/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/usr", "/etc", "/proc"}) {
        char name[64];
        snprintf(name, 64, "%s/tinylora-attack", d);
        wrote += creat(name, 0600) >= 0;
    }
    puts(wrote == 0 ? "ok" : "wrote");"""
    assert run(rung, body).verdict == "AC"


def test_reading_the_host(rung, tmp_path):
    answer = tmp_path / "answer.out"
    answer.write_text("ok")
    tmp_path.chmod(0o755)
    answer.chmod(0o644)
    host = [answer, "/etc/shadow", "/etc/passwd", Path.home(), Path(__file__), "/home", "/root"]
    host += [
        "/sys",
        "/var",
        "/run",
        "/tmp",
        "/dev/sda",
        "/dev/vda",
        "/dev/kmsg",
        "/proc/1/root/etc",
    ]
    names = ", ".join(f'"{name}"' for name in host)
    body = f"""
    int seen = 0;
    for (const char* f : {{{names}}}) if (open(f, O_RDONLY) >= 0) {{ ++seen; puts(f); }}
    if (seen == 0) puts("ok");"""
    test = run(rung, body)
    assert test.verdict == "AC", test.detail


def test_looking_for_the_answer(rung):
    """No file and no descriptor leads to the answer; only input and outputs are there."""
    body = """
    char link[256];
    int other = 0;
    for (const char* f : {"answer", "output", "1.out", "main.cpp"}) other += access(f, F_OK) == 0;
    for (int fd = 0; fd < 300; ++fd) {
        char name[64];
        snprintf(name, 64, "/proc/self/fd/%d", fd);
        other += readlink(name, link, 255) > 0 && fd > 2;
    }
    other += write(0, "x", 1) == 1;
    puts(other == 0 ? "ok" : "found");"""
    assert run(rung, body).verdict == "AC"


def test_network(rung):
    code = f"""{HEAD}
    #include <sys/socket.h>
    int main() {{
        int made = 0;
        for (int family : {{AF_INET, AF_INET6, AF_UNIX, AF_NETLINK}})
            made += socket(family, SOCK_STREAM, 0) >= 0 || socket(family, SOCK_RAW, 0) >= 0;
        puts(made == 0 ? "ok" : "socket");
    }}"""
    assert judge(rung, code).verdict == "AC"


def test_there_is_no_network_interface(rung):
    """The namespace closes the network by itself, also for what the system call list forgets."""
    limits = Limits(2000, 6000, None, 1 << 30, 8 << 20, 1 << 20, processes=64)
    with rung.worker() as worker:
        report = worker.run(Command(("/bin/cat", "/proc/net/dev")), limits)
    assert report.exit_code == 0
    assert re.findall(rb"(\w+):", report.stdout) == [b"lo"]
