// Runs untrusted commands inside the sandbox, one after the other, measures each, and leaves
// nothing of it behind. As PID 1 of the sandbox it kills what a command leaves running.
//
//   rung=bwrap     bubblewrap has built the root of the file system
//   rung=unshare   build it here
//   rung=unsafe    no isolation: a fresh folder below /tmp
//   dev=NAMES      device nodes for rung=unshare, comma separated
//   box=BYTES      size of the working folder
//   streams=1      name the standard streams below /dev, and let tmpfile() work
//
// Standard input is a SEQPACKET socket to the judge. The supervisor says "ready", then answers one
// request after the other and ends when the judge closes its end, also in the midst of a request.
// A request is a message of texts, each ended by NUL,
//
//   cpu=, wall=    limits in ms    rss=, as=, stack=, fsize=   limits in bytes
//   nproc=         processes and threads
//   program=1      run the program that comes as a descriptor; otherwise argv0 by its path
//   copy=NAME      put the content of a descriptor into the working folder (repeatable)
//   -- argv0 arg ...
//
// with the descriptors 0, 1, 2 of the command, its program, and the copies. The answer is
// "exit signal reason cpu_us wall_us maxrss_kib clean", reason being one of exit cpu wall memory,
// and clean 1 where nothing of the command is left. A failure of the supervisor itself is the
// answer "error WHAT: STRERROR", after which it ends.

#include "command.h"
#include "file_system.h"
#include "privileges.h"
#include "request.h"
#include "watch.h"

// Runs one request; false if the judge has gone away.
static bool serve(const Request& request) {
    copy_in(request);
    const pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0) run_command(request);
    Outcome outcome = watch(request, child);
    const bool alone = reap_the_rest(child, outcome);
    const bool clean = empty_box(request) && alone;
    release(request);
    const int status = outcome.status;
    char line[160];
    snprintf(line, sizeof line, "%d %d %s %lld %lld %lld %d",
             WIFEXITED(status) ? WEXITSTATUS(status) : -1,
             WIFSIGNALED(status) ? WTERMSIG(status) : 0, outcome.reason, outcome.cpu_us,
             outcome.wall_us, outcome.peak_kib, clean);
    answer(line);
    return !outcome.judge_left;
}

int main(int, char** arguments) {
    const Settings settings = read_settings(arguments + 1);
    // away from the number of a command's own input
    need((control = fcntl(0, F_DUPFD_CLOEXEC, 3)) > 0, "control");
    enter(settings);
    drop_privileges();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGTERM, SIG_IGN);  // it ends when the socket does, and then cleans up
    answer("ready");
    Request request;
    while (receive(request) && serve(request)) {}
    leave(settings);
    return 0;
}
