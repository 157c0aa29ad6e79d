"""What a compiler says."""

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.compile_cpp import compile_cpp


def test_long_message_keeps_its_first_and_last_lines(sandbox):
    lines = [f'static_assert(false, "{n} {"x" * 400}");' for n in range(18)]
    with sandbox.worker() as worker:
        message = compile_cpp(worker, "\n".join(lines), JudgeSettings()).message
    assert message.startswith("main.cpp:1:") and "lines left out)\n" in message
    assert '"17 xxx' in message and '"12 xxx' not in message
    assert 3000 < len(message) < 4100
