import torch

from evaluator.generation.device import resolve_device


def test_processes_of_one_machine_take_one_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [str(resolve_device("auto", rank)) for rank in range(3)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
    assert str(resolve_device("cuda", 1)) == "cuda:1"
    assert str(resolve_device("cuda:0", 1)) == "cuda:0"
    assert str(resolve_device("cpu", 1)) == "cpu"
