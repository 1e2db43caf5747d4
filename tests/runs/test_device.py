"""Devices by all their names, and an error that names one that is not there."""

from __future__ import annotations

import pytest
import torch

import genevae as gv
from genevae.errors import RecipeError
from genevae.runs.device import resolve_device


def test_auto_finds_a_device():
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device("auto").type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize(
    ("name", "device"),
    [("gpu", "cuda"), ("GPU", "cuda"), ("cuda:1", "cuda:1"), ("gpu:1", "cuda:1"), (0, "cuda:0"), (1, "cuda:1"),
     (torch.device("cuda", 1), "cuda:1")],
)  # fmt: skip
def test_a_gpu_has_several_names(name, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize("name", ["cuda:2", "cuda:", "cuda:one", "tpu", True, -1, "", "cpu0"])
def test_a_device_that_is_not_there_is_named(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RecipeError, match=f"There is no device '(cuda:)?{name}' here. .*There are: auto, cuda"):
        resolve_device(name)


def test_a_missing_gpu_is_no_fault_of_the_run(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gv.save(tiny_model, tmp_path / "run")
    for call in (gv.load, gv.resume):
        with pytest.raises(RecipeError, match="no device 'gpu' here: PyTorch finds none"):
            call(tmp_path / "run", device="gpu")
