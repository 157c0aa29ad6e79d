"""The deltas of a file's modules, several weights factorized at a time, always to the same bits.

A threaded SVD rounds differently with each number of threads, and a bf16 factor on the edge then
flips. So each decomposition runs on one thread, and the threads that torch may use work on
different modules.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from exporter.checkpoint import Checkpoint
from exporter.fold import seen_weight
from exporter.plan import ModuleUnit
from exporter.threads import single_threaded
from tinylora import ModuleDelta, ModuleDeltas

# Each worker holds one weight and the workspace of its SVD, about 0.5 GB for a 3B model.
_MOST_WORKERS = 8


def rebuild_deltas(
    units: Sequence[ModuleUnit],
    base: Checkpoint,
    deltas: ModuleDeltas,
    done: Callable[[str], None],
) -> Mapping[str, ModuleDelta]:
    """The deltas of some modules, with everything costly done.

    Args:
        units: The modules' units.
        base: Where their weights are.
        deltas: Knows method, rank and store.
        done: Called with a module's name when its delta is there.

    Returns:
        Deltas by module.

    Raises:
        FoldError: A weight is not finite.
        FactorizationError: An SVD failed.
    """

    def work(unit: ModuleUnit) -> tuple[str, ModuleDelta]:
        return unit.module, deltas.module(unit.module, partial(seen_weight, unit, base))

    found: dict[str, ModuleDelta] = {}
    with single_threaded() as threads:
        pool = ThreadPoolExecutor(min(threads, _MOST_WORKERS))
        try:
            for future in as_completed([pool.submit(work, unit) for unit in units]):
                module, rebuilt = future.result()
                found[module] = rebuilt
                done(module)
        finally:
            pool.shutdown(cancel_futures=True)
    return found
