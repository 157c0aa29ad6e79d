"""Arms that read the reference's text, beside arms that write from scratch

    python -m benchmarks.drafts [--rounds 2] [--config configs/demo.yaml]

A run in float32, greedy and sampled, with and without drafts in turn. Seconds are those of the
merged arms, loading included, medians over rounds: of the generation alone, and with the token
level. 'Dearest arm' is what the slowest of them took to generate, over the seconds of the
reference. 'Taken over' is the share of their tokens that were read and not written. Texts have to
be equal to the last character.
"""

import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from benchmarks.harness import ROOT, parser, table, write_page
from evaluator.config.config_file import dump_config
from evaluator.config.run_config import RunConfig, load_config
from evaluator.generation.prepare import prepare
from evaluator.generation.processes import Processes
from evaluator.generation.stage import all_generations, generate_share
from evaluator.store.plan import write_plan
from evaluator.store.records import Key
from evaluator.store.run_directory import RunDirectory
from evaluator.tokens.stage import token_stage

COLUMNS = ("temperature", "way", "generation s", "of scratch", "with token level s", "of scratch",
           "dearest arm", "taken over", "different texts")  # fmt: skip


def make(
    config: RunConfig, out: Path, temperature: float, drafts: bool, problems: int
) -> tuple[dict[str, float], dict[Key, str]]:
    """Generate and compare tokens as a run does, for the first problems; nothing is judged."""
    decoding = config.decoding.model_copy(update={"temperature": temperature})
    factors = config.factor_store or out.parent / "factors"
    changes = {"out": out, "decoding": decoding, "drafts": drafts, "factor_store": factors}
    prepared, directory = prepare(config.model_copy(update=changes)), RunDirectory(out)
    prepared = prepared.only({prompt.problem for prompt in prepared.prompts[:problems]})
    out.mkdir(parents=True)
    directory.begin(prepared.facts, dump_config(prepared.config), overwrite=False)
    write_plan(directory, prepared.facts)
    seconds: Counter[str] = Counter()
    stage, since = "", time.perf_counter()

    def clock(what: str, _: int, __: int) -> None:
        nonlocal stage, since
        now = time.perf_counter()
        seconds[stage] += now - since
        stage, since = what, now

    processes = Processes()
    with token_stage(directory, prepared, clock) as tokens:
        generate_share(directory, prepared, processes, clock, tokens.while_writing(processes))
        records = all_generations(directory, prepared)
        tokens.finish(prepared, records)
    clock("", 0, 0)
    merged = [arm.name for arm in config.arms if arm.kind == "merged"]
    reference = config.reference()
    assert reference is not None, "drafts are those of a restored arm"
    own = [record for record in records if record.arm in merged]
    writing = [seconds[f"generate {name}"] for name in merged]
    numbers = {
        "generation": sum(writing),
        "both": sum(writing) + sum(seconds[f"tokens {name}"] for name in merged),
        "dearest": max(writing) / seconds[f"generate {reference.name}"],
        "taken over": sum(one.taken_over for one in own) / sum(one.token_count for one in own),
    }
    return numbers, {record.key: record.text for record in records}


def main() -> None:
    options = parser(__doc__, "bench/drafts.md", rounds=2)
    options.add_argument("--config", type=Path, default=ROOT / "configs" / "demo.yaml")
    options.add_argument("--problems", type=int, default=10**6, help="how many, at most")
    args = options.parse_args()
    config = load_config(args.config)
    torch.set_num_threads(1)
    runs, scratch = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, *way in product(range(args.rounds), (0.0, 0.8), (False, True)):
            out = Path(folder) / "-".join(map(str, (number, *way)))
            numbers, texts = make(config, out, *way, args.problems)
            first = scratch.setdefault(way[0], texts)
            differing = sum(texts[key] != text for key, text in first.items())
            runs.append({"temperature": way[0], "drafts": way[1], "differing": differing} | numbers)
    ways = pd.DataFrame(runs).groupby(["temperature", "drafts"])
    middle, differing = ways.median(), ways["differing"].max()
    rows = []
    for (temperature, drafts), line in middle.iterrows():
        alone = middle.loc[(temperature, False)]
        rows.append((
            f"{temperature:g}", "drafts" if drafts else "from scratch",
            f"{line['generation']:.1f}", f"{line['generation'] / alone['generation']:.2f}",
            f"{line['both']:.1f}", f"{line['both'] / alone['both']:.2f}", f"{line['dearest']:.2f}",
            f"{100 * line['taken over']:.1f} %", differing[temperature, drafts],
        ))  # fmt: skip
    write_page(args.out, __doc__, table(COLUMNS, rows))


if __name__ == "__main__":
    main()
