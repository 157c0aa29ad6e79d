"""Starts work as real processes within milliseconds, so that many of them can be killed.

Run as ``python fork_server.py MODULE``: the module is imported once, and each line (JSON) read is
work for its function ``child(fields)``, done by a forked child. The child's number is printed and,
after a further line was read and the child has ended, its wait status. The first line is done by
the server itself, as libraries load parts of themselves on first use.
"""

import gc
import importlib
import json
import os
import sys


def main():
    import torch

    torch.set_num_threads(1)
    child = importlib.import_module(sys.argv[1]).child
    child(json.loads(sys.stdin.readline()))
    gc.collect()
    gc.freeze()  # a child that collects need not look at all of the libraries
    print("ready", flush=True)
    children = set()
    while line := sys.stdin.readline():
        fields = json.loads(line)
        if "wait" in fields:
            children.remove(fields["wait"])
            print(os.waitpid(fields["wait"], 0)[1], flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            try:
                child(fields)
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(3)
        children.add(pid)  # the number stays the child's own, dead or alive, until it is waited for
        print(pid, flush=True)


if __name__ == "__main__":
    main()
