"""Two processes train as one does; and when one of them ends, so does the other, and says why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.processes import finish, free_port, start
from tests.training.together import FITS

from genevae.errors import RecipeError, TrainingError
from genevae.training.launch_env import Launch
from genevae.training.world import World, device_of, join

SCRIPT = Path(__file__).with_name("together.py")
QUICK = ["nb", "adversarial", "bulk", "categories hidden", "contrastive", "cycle", "accumulated"]
TIMES = {"cells_per_second", "waiting_share"}


def trained(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Train models in one process, and in two."""
    one, two = folder / "one", folder / "two"
    one.mkdir()
    two.mkdir()
    processes = [process for n, out in ((1, one), (2, two)) for process in start(n, [str(SCRIPT), str(out), *names])]
    for code, _, errors in finish(processes):
        assert code == 0, errors
    return one, two


def require_agreement(one: Path, two: Path, name: str) -> None:
    """Compare histories and weights of one process and of both of two."""
    expected = json.loads((one / f"{name} 0.json").read_text())
    weights = load_file(one / f"{name} 0.safetensors")
    for rank in range(2):
        found = json.loads((two / f"{name} {rank}.json").read_text())
        assert found["ended"] == expected["ended"]
        assert found["history"].keys() == expected["history"].keys()
        for column in expected["history"].keys() - TIMES:
            np.testing.assert_allclose(
                found["history"][column], expected["history"][column], 1e-7, 1e-7, err_msg=column
            )
        for key, tensor in load_file(two / f"{name} {rank}.safetensors").items():
            torch.testing.assert_close(tensor, weights[key], rtol=1e-7, atol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[Path, Path]:
    return trained(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def found(quick) -> list[dict]:
    return [json.loads((quick[1] / f"found {rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_train_as_one(quick, name):
    require_agreement(*quick, name)


def test_two_processes_that_cannot_share_memory_train_as_one(quick, tmp_path):
    command = [str(SCRIPT), str(tmp_path), "accumulated", "adversarial", "by sockets"]
    for code, _, errors in finish(start(2, command)):
        assert code == 0, errors
    for name in ("accumulated", "adversarial"):
        require_agreement(quick[0], tmp_path, name)


@pytest.mark.slow
def test_two_processes_train_as_one_whatever_the_recipe(tmp_path):
    one, two = trained(tmp_path, list(FITS))
    for name in FITS:
        require_agreement(one, two, name)
    assert "did not improve" in json.loads((two / "stopped 1.json").read_text())["ended"]


def test_batch_norm_of_parts_is_that_of_the_whole(found):
    for each in found:
        assert len(each["batch norm"]) == 12
        assert max(each["batch norm"].values()) < 1e-9, each["batch norm"]


def test_compiled_batch_norm_of_parts_is_the_plain_one(found):
    for each in found:
        assert len(each["compiled norm"]) == 6
        assert max(each["compiled norm"].values()) < 1e-5, each["compiled norm"]


def test_numbers_exchanged_through_memory_are_those_of_torchs_collectives(found):
    for each in found:
        assert len(each["exchanged"]) == 14
        assert max(each["exchanged"].values()) == 0, each["exchanged"]


def test_processes_tell_each_other_what_they_have_found(found):
    for each in found:
        assert each["texts"] == ["process 0", "process 1é"]
        assert each["wishes"] == [False, True, True]


def test_what_cannot_be_shared_is_refused_by_all(found):
    for each in found:
        assert "process 1 is not that of process 0" in each["refusals"]["other data"]
        assert "too few for 2 processes" in each["refusals"]["few cells"]
        assert "cell17" in each["refusals"]["broken"], "whichever process has the cell"


def test_alone_there_is_nobody_to_ask():
    ranks = join(Launch(), torch.device("cpu"))
    assert ranks == World()
    assert ranks.is_first
    assert ranks.texts("a") == ["a"]
    assert [ranks.any(wish) for wish in (False, True)] == [False, True]
    assert device_of(Launch(), torch.device("cuda")) == torch.device("cuda")


def test_processes_that_cannot_meet_say_so(monkeypatch):
    monkeypatch.setattr("genevae.training.world.ANSWER_WITHIN", timedelta(seconds=1))
    with pytest.raises(RecipeError, match="Choose the device cpu or cuda"):
        join(Launch(0, 2, 0, "env://"), torch.device("mps"))
    with pytest.raises(TrainingError, match="did not find the others"):
        join(Launch(1, 2, 1, f"tcp://127.0.0.1:{free_port()}"), torch.device("cpu"))
