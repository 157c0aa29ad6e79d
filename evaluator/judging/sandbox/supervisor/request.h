// What the judge asks and is told: requests with file descriptors beside them, answers, failures.

#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int control = 0;  // a SEQPACKET socket; the judge holds the other end

// A judge that has gone away gets nothing, and must not raise SIGPIPE.
inline void answer(const char* text) { send(control, text, strlen(text), MSG_NOSIGNAL); }

[[noreturn]] inline void fail(const char* what) {
    char line[512];
    snprintf(line, sizeof line, "error %s: %s", what, strerror(errno));
    answer(line);
    _exit(125);
}

inline void need(bool ok, const char* what) {
    if (!ok) fail(what);
}

constexpr int kMostCopies = 8;
constexpr int kMostArguments = 128;

struct Request {
    long long cpu, wall, rss;
    unsigned long long as, stack, fsize, nproc;
    int has_program, copies;
    char* copy_name[kMostCopies];
    char* argv[kMostArguments];

    // Descriptors: 0 to 2 of the command, then its program where it has one, then the copies.
    int count = 0;
    int fds[4 + kMostCopies];

    int program() const { return has_program ? fds[3] : -1; }
    int copy(int i) const { return fds[3 + has_program + i]; }
};

// Reads the texts, which main.cpp describes; the request points into them.
inline void read_texts(Request& request, char* text, const char* end) {
    errno = EINVAL;
    const int numbers =
        sscanf(text, "%lld %lld %lld %llu %llu %llu %llu %d %d", &request.cpu, &request.wall,
               &request.rss, &request.as, &request.stack, &request.fsize, &request.nproc,
               &request.has_program, &request.copies);
    need(numbers == 9 && request.copies >= 0 && request.copies <= kMostCopies, "numbers");
    need(request.count == 3 + request.has_program + request.copies, "descriptors");
    int n = -request.copies;
    for (text += strlen(text) + 1; text < end && n + 1 < kMostArguments; ++n) {
        (n < 0 ? request.copy_name[n + request.copies] : request.argv[n]) = text;
        text += strlen(text) + 1;
    }
    need(n > 0 && text >= end, "command");
    request.argv[n] = nullptr;
}

// Waits for the judge's next request; false when it has closed its end.
inline bool receive(Request& request) {
    static char text[64 << 10];
    alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof request.fds)];
    request = Request();
    iovec part = {text, sizeof text - 1};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary;
    message.msg_controllen = sizeof ancillary;
    const ssize_t n = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    if (n <= 0) return false;
    errno = EMSGSIZE;
    need(!(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)), "request");
    text[n] = 0;
    if (const cmsghdr* fds = CMSG_FIRSTHDR(&message)) {  // SCM_RIGHTS, the only one it gets
        request.count = static_cast<int>((fds->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(request.fds, CMSG_DATA(fds), request.count * sizeof(int));
    }
    read_texts(request, text, text + n);
    return true;
}

inline void release(const Request& request) {
    for (int i = 0; i < request.count; ++i) close(request.fds[i]);
}
