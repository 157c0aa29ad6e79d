"""What there is that an attack might have left: processes, files, sockets, shared memory."""

from pathlib import Path

from tests.evaluator.judging.hostile.attack import IPC_KEY, MARK, PORT


def census() -> set[str]:
    """Name everything of this process, or marked by an attack, that could be left behind."""
    return _descendants() | _descriptors() | _files() | _sockets() | _ipc()


def _descendants() -> set[str]:
    """Processes below this one, dead or alive; as a subreaper it inherits the orphans too."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):  # it ended in the meantime
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {int(Path("/proc/self").readlink().name)}
    root = set(found)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {f"process {pid}" for pid in found - root}


def _descriptors() -> set[str]:
    """Open descriptors of this process."""
    return {f"descriptor {fd.name}" for fd in Path("/proc/self/fd").iterdir()}


def _files() -> set[str]:
    """Files in the usual writable places."""
    places = [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/")]
    found = (file for place in (*places, Path.cwd()) if place.is_dir() for file in place.iterdir())
    return {f"file {file}" for file in found if file.name.startswith(MARK)}


def _sockets() -> set[str]:
    """Sockets of the names and the port that attacks ask for."""
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6", "unix"):
        table = Path("/proc/net", kind)
        lines = table.read_text(errors="replace").splitlines()[1:] if table.exists() else []
        mark = MARK if kind == "unix" else f":{PORT:04X} "
        found |= {f"socket {kind} {line.strip()}" for line in lines if mark in line}
    return found


def _ipc() -> set[str]:
    """System V objects of the key that attacks ask for."""
    found = set()
    for kind in ("shm", "sem", "msg"):
        table = Path("/proc/sysvipc", kind)
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        found |= {f"{kind} {line}" for line in lines if line.split()[0] == str(IPC_KEY)}
    return found
