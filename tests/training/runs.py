"""Runs that are to be the same, down to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from genevae.runs.checkpoint import latest

TIMES = {"cells_per_second", "waiting_share", "seconds", "waiting"}


def without_times(record: Any) -> Any:
    """Leave out what a clock has said."""
    if isinstance(record, dict):
        return {name: without_times(value) for name, value in record.items() if name not in TIMES}
    return [without_times(value) for value in record] if isinstance(record, list) else record


def assert_same(run: Path, other: Path) -> None:
    """Compare the models, and the weights, optimizers, generators and histories that training ended with."""
    for name in ("model.safetensors", "reference.safetensors", "calibration.json", "split.csv", "schema.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    one, two = latest(run), latest(other)
    assert one.name == two.name
    tensors, others = load_file(one / "state.safetensors"), load_file(two / "state.safetensors")
    assert tensors.keys() == others.keys()
    assert any(name.startswith("optimizer.") for name in tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
    facts = [without_times(json.loads((path / "state.json").read_text())) for path in (one, two)]
    assert facts[0] == facts[1]
    assert facts[0]["done"]
    assert facts[0]["history"]["epochs"]


def genevae(*words: str, **more: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "genevae", *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip
