// What the judge asks and is told: requests with file descriptors beside them, answers, failures.

#pragma once

#include <cerrno>
#include <climits>
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

// What "key=value" holds, if that is the key of an argument; otherwise null.
inline const char* value_of(const char* argument, const char* key) {
    const size_t n = strlen(key);
    return strncmp(argument, key, n) == 0 && argument[n] == '=' ? argument + n + 1 : nullptr;
}

constexpr int kMostCopies = 8;
constexpr int kMostArguments = 128;

struct Request {
    long long cpu = 1000, wall = 3000, rss = LLONG_MAX;
    unsigned long long as = RLIM_INFINITY, stack = 8u << 20, fsize = 1u << 20;
    unsigned long long nproc = 1;
    bool has_program = false;
    int copies = 0;
    const char* copy_name[kMostCopies];
    char* argv[kMostArguments];

    // Descriptors: 0 to 2 of the command, then its program where it has one, then the copies.
    int count = 0;
    int fds[4 + kMostCopies];

    int program() const { return has_program ? fds[3] : -1; }
    int copy(int i) const { return fds[3 + has_program + i]; }
};

inline void read_setting(Request& request, char* text) {
    const char* v;
    errno = EINVAL;
    if ((v = value_of(text, "cpu"))) request.cpu = atoll(v);
    else if ((v = value_of(text, "wall"))) request.wall = atoll(v);
    else if ((v = value_of(text, "rss"))) request.rss = atoll(v);
    else if ((v = value_of(text, "as"))) request.as = strtoull(v, nullptr, 10);
    else if ((v = value_of(text, "stack"))) request.stack = strtoull(v, nullptr, 10);
    else if ((v = value_of(text, "fsize"))) request.fsize = strtoull(v, nullptr, 10);
    else if ((v = value_of(text, "nproc"))) request.nproc = strtoull(v, nullptr, 10);
    else if ((v = value_of(text, "program"))) request.has_program = *v == '1';
    else if ((v = value_of(text, "copy")) && request.copies < kMostCopies)
        request.copy_name[request.copies++] = v;
    else fail(text);
}

// Reads "key=value\0 ... --\0 argv0\0 arg\0 ..."; the request points into the text.
inline void read_texts(Request& request, char* text, const char* end) {
    for (; text < end && strcmp(text, "--") != 0; text += strlen(text) + 1)
        read_setting(request, text);
    int n = 0;
    for (text += 3; text < end && n + 1 < kMostArguments; text += strlen(text) + 1)
        request.argv[n++] = text;
    request.argv[n] = nullptr;
    errno = EINVAL;
    need(n > 0 && text >= end, "command");
    need(request.count == 3 + request.has_program + request.copies, "descriptors");
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
