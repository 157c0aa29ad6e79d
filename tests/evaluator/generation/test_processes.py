"""One run made by several processes, launched as users launch them, or forked with their names."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch

from evaluator import run as run_module
from evaluator.errors import ModelError, RecordsError, RunDirectoryError
from evaluator.generation.processes import Processes, resolve_device
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.report import made_up
from tests.evaluator.whole_runs import identities, make, write_quick_config
from tests.forked import ROOT

SECONDS = 60  # within which a launch that lost a process has to end; it takes about one
PORTS_TRIED = itertools.count()
LAUNCH = (
    "accelerate.commands.launch --multi_gpu --num_processes=2 --main_process_port=0"  # torchrun
)


@pytest.fixture(scope="module")
def expected(quick, tmp_path_factory):
    """Records of an uninterrupted run of one process."""
    folder = tmp_path_factory.mktemp("one")
    return identities(make(write_quick_config(folder, out=folder / "out", **quick))[0])


def free_port():
    """A port for later: below those that the kernel gives to others, and of this process alone."""
    while True:
        port = 10_000 + (16 * os.getpid() + next(PORTS_TRIED)) % 22_000
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


def fork(server, config, world):
    """Start a run's processes with the environment that a launcher gives them; their numbers."""
    common = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1"}
    common["MASTER_PORT"] = free_port()
    return [
        server.start({"config": str(config), "environment": {k: str(v) for k, v in env.items()}})
        for env in ({**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(world))
    ]


def wait_for_lines(path, lines):
    end = time.monotonic() + 5 * SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < end
        time.sleep(0.002)


def check_finished(out, expected, worlds):
    assert identities(out) == expected
    assert not list(out.glob("generations.rank-*"))
    sessions = json.loads((out / "environment.json").read_text())["sessions"]
    assert [session["processes"] for session in sessions] == worlds
    assert (out / "report.md").exists()


@pytest.mark.slow
def test_a_run_under_a_real_launcher(quick_config, expected, tmp_path):
    config = quick_config(tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", *LAUNCH.split(), "-m", "evaluator", "run", str(config)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=5 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Tables and records") == 1  # by the first process alone
    assert done.stderr.count("generate base") == 1
    check_finished(tmp_path / "out", expected, [2])


def test_a_lost_process_ends_the_others_and_any_number_go_on(
    run_server, quick_config, expected, tmp_path
):
    """Without a launcher that would end the others, as it is with several machines."""
    lost = tmp_path / "lost"
    first, second = fork(run_server, quick_config(lost), 2)
    wait_for_lines(lost / "generations.rank-0001.jsonl", 2)
    os.kill(second, signal.SIGKILL)
    run_server.wait(second)
    begin = time.monotonic()
    assert os.waitstatus_to_exitcode(run_server.wait(first)) == 3  # an error that is explained
    assert time.monotonic() - begin < SECONDS
    for world in (1, 3):
        out = Path(shutil.copytree(lost, tmp_path / f"by-{world}"))
        config = quick_config(out)
        pids = fork(run_server, config, world)
        assert [run_server.wait(pid) for pid in pids] == [0] * world
        check_finished(out, expected, [2, world])


def test_a_second_run_is_refused_while_a_process_of_the_first_lives(
    run_server, quick_config, tmp_path
):
    config, out = quick_config(tmp_path / "out"), tmp_path / "out"
    first, second = fork(run_server, config, 2)
    wait_for_lines(out / "generations.rank-0001.jsonl", 2)
    os.kill(second, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    run_server.wait(first)
    try:
        with pytest.raises(RunDirectoryError, match="another process is writing this run"):
            make(config)
    finally:
        os.kill(second, signal.SIGKILL)
        run_server.wait(second)


def test_two_processes_that_disagree_stop_the_run(config_of):
    config = config_of(decoding={"max_new_tokens": 4})
    out, _ = make(config)
    rows = [json.loads(line) for line in (out / "generations.jsonl").read_text().splitlines()]
    other = RunDirectory(out).generations_of(1)
    other.write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[1])[:20])
    make(config)  # an equal record and a torn line are taken up
    assert not other.exists()
    rows[0]["text"] += "!"
    other.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(RecordsError, match=r"rank-0001\.jsonl, line 1: a second, different record"):
        make(config)
    make(config, overwrite=True)
    assert not other.exists()


def test_a_process_joins_only_the_same_run(tmp_path):
    run, facts = RunDirectory(tmp_path), made_up.facts()
    with pytest.raises(RunDirectoryError, match="all machines of a launch need the same out"):
        run.join(facts)
    run.begin(facts, "", overwrite=False)
    run.join(facts)
    facts.config["decoding"]["seed"] = 1
    with pytest.raises(RunDirectoryError, match="seed was 0, is 1"):
        run.join(facts)


def test_processes_of_one_machine_take_one_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [str(resolve_device("auto", rank)) for rank in range(3)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
    named = [str(resolve_device(name, 1)) for name in ("cuda", "cuda:0", "cpu")]
    assert named == ["cuda:1", "cuda:0", "cpu"]
    assert str(resolve_device("all")) == "cuda:0"  # where the model begins
    with pytest.raises(ModelError, match="start one process"):
        resolve_device("all", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [str(resolve_device("all", rank)) for rank in range(2)] == ["cpu", "cpu"]


def test_processes_that_would_share_the_gpus_of_a_spread_model_end_before_the_first_waits(
    monkeypatch, quick_config, tmp_path
):
    path = quick_config(tmp_path / "out", device="all")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    second = nullcontext(Processes(rank=1, world=2, local_rank=1))
    monkeypatch.setattr(run_module, "launched_processes", lambda: second)
    monkeypatch.setattr(Processes, "wait", lambda self: pytest.fail("it waits for the first"))
    with pytest.raises(ModelError, match="start one process"):
        make(path)
