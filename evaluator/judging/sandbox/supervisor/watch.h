// Watching a command until it ends or breaks a limit, and leaving no process of it.

#pragma once

#include <csignal>
#include <ctime>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "request.h"

constexpr int kTickMs = 5;  // how often the limits are looked at

struct Outcome {
    const char* reason = "exit";  // or the limit for which it was killed
    bool judge_left = false;
    int status = 0;
    long long wall_us = 0, cpu_us = 0, peak_kib = 0;
};

inline long long now_us() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

// Reads two numbers at the start of a /proc file that was opened once.
inline bool read_numbers(int fd, long long* first, long long* second) {
    char text[128];
    const ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return false;
    text[n] = 0;
    return sscanf(text, "%lld %lld", first, second) == 2;
}

class Watch {
  public:
    Watch(const Request& limits, pid_t child) : limits_(limits), start_(now_us()) {
        char path[64];
        has_clock_ = clock_getcpuclockid(child, &clock_) == 0;
        snprintf(path, sizeof path, "/proc/%d/statm", child);
        statm_ = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/%d/schedstat", child);
        schedstat_ = open(path, O_RDONLY | O_CLOEXEC);
    }
    ~Watch() {
        close(statm_);
        close(schedstat_);
    }

    long long wall_us() const { return now_us() - start_; }
    long long peak_kib() const { return peak_ / 1024; }  // the kernel's own lags behind

    // Which limit is broken now, or null.
    const char* broken() {
        timespec t;
        if (has_clock_ && clock_gettime(clock_, &t) == 0 &&
            t.tv_sec * 1000LL + t.tv_nsec / 1000000 > limits_.cpu)
            return "cpu";
        long long size, resident;
        if (read_numbers(statm_, &size, &resident)) {
            if (resident * getpagesize() > peak_) peak_ = resident * getpagesize();
            if (peak_ > limits_.rss) return "memory";
        }
        const long long wall = wall_us() / 1000;
        if (wall <= limits_.wall) return nullptr;
        // Waiting for a busy machine's processor is no fault of the program.
        long long on_cpu, waiting = 0;
        read_numbers(schedstat_, &on_cpu, &waiting);
        const bool over = wall - waiting / 1000000 > limits_.wall || wall > 10 * limits_.wall;
        return over ? "wall" : nullptr;
    }

  private:
    const Request& limits_;
    const long long start_;
    clockid_t clock_;
    bool has_clock_;
    int statm_, schedstat_;
    long long peak_ = 0;
};

// Kills the command's process group, and whoever left it: as PID 1 all there is, else orphans.
inline void kill_everything(pid_t group) {
    kill(-group, SIGKILL);
    if (getpid() == 1) {
        kill(-1, SIGKILL);
        return;
    }
    if (FILE* children = fopen("/proc/thread-self/children", "re")) {
        int pid;
        while (fscanf(children, "%d", &pid) == 1) kill(pid, SIGKILL);
        fclose(children);
    }
}

inline long long cpu_us(const rusage& usage) {
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

// Whether all processes are gone; what they used counts too.
inline bool reap_the_rest(pid_t group, Outcome& outcome) {
    const long long deadline = now_us() + 2000000;
    while (now_us() < deadline) {
        kill_everything(group);
        rusage usage;
        const pid_t pid = wait4(-1, nullptr, WNOHANG, &usage);
        if (pid < 0 && errno == ECHILD) return true;
        if (pid == 0) usleep(1000);
        if (pid > 0) outcome.cpu_us += cpu_us(usage);
    }
    return false;
}

// Waits for the command's end, a broken limit, or the end of the judge.
inline Outcome watch(const Request& request, pid_t child) {
    Watch watched(request, child);
    Outcome outcome;
    rusage usage = {};
    pollfd awaited[2] = {{static_cast<int>(syscall(SYS_pidfd_open, child, 0)), POLLIN, 0},
                         {control, 0, 0}};  // POLLHUP alone
    need(awaited[0].fd >= 0, "pidfd_open");
    for (bool killed = false;;) {
        poll(awaited, killed ? 1 : 2, kTickMs);
        pid_t pid;
        while ((pid = wait4(-1, &outcome.status, WNOHANG, &usage)) > 0 && pid != child) {}
        if (pid == child) break;
        if (killed) continue;
        outcome.judge_left = awaited[1].revents != 0;
        const char* limit_broken = outcome.judge_left ? "wall" : watched.broken();
        if (limit_broken) {
            outcome.reason = limit_broken;
            killed = true;
            kill_everything(child);
        }
    }
    close(awaited[0].fd);
    outcome.wall_us = watched.wall_us();
    outcome.cpu_us = cpu_us(usage);
    const long long peak = watched.peak_kib();
    outcome.peak_kib = usage.ru_maxrss > peak ? usage.ru_maxrss : peak;
    return outcome;
}
