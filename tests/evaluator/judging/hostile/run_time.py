"""Attacks of programs that compile. Those that find every door closed print ``ok``."""

from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGSEGV, SIGXFSZ

from tests.evaluator.judging.hostile.attack import ANSWER_FILE, IPC_KEY, MARK, PORT, Attack, main

KILLED = (SIGKILL,)
HOST = "/etc/shadow /etc/passwd /home /root /sys /var /run /tmp /dev/sda /dev/vda /dev/kmsg"
HOST_FILES = (ANSWER_FILE, Path(__file__), "/proc/1/root/etc", *HOST.split())

# Every door is closed, or the program says which is not.
CLOSED = {
    "thread_bomb": """
        int n = 0;
        for (int i = 0; i < 1000; ++i) {
            pthread_t t;
            n += !pthread_create(&t, 0, [](void*) -> void* { for (;;) pause(); }, 0);
        }
        puts(n == 0 ? "ok" : "threads");""",
    "a_session_of_its_own": """
        puts(setsid() == -1 && errno == EPERM ? "ok" : "left");""",
    "killing_the_parent": """
        for (int s : {SIGTERM, SIGKILL, SIGSTOP}) { kill(getppid(), s); kill(1, s); kill(-1, s); }
        puts("ok");""",
    "tampering_with_the_supervisor": """
        int n = 0;
        for (const char* f : {"/proc/1/mem", "/proc/1/fd/3", "/proc/1/environ", "/proc/self/exe"})
            n += open(f, O_RDWR) >= 0;
        for (int fd = 3; fd < 300; ++fd) n += fcntl(fd, F_GETFD) >= 0;
        puts(n == 0 ? "ok" : "open");""",
    # A supervisor without processor time or descriptors would blame the judge for the program.
    "limiting_the_supervisor": """
        rlimit none = {0, 0};
        sched_param idle = {0};
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(0, &cpus);
        int n = 0;
        for (int resource = 0; resource < 16; ++resource)
            n += prlimit(getppid(), (__rlimit_resource)resource, &none, 0) == 0;
        n += setpriority(PRIO_PROCESS, getppid(), 19) == 0;
        n += sched_setscheduler(getppid(), 5 /* SCHED_IDLE */, &idle) == 0;
        n += sched_setaffinity(getppid(), sizeof cpus, &cpus) == 0;
        n += getrlimit(RLIMIT_CPU, &none) != 0 || sched_setaffinity(0, sizeof cpus, &cpus) != 0;
        puts(n == 0 ? "ok" : "limited");""",
    "gaining_privileges": """
        rlimit more = {1 << 20, 1 << 20};
        int n = unshare(CLONE_NEWUSER) == 0;
        n += mount("none", "/box", "tmpfs", 0, 0) == 0;
        n += ptrace(PTRACE_ATTACH, 1, 0, 0) == 0;
        n += setrlimit(RLIMIT_NPROC, &more) == 0;
        n += chroot("/usr") == 0;
        puts(n == 0 ? "ok" : "gained");""",
    "closed_stdin": """
        close(0);
        puts(getchar() == EOF && open("in", O_RDONLY) == -1 ? "ok" : "read");""",
    "writing_outside_of_the_box": f"""
        int n = 0;
        for (const char* d : {{"/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/usr", "/etc",
                              "/proc", "/run", "/var/run", ".."}}) {{
            char name[64];
            snprintf(name, 64, "%s/{MARK}", d);
            n += creat(name, 0600) >= 0;
        }}
        puts(n == 0 ? "ok" : "wrote");""",
    "reading_the_host": f"""
        int n = 0;
        for (const char* f : {{{", ".join(f'"{name}"' for name in HOST_FILES)}}})
            if (open(f, O_RDONLY) >= 0) {{ ++n; puts(f); }}
        if (n == 0) puts("ok");""",
    "looking_for_the_answer": """
        char link[256], name[64];
        int n = 0;
        for (const char* f : {"answer", "output", "1.out", "main.cpp"}) n += access(f, F_OK) == 0;
        for (int fd = 3; fd < 300; ++fd) {
            snprintf(name, 64, "/proc/self/fd/%d", fd);
            n += readlink(name, link, 255) > 0;
        }
        n += write(0, "x", 1) == 1;
        puts(n == 0 ? "ok" : "found");""",
    "sockets": f"""
        int n = 0, pair[2];
        for (int family : {{AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET}})
            for (int type : {{SOCK_STREAM, SOCK_DGRAM, SOCK_RAW}})
                n += socket(family, type, 0) >= 0;
        n += socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0;
        sockaddr_in port = {{}};
        port.sin_family = AF_INET;
        port.sin_port = htons({PORT});
        sockaddr_un abstract = {{AF_UNIX, "\\0{MARK}"}};
        for (int fd = 0; fd < 20; ++fd) {{
            n += bind(fd, (sockaddr*)&port, sizeof port) == 0 && listen(fd, 1) == 0;
            n += bind(fd, (sockaddr*)&abstract, sizeof abstract) == 0;
        }}
        puts(n == 0 ? "ok" : "socket");""",
    "shared_memory_and_queues": f"""
        int n = shmget({IPC_KEY}, 4096, IPC_CREAT | 0666) >= 0;
        n += semget({IPC_KEY}, 1, IPC_CREAT | 0666) >= 0;
        n += msgget({IPC_KEY}, IPC_CREAT | 0666) >= 0;
        n += syscall(SYS_mq_open, "{MARK}", O_CREAT | O_RDWR, 0666, 0) >= 0;
        n += syscall(SYS_memfd_create, "{MARK}", 0) >= 0;
        n += creat("/dev/shm/{MARK}", 0666) >= 0 || creat("/dev/mqueue/{MARK}", 0666) >= 0;
        puts(n == 0 ? "ok" : "made");""",
    "fork_is_refused": 'puts(fork() == -1 && errno == EAGAIN ? "ok" : "forked");',
}

TIME = (
    Attack("fork_bomb", main("for (;;) fork();"), "TLE", KILLED),
    Attack("busy_loop", main("for (volatile int i = 0;; ++i) {}"), "TLE", KILLED, detail="allowed"),
    Attack("sleep", main("for (;;) pause();"), "TLE", KILLED, detail="asleep"),
    Attack("stopping_itself", main("raise(SIGSTOP); for (;;) pause();"), "TLE", KILLED),
    Attack(
        "ignoring_every_signal",
        main("for (int s = 1; s < 65; ++s) signal(s, SIG_IGN); for (volatile int i = 0;; ++i) {}"),
        "TLE",
        KILLED,
    ),
)
MEMORY = (
    Attack(
        "touched_memory_bomb",
        main("for (;;) memset(malloc(1 << 20), 1, 1 << 20);"),
        "MLE",
        KILLED,
        detail="allowed are 65536",
        memory_kib=(64 << 10, 512 << 10),
    ),
    Attack(
        "untouched_memory_does_not_count",
        main('volatile char* p = (char*)malloc(3ull << 30); p[0] = 1; puts("ok");'),
        memory_kib=(0, 8 << 10),
    ),
    Attack(
        "untouched_memory_bomb",
        main("for (;;) if (!malloc(1 << 24)) abort();"),
        "RE",
        (SIGABRT,),
        memory_kib=(0, 16 << 10),
    ),
    Attack(
        "deep_recursion",
        """
        int f(int n) { volatile char a[512]; a[n & 511] = 1; return f(n + 1) + a[n & 511]; }
        int main() { return f(0); }""",
        "MLE",
        (SIGKILL, SIGSEGV),
    ),
    Attack("null_pointer", main("*(volatile int*)8 = 1;"), "RE", (SIGSEGV,), detail="SIGSEGV"),
)

OUTPUT = (
    Attack(
        "stdout_flood", main('for (;;) puts("flood flood flood flood flood");'), "OLE", (SIGXFSZ,)
    ),
    Attack(
        "stdout_flood_ignoring_the_signal",
        main('signal(SIGXFSZ, SIG_IGN); for (int i = 0; i < 200000; ++i) puts("flood flood");'),
        "OLE",
    ),
)

FILES = (
    Attack(
        "big_file",
        main('FILE* f = fopen("big", "w"); for (;;) fputs("big big big big big big", f);'),
        "RE",
        (SIGXFSZ,),
    ),
    Attack(
        "files_until_it_fails",
        main("""
        char name[64];
        for (int n = 0;; ++n) {
            snprintf(name, 64, "%d", n);
            const int file = creat(name, 0600);
            if (file < 0) { fprintf(stderr, "%d files", n); return 9; }
            close(file);
        }"""),
        "RE",
        exit_code=9,
        detail="exit code 9: 16382 files",  # the same on every rung
        time_limit_ms=1000,
    ),
    Attack(
        "files_without_a_name_until_they_fail",
        main("""
        static char block[900 << 10];
        memset(block, 1, sizeof block);
        for (int n = 0; n < 55; ++n) {  // more than the box holds, none larger than a file may be
            FILE* file = tmpfile();
            if (!file || fwrite(block, 1, sizeof block, file) < sizeof block) return 9;
        }
        puts("unbounded");"""),
        "RE",
        exit_code=9,
    ),
)

# The kernel refuses to start these, which must not look like trouble of the sandbox.
START = tuple(
    Attack(
        f"interpreter_{name}",
        f'__attribute__((section(".interp"), used)) const char path[{size}] = {{1}};\n{main("")}',
        "RE",
        exit_code=127,
        detail="cannot be started: Exec format error",
    )
    for name, size in (("without_an_end", 1), ("too_long", 5000))
)

# The namespace closes the network by itself, also for what the system call list forgets.
NETWORK = Attack(
    "network_interfaces",
    main("""
        FILE* f = fopen("/proc/net/dev", "r");
        char line[512];
        while (fgets(line, 512, f))
            if (char* colon = strchr(line, ':')) { *colon = 0; puts(line + strspn(line, " ")); }
        """),
    answer="lo\n",
)

# No attacks: what a plain judge offers must be there on every rung, for every user.
OFFERED = {
    "input_that_cannot_be_changed": """
        const int in = open("/dev/stdin", O_RDWR);
        puts(write(in, "9", 1) == 1 || ftruncate(in, 9) == 0 ? "changed" : "ok");""",
    "streams_by_their_names": """
        freopen("/dev/stdin", "r", stdin);
        freopen("/dev/stdout", "w", stdout);
        FILE* error = fopen("/dev/stderr", "a");
        FILE* in = fopen("/dev/fd/0", "r");
        if (error && in && getchar() == EOF && getc(in) == EOF) puts("ok");""",
    "files_without_a_name": """
        char line[8] = "";
        FILE* file = tmpfile();
        if (!file) return 9;
        fputs("ok", file);
        rewind(file);
        puts(fgets(line, 8, file));""",
    "online_judge": 'if (const char* s = getenv("ONLINE_JUDGE")) if (*s) puts("ok");',
}

RUN_TIME = (
    *(Attack(name, main(body)) for name, body in (OFFERED | CLOSED).items()),
    *(*TIME, *MEMORY, *OUTPUT, *FILES, *START, NETWORK),
)
