from evaluator.config.run_config import DecodingConfig
from evaluator.generation.batches import plan_batches
from evaluator.generation.prompts import Prompt


def test_every_row_once_the_longest_prompts_first():
    prompts = [Prompt(f"P{i}", "", (1,) * (3 + 7 * i % 11)) for i in range(40)]
    plan = plan_batches(prompts, DecodingConfig(batch_size=3, samples=2, temperature=1.0))
    rows = [(row.prompt.problem, row.sample) for batch in plan for row in batch]
    assert sorted(rows) == sorted((p.problem, s) for p in prompts for s in (0, 1))
    lengths = [len(row.prompt.token_ids) for batch in plan for row in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert {len(batch) for batch in plan} == {2, 3}
