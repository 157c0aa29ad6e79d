// Giving up capabilities, and turning a fresh child into the command: limits first, then the filter
// of system calls, then exec.

#pragma once

#include <csignal>
#include <cstddef>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "request.h"

inline void drop_privileges() {
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
    SYS_setsid, SYS_setpriority, SYS_ioprio_set, 425 /* io_uring_setup */, 428 /* open_tree */, 430 /* fsopen */,
    434 /* pidfd_open */,
};

// Calls that reach any process of the same user, such as the supervisor, by its number: allowed
// with the number 0, which is the caller.
constexpr unsigned kOnlyOnItself[] = {
    SYS_prlimit64, SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_sched_setparam,
    SYS_sched_setattr,
};

inline void deny_system_calls() {
    if (kArch == 0) return;
    sock_filter code[9 + 2 * (sizeof kDenied / sizeof kDenied[0]) +
                     5 * (sizeof kOnlyOnItself / sizeof kOnlyOnItself[0])];
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
    for (unsigned nr : kOnlyOnItself) {
        add(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4);
        add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0]), 0, 0);  // little endian
        add(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
        add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
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

inline void limit(int resource, rlim_t value, const char* name) {
    const auto which = static_cast<__rlimit_resource>(resource);
    rlimit current;
    need(getrlimit(which, &current) == 0, name);
    if (current.rlim_max != RLIM_INFINITY && value > current.rlim_max) value = current.rlim_max;
    const rlimit both = {value, value};
    need(setrlimit(which, &both) == 0, name);
}

inline void set_limits(const Request& request) {
    // a backstop where the watch sees the milliseconds of the only process, else the limit of each
    const rlim_t seconds = request.nproc == 1 ? request.cpu / 1000 + 2 : (request.cpu + 999) / 1000;
    limit(RLIMIT_CPU, seconds, "cpu");
    limit(RLIMIT_STACK, request.stack, "stack");
    limit(RLIMIT_FSIZE, request.fsize, "fsize");
    limit(RLIMIT_NOFILE, 64, "nofile");
    limit(RLIMIT_CORE, 0, "core");
    limit(RLIMIT_MEMLOCK, 0, "memlock");
    limit(RLIMIT_MSGQUEUE, 0, "msgqueue");
    limit(RLIMIT_NPROC, request.nproc, "nproc");
    limit(RLIMIT_AS, request.as, "as");
}

// Whether exec failed because of what stands in the program, not for what the machine lacks.
inline bool is_the_program_s_fault(const Request& request, int error) {
    switch (error) {
        case EAGAIN: case EMFILE: case ENFILE: case ENOMEM: case ENOSYS: case EPERM:
            return false;
    }
    struct stat st;  // without the right to run it where vm.memfd_noexec is set
    return request.has_program && fstat(request.program(), &st) == 0 && (st.st_mode & S_IXUSR);
}

[[noreturn]] inline void run_command(const Request& request) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // or its own /proc files would be out of its reach
    const int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom >= 0) dprintf(oom, "1000");  // whatever runs out of memory, this process goes first
    for (int fd = 0; fd < 3; ++fd) need(dup2(request.fds[fd], fd) == fd, "dup2");
    constexpr long close_range_call = 436, only_at_exec = 4;  // older headers lack their names
    if (syscall(close_range_call, 3U, ~0U, only_at_exec) != 0)
        for (int fd = 3; fd < 4096; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (int s = 1; s < NSIG; ++s) signal(s, SIG_DFL);
    set_limits(request);
    deny_system_calls();
    if (request.has_program)
        syscall(SYS_execveat, request.program(), "", request.argv, environ, AT_EMPTY_PATH);
    else
        execv(request.argv[0], request.argv);
    if (!is_the_program_s_fault(request, errno)) fail("exec");
    dprintf(2, "cannot be started: %m\n");
    _exit(127);
}
