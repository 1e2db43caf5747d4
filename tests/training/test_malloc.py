"""Memory is kept while training lasts, and given back."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from genevae.training import malloc
from genevae.training.malloc import keep_freed_memory

FAULTS = """
import resource, torch
from contextlib import nullcontext
from genevae.training.malloc import keep_freed_memory
torch.set_num_threads(1)
with {context}:
    [torch.ones(12_000_000) for _ in range(3)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        a, b = torch.ones(12_000_000), torch.ones(12_000_000)
        c = a * b
        del a, b, c
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(malloc._glibc() is None, reason="the C library is not glibc")
def test_large_blocks_are_mapped_once():
    def faults(context: str) -> int:
        code = FAULTS.format(context=context)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert faults("keep_freed_memory()") < faults("nullcontext()") / 3


def test_it_changes_no_number_and_survives_an_error(monkeypatch):
    with pytest.raises(ValueError, match="no"), keep_freed_memory():
        raise ValueError("no")
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    with keep_freed_memory():
        assert torch.ones(3).sum() == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt > 0
