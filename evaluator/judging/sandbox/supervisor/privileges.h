// Giving up capabilities, and the system calls that a command is denied.

#pragma once

#include <cstddef>

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
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
