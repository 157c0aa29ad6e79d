// Runs one untrusted command inside the sandbox, measures it, and leaves nothing of it behind.
//
// evaluator/sandbox.py compiles this file once per judge (statically, so that its own footprint
// stays below 1 MB) and starts it as the first process of the sandbox. It is PID 1 there, so
// everything that the command leaves running dies with it.
//
//   supervisor key=value ... -- argv0 arg ...
//
//   report=FD      where the result line goes
//   exec=FD        the program (a file descriptor); -1 runs argv0 by its path
//   copy=FD:NAME   put the content of FD into the working folder as NAME (repeatable)
//   root=ready     bubblewrap has built the file system; the working folder is /box
//   root=build     build it here (needs the capabilities that unshare(1) leaves)
//   root=host      no isolation: a fresh folder below /tmp
//   dev=NAMES      device nodes for root=build, comma separated
//   box=BYTES      size of the working folder
//   cpu=, wall=    limits in ms    rss=, as=, stack=, fsize=   limits in bytes
//   nproc=, nofile=
//
// Result line: "exit signal reason cpu_us wall_us maxrss_kib", reason being one of
// exit cpu wall memory. A failure of the supervisor itself is a line "error WHAT: STRERROR".

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <initializer_list>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/securebits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct Settings {
    int report = -1, exec = -1;
    const char* root = "ready";
    const char* dev = "null";
    unsigned long long box = 16u << 20;
    long long cpu = 1000, wall = 3000, rss = LLONG_MAX;
    unsigned long long as = RLIM_INFINITY, stack = 8u << 20, fsize = 1u << 20;
    unsigned long long nproc = 1, nofile = 64;
    int copies = 0;
    int copy_fd[8];
    const char* copy_name[8];
};

Settings settings;
char host_box[] = "/tmp/tinylora-judge-XXXXXX";

[[noreturn]] void fail(const char* what) {
    dprintf(settings.report, "error %s: %s\n", what, strerror(errno));
    _exit(125);
}

void need(bool ok, const char* what) {
    if (!ok) fail(what);
}

long long now_us() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

// ---- settings -------------------------------------------------------------------------------

const char* value_of(const char* argument, const char* key) {
    size_t n = strlen(key);
    return strncmp(argument, key, n) == 0 && argument[n] == '=' ? argument + n + 1 : nullptr;
}

void read_copy(const char* value) {
    const char* colon = strchr(value, ':');
    errno = EINVAL;
    need(colon && settings.copies < 8, "copy");
    settings.copy_fd[settings.copies] = atoi(value);
    settings.copy_name[settings.copies++] = colon + 1;
}

char** read_settings(char** argument) {
    for (; *argument && strcmp(*argument, "--") != 0; ++argument) {
        const char* v;
        if ((v = value_of(*argument, "report"))) settings.report = atoi(v);
        else if ((v = value_of(*argument, "exec"))) settings.exec = atoi(v);
        else if ((v = value_of(*argument, "copy"))) read_copy(v);
        else if ((v = value_of(*argument, "root"))) settings.root = v;
        else if ((v = value_of(*argument, "dev"))) settings.dev = v;
        else if ((v = value_of(*argument, "box"))) settings.box = strtoull(v, nullptr, 10);
        else if ((v = value_of(*argument, "cpu"))) settings.cpu = atoll(v);
        else if ((v = value_of(*argument, "wall"))) settings.wall = atoll(v);
        else if ((v = value_of(*argument, "rss"))) settings.rss = atoll(v);
        else if ((v = value_of(*argument, "as"))) settings.as = strtoull(v, nullptr, 10);
        else if ((v = value_of(*argument, "stack"))) settings.stack = strtoull(v, nullptr, 10);
        else if ((v = value_of(*argument, "fsize"))) settings.fsize = strtoull(v, nullptr, 10);
        else if ((v = value_of(*argument, "nproc"))) settings.nproc = strtoull(v, nullptr, 10);
        else if ((v = value_of(*argument, "nofile"))) settings.nofile = strtoull(v, nullptr, 10);
        else { errno = EINVAL; fail(*argument); }
    }
    errno = EINVAL;
    need(*argument && argument[1], "command");
    return argument + 1;
}

// ---- file system ----------------------------------------------------------------------------

#ifndef MOUNT_ATTR_RDONLY
struct mount_attr { unsigned long long attr_set, attr_clr, propagation, userns_fd; };
#define MOUNT_ATTR_RDONLY 0x1
#define MOUNT_ATTR_NOSUID 0x2
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

void make_read_only(const char* path) {
    mount_attr attr = {};
    attr.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID;
    need(syscall(SYS_mount_setattr, -1, path, AT_RECURSIVE, &attr, sizeof attr) == 0, path);
}

// Show a host path at the same place of the new root: a link as a link, the rest bound read-only.
void show(const char* root, const char* path) {
    char target[PATH_MAX], link[PATH_MAX];
    snprintf(target, sizeof target, "%s%s", root, path);
    struct stat st;
    if (lstat(path, &st) != 0) return;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, link, sizeof link - 1);
        need(n > 0, path);
        link[n] = 0;
        need(symlink(link, target) == 0, path);
        return;
    }
    if (S_ISDIR(st.st_mode)) need(mkdir(target, 0755) == 0, target);
    else need(close(open(target, O_CREAT | O_WRONLY, 0644)) == 0, target);
    need(mount(path, target, nullptr, MS_BIND | MS_REC, nullptr) == 0, path);
    if (!S_ISCHR(st.st_mode)) make_read_only(target);
}

void build_root() {
    static char root[] = "/tmp";
    char options[128];
    need(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
    need(mount("tmpfs", root, "tmpfs", MS_NOSUID, "size=1m,mode=0755") == 0, "tmpfs");
    for (const char* path : {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"})
        show(root, path);
    need(mkdir("/tmp/etc", 0755) == 0 && mkdir("/tmp/dev", 0755) == 0, "mkdir");
    for (const char* path : {"/etc/ld.so.cache", "/etc/alternatives"}) show(root, path);
    char names[256], device[300];
    snprintf(names, sizeof names, "%s", settings.dev);
    for (char* name = strtok(names, ","); name; name = strtok(nullptr, ",")) {
        snprintf(device, sizeof device, "/dev/%s", name);
        show(root, device);
    }
    need(mkdir("/tmp/proc", 0755) == 0 && mkdir("/tmp/box", 0755) == 0, "mkdir");
    need(mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0, "proc");
    snprintf(options, sizeof options, "size=%llu,nr_inodes=16384,mode=0755", settings.box);
    need(mount("tmpfs", "/tmp/box", "tmpfs", MS_NOSUID | MS_NODEV, options) == 0, "box");
    need(chdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    need(umount2(".", MNT_DETACH) == 0, "umount old root");
    need(mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, nullptr) == 0,
         "read-only root");
}

void enter_box() {
    if (strcmp(settings.root, "build") == 0) build_root();
    const char* box = "/box";
    if (strcmp(settings.root, "host") == 0) need((box = mkdtemp(host_box)) != nullptr, "mkdtemp");
    need(chdir(box) == 0, "chdir");
    for (int i = 0; i < settings.copies; ++i) {
        struct stat st;
        need(fstat(settings.copy_fd[i], &st) == 0, "fstat");
        int out = open(settings.copy_name[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        need(out >= 0, settings.copy_name[i]);
        off_t offset = 0;  // explicit: the descriptor's own offset is shared with other runs
        while (offset < st.st_size)
            need(sendfile(out, settings.copy_fd[i], &offset, st.st_size - offset) > 0, "sendfile");
        close(out);
    }
}

int remove_entry(const char* path, const struct stat*, int, FTW*) { return remove(path); }

void leave_box() {
    if (strcmp(settings.root, "host") == 0)
        nftw(host_box, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

// ---- privileges -----------------------------------------------------------------------------

void drop_privileges() {
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED);  // fails without capabilities
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    need(syscall(SYS_capset, &header, none) == 0, "capset");
    // The program must not read the supervisor's memory or descriptors, nor trace it.
    need(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "dumpable");
}

#if defined(__x86_64__)
constexpr unsigned kArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArch = AUDIT_ARCH_AARCH64;
#else
constexpr unsigned kArch = 0;
#endif

// System calls that no contest program needs and that reach furthest into the kernel.
constexpr unsigned kDenied[] = {
    SYS_socket, SYS_socketpair, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_memfd_create, SYS_shmget, SYS_msgget, SYS_semget, SYS_mq_open,
    SYS_setsid, 425 /* io_uring_setup */, 428 /* open_tree */, 430 /* fsopen */,
    434 /* pidfd_open */,
};

void deny_system_calls() {
    if (kArch == 0) return;
    sock_filter code[9 + 2 * (sizeof kDenied / sizeof kDenied[0])];
    size_t n = 0;
    const auto add = [&](unsigned short op, unsigned k, unsigned char yes, unsigned char no) {
        code[n++] = sock_filter{op, yes, no, k};
    };
    const unsigned deny = SECCOMP_RET_ERRNO | EPERM;
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch), 0, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, kArch, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr), 0, 0);
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);  // the x32 numbers would pass the list
    add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    for (unsigned nr : kDenied) {
        add(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1);
        add(BPF_RET | BPF_K, deny, 0, 0);
    }
    add(BPF_JMP | BPF_JEQ | BPF_K, 435 /* clone3: its flags are out of reach; libc falls back */,
        0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    sock_fprog program = {static_cast<unsigned short>(n), code};
    // A kernel without seccomp leaves the namespaces, which close the same doors.
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// ---- the command ----------------------------------------------------------------------------

void limit(int resource, rlim_t value, const char* name) {
    rlimit current;
    need(getrlimit(static_cast<__rlimit_resource>(resource), &current) == 0, name);
    if (current.rlim_max != RLIM_INFINITY && value > current.rlim_max) value = current.rlim_max;
    const rlimit both = {value, value};
    need(setrlimit(static_cast<__rlimit_resource>(resource), &both) == 0, name);
}

[[noreturn]] void run_command(char** argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // or its own /proc files would be out of its reach
    int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom >= 0) dprintf(oom, "1000");  // whatever runs out of memory, this process goes first
    limit(RLIMIT_CPU, settings.cpu / 1000 + 2, "cpu");  // whole seconds: only the backstop
    limit(RLIMIT_STACK, settings.stack, "stack");
    limit(RLIMIT_FSIZE, settings.fsize, "fsize");
    limit(RLIMIT_NOFILE, settings.nofile, "nofile");
    limit(RLIMIT_CORE, 0, "core");
    limit(RLIMIT_MEMLOCK, 0, "memlock");
    limit(RLIMIT_NPROC, settings.nproc, "nproc");
    for (int fd = 3; fd < 64; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int s = 1; s < NSIG; ++s) signal(s, SIG_DFL);
    limit(RLIMIT_AS, settings.as, "as");
    deny_system_calls();
    if (settings.exec >= 0) syscall(SYS_execveat, settings.exec, "", argv, environ, AT_EMPTY_PATH);
    else execv(argv[0], argv);
    fail("exec");
}

// ---- watching -------------------------------------------------------------------------------

// Reads a few numbers of a /proc file that was opened once.
bool read_numbers(int fd, long long* first, long long* second) {
    char text[128];
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return false;
    text[n] = 0;
    return sscanf(text, "%lld %lld", first, second) == 2;
}

struct Watch {
    pid_t pid;
    clockid_t clock;
    bool has_clock;
    int statm, schedstat;
    long long start;
    long long peak = 0;  // resident bytes; the kernel's own peak lags some pages behind

    explicit Watch(pid_t child) : pid(child), start(now_us()) {
        char path[64];
        has_clock = clock_getcpuclockid(pid, &clock) == 0;
        snprintf(path, sizeof path, "/proc/%d/statm", pid);
        statm = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
        schedstat = open(path, O_RDONLY | O_CLOEXEC);
    }

    // Which limit is broken now, or null.
    const char* broken() {
        timespec t;
        if (has_clock && clock_gettime(clock, &t) == 0 &&
            t.tv_sec * 1000LL + t.tv_nsec / 1000000 > settings.cpu)
            return "cpu";
        long long size, resident;
        if (read_numbers(statm, &size, &resident)) {
            if (resident * getpagesize() > peak) peak = resident * getpagesize();
            if (peak > settings.rss) return "memory";
        }
        const long long wall = (now_us() - start) / 1000;
        if (wall <= settings.wall) return nullptr;
        // Waiting for a busy machine's processor is no fault of the program.
        long long on_cpu, waiting = 0;
        read_numbers(schedstat, &on_cpu, &waiting);
        if (wall - waiting / 1000000 > settings.wall || wall > 10 * settings.wall) return "wall";
        return nullptr;
    }
};

// Kills the command's process group, and whoever left it: as PID 1 everything else there is,
// otherwise the orphans that were handed to this process as their subreaper.
void kill_everything(pid_t group) {
    kill(-group, SIGKILL);
    if (getpid() == 1) {
        kill(-1, SIGKILL);
        return;
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    if (FILE* children = fopen(path, "re")) {
        int pid;
        while (fscanf(children, "%d", &pid) == 1) kill(pid, SIGKILL);
        fclose(children);
    }
}

void reap_the_rest(pid_t group) {
    const long long deadline = now_us() + 2000000;
    while (now_us() < deadline) {
        kill_everything(group);
        const pid_t pid = waitpid(-1, nullptr, WNOHANG);
        if (pid < 0 && errno == ECHILD) return;
        if (pid == 0) usleep(1000);
    }
}

// The end of the command, and the launcher's wish to end it.
sigset_t awaited_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    return set;
}

void watch(pid_t child, pid_t launcher) {
    Watch watched(child);
    const char* reason = "exit";
    bool killed = false;
    const sigset_t awaited = awaited_signals();
    int status = 0;
    rusage usage = {};
    const timespec tick = {0, 5000000};
    for (;;) {
        siginfo_t info = {};
        // Only the launcher's word counts (pid 0 from outside of a namespace), not the command's.
        const bool told_to_stop =
            sigtimedwait(&awaited, &info, &tick) == SIGTERM && info.si_pid == launcher;
        pid_t pid;
        while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0 && pid != child) {}
        if (pid == child) break;
        const char* limit_broken = killed ? nullptr : told_to_stop ? "wall" : watched.broken();
        if (limit_broken) {
            reason = limit_broken;
            killed = true;
            kill_everything(child);
        }
    }
    const long long wall = now_us() - watched.start;
    reap_the_rest(child);
    const long long cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL +
                          usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    const long long peak = usage.ru_maxrss > watched.peak / 1024 ? usage.ru_maxrss : watched.peak / 1024;
    dprintf(settings.report, "%d %d %s %lld %lld %lld\n",
            WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            WIFSIGNALED(status) ? WTERMSIG(status) : 0, reason, cpu, wall, peak);
}

}  // namespace

int main(int, char** arguments) {
    const pid_t launcher = getppid();
    char** command = read_settings(arguments + 1);
    enter_box();
    drop_privileges();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const sigset_t awaited = awaited_signals();
    sigprocmask(SIG_BLOCK, &awaited, nullptr);
    // Where no namespace ends with the launcher, this process cleans up when it does.
    if (strcmp(settings.root, "host") == 0) prctl(PR_SET_PDEATHSIG, SIGTERM);
    const pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) run_command(command);
    watch(child, launcher);
    leave_box();
    return 0;
}
