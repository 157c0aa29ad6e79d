// Turning a fresh child into the command: limits first, then the filter, then exec.

#pragma once

#include <csignal>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "privileges.h"
#include "request.h"

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
