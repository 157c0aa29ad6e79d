"""SHA-256 of a base's weight files, found in the background while the export goes on."""

import threading
from concurrent.futures import Future

from exporter.base.checkpoint import Checkpoint
from exporter.progress import Stopwatch


def hash_in_background(base: Checkpoint, watch: Stopwatch) -> Future[dict[str, str]]:
    """Start :meth:`Checkpoint.digests` on a thread of its own, timed as ``hash``.

    A program that ends early, because of an error, does not wait for the thread.
    """
    found: Future[dict[str, str]] = Future()

    def run() -> None:
        try:
            found.set_result(watch.call("hash", base.digests))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found
