from evaluator.config.run_config import DecodingConfig
from evaluator.generation.batches import plan_batches, share_of
from evaluator.generation.prompts import Prompt

PROMPTS = [Prompt(f"P{i}", "", (1,) * (3 + 7 * i % 11)) for i in range(40)]


def test_shares_of_processes_make_up_the_plan():
    plan = plan_batches(PROMPTS, DecodingConfig(batch_size=3, samples=2, temperature=1.0))
    rows = [(row.prompt.problem, row.sample) for batch in plan for row in batch]
    assert sorted(rows) == sorted((p.problem, s) for p in PROMPTS for s in (0, 1))
    lengths = [len(row.prompt.token_ids) for batch in plan for row in batch]
    assert lengths == sorted(lengths, reverse=True)
    for world in (1, 2, 3, 50):
        shares = [share_of(plan, rank, world) for rank in range(world)]
        assert sorted(map(id, plan)) == sorted(id(batch) for share in shares for batch in share)
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
