"""How far an export says that it is."""

import time

from exporter import ExportRequest, export


def test_each_module_is_one_step_when_it_is_done(base, artifact, tmp_path):
    seen = []

    def progress(step):
        time.sleep(0.002)  # other threads finish meanwhile
        seen.append((step.stage, step.done, step.total, step.module))

    report = export(ExportRequest(base, artifact, tmp_path / "out", format="bf16"), progress)
    modules = [module.module for module in report.fidelity.modules]
    assert [step[:3] for step in seen] == [("fold", n + 1, 14) for n in range(14)]
    assert sorted(step[3] for step in seen) == sorted(modules)
