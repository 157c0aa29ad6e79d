// The file system that a command sees: built here or by bubblewrap, with one folder to write in.

#pragma once

#include <climits>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "request.h"

struct Settings {
    const char* rung;
    unsigned long long box;
    bool contest;

    explicit Settings(char** arguments)
        : rung(arguments[1]), box(strtoull(arguments[2], nullptr, 10)), contest(*arguments[3] == '1') {}
    bool on_host() const { return strcmp(rung, "unsafe") == 0; }
};

static char host_box[64] = "/tmp/tinylora-judge-XXXXXX";

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

inline void make_read_only(const char* path) {
    mount_attr attr = {};
    attr.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID;
    need(syscall(SYS_mount_setattr, -1, path, AT_RECURSIVE, &attr, sizeof attr) == 0, path);
}

// Show a host path at the same place of the new root: a link as a link, the rest bound read-only.
inline void show(const char* root, const char* path) {
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

// The part that bubblewrap does on its rung: what is shown of the host, and a new root.
inline void build_root(const Settings& settings) {
    static char root[] = "/tmp";
    need(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
    need(mount("tmpfs", root, "tmpfs", MS_NOSUID, "size=1m,mode=0755") == 0, "tmpfs");
    for (const char* path : {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"})
        show(root, path);
    need(mkdir("/tmp/etc", 0755) == 0 && mkdir("/tmp/dev", 0755) == 0, "mkdir");
    for (const char* path : {"/etc/ld.so.cache", "/etc/alternatives"}) show(root, path);
    show(root, "/dev/null");
    if (settings.contest)
        for (const char* path : {"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
            show(root, path);
    need(mkdir("/tmp/proc", 0755) == 0, "mkdir");
    need(mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0, "proc");
    need(chdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    need(umount2(".", MNT_DETACH) == 0, "umount old root");
}

// The names of the streams, and tmpfile(). A directory that was removed while it is mounted takes
// files without a name and no others; they count as the box's.
inline void offer_streams() {
    need(symlink("/proc/self/fd", "/dev/fd") == 0 && symlink("fd/0", "/dev/stdin") == 0 &&
             symlink("fd/1", "/dev/stdout") == 0 && symlink("fd/2", "/dev/stderr") == 0,
         "streams");
    need(mkdir("/box/tmp", 0700) == 0 && chmod("/box/tmp", 0333) == 0, "mkdir /box/tmp");
    need(mkdir("/tmp", 0755) == 0, "mkdir /tmp");
    need(mount("/box/tmp", "/tmp", nullptr, MS_BIND, nullptr) == 0, "/tmp");
    need(rmdir("/box/tmp") == 0, "rmdir /box/tmp");
}

// The box, which alone can be written in. Done here on both rungs: bubblewrap bounds no files.
inline void furnish_root(const Settings& settings) {
    char options[128];
    snprintf(options, sizeof options, "size=%llu,nr_inodes=16384,mode=0755", settings.box);
    need(mkdir("/box", 0755) == 0, "mkdir /box");
    need(mount("tmpfs", "/box", "tmpfs", MS_NOSUID | MS_NODEV, options) == 0, "box");
    if (settings.contest) offer_streams();
    need(mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, nullptr) == 0,
         "read-only root");
}

// The box of the rung without walls: locked, so that the next start can tell what a killed judge left
// (tinylora/files/scratch.py).
inline void make_host_box() {
    need(mkdtemp(host_box) != nullptr, "mkdtemp");
    const int lock = open(host_box, O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // held as long as we live
    need(lock >= 0 && flock(lock, LOCK_EX) == 0, "lock");
    const std::string made = host_box;
    strcat(host_box, ".locked");
    need(rename(made.c_str(), host_box) == 0, "rename");
}

inline void enter(const Settings& settings) {
    if (strcmp(settings.rung, "unshare") == 0) build_root(settings);
    if (!settings.on_host()) furnish_root(settings);
    const char* box = "/box";
    if (settings.on_host()) {
        make_host_box();
        box = host_box;
    }
    need(chdir(box) == 0, "chdir");
}

inline void copy_in(const Request& request) {
    for (int i = 0; i < request.copies; ++i) {
        const int in = request.copy(i);
        struct stat st;
        need(fstat(in, &st) == 0, "fstat");
        const int out =
            open(request.copy_name[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        need(out >= 0, request.copy_name[i]);
        off_t offset = 0;  // explicit: the descriptor's own offset is shared with other runs
        while (offset < st.st_size)
            need(sendfile(out, in, &offset, st.st_size - offset) > 0, "sendfile");
        close(out);
    }
}

// Takes the copies away; true if nothing else is in the box either.
inline bool empty_box(const Request& request) {
    for (int i = 0; i < request.copies; ++i) unlink(request.copy_name[i]);
    DIR* box = opendir(".");
    if (!box) return false;
    int entries = 0;
    while (readdir(box)) ++entries;
    closedir(box);
    return entries == 2;  // "." and ".."
}

inline int remove_entry(const char* path, const struct stat*, int, FTW*) { return remove(path); }

inline void leave(const Settings& settings) {
    if (settings.on_host()) nftw(host_box, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
