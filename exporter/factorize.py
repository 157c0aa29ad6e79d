"""Singular factors of all modules of a file, several at a time, with the same bits every time.

A threaded SVD rounds differently with each number of threads, and a bf16 factor on the edge then
flips. So each decomposition runs on one thread, and the threads that torch may use work on
different modules.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from exporter.checkpoint import Checkpoint
from exporter.fold import seen_weight
from exporter.plan import LinearUnit, LoraUnit
from exporter.threads import single_threaded
from tinylora import AdapterDeltas, Factors

# Each worker holds one weight and the workspace of its SVD, about 0.5 GB for a 3B model.
_MOST_WORKERS = 8


def factors_of_units(
    units: Sequence[LinearUnit | LoraUnit],
    base: Checkpoint,
    deltas: AdapterDeltas,
    done: Callable[[str], None],
) -> Mapping[str, Factors]:
    """Factors of the weights of some modules.

    Args:
        units: The modules' units.
        base: Where their weights are.
        deltas: Knows method, rank and store.
        done: Called with a module's name when its factors are there.

    Returns:
        Factors by module.

    Raises:
        FoldError: A weight is not finite.
        FactorizationError: An SVD failed.
    """

    def work(unit: LinearUnit | LoraUnit) -> tuple[str, Factors]:
        return unit.module, deltas.factors(unit.module, seen_weight(unit, base))

    found: dict[str, Factors] = {}
    with single_threaded() as threads:
        pool = ThreadPoolExecutor(min(threads, _MOST_WORKERS))
        try:
            for future in as_completed([pool.submit(work, unit) for unit in units]):
                module, factors = future.result()
                found[module] = factors
                done(module)
        finally:
            pool.shutdown(cancel_futures=True)
    return found
