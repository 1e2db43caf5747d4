"""What TensorBoard is given, read back with its own reader."""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import RunError
from genevae.runs.tensorboard import TensorBoard
from genevae.training.history import Epoch, History

reader = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="TensorBoard is not installed: pip install 'genevae[tensorboard]'",
)


def read(folder: Path):
    found = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def curve(folder: Path, name: str) -> dict[int, float]:
    return {event.step: event.value for event in read(folder).Scalars(name)}


def an_epoch(number: int, loss: float) -> Epoch:
    return Epoch(number, 10 * number, loss, loss + 1, 1e-3, 500.0, 0.1, 0, {"kl": 0.5})


def follow(folder: Path, before: list[Epoch], now: list[Epoch]) -> None:
    board, history = TensorBoard(folder), History(list(before))
    state: Any = SimpleNamespace(epoch=len(before), history=history)
    board.on_start(state)
    for epoch in now:
        history.epochs.append(epoch)
        board.on_epoch(state, epoch)
    board.on_end(state)
    board.close()


def test_curves_are_the_columns_of_the_history(tmp_path):
    epochs = [an_epoch(1, 3.0), an_epoch(2, 2.5)]
    follow(tmp_path, [], epochs)
    table = History(epochs).to_frame().set_index("epoch")
    assert set(read(tmp_path).Tags()["scalars"]) == set(table.columns)
    for name, column in table.items():
        assert curve(tmp_path, str(name)) == pytest.approx(column.to_dict())


def test_numbers_that_are_none_are_left_out(tmp_path):
    follow(tmp_path, [], [an_epoch(1, float("nan")), an_epoch(2, 2.0)])
    assert curve(tmp_path, "train_loss") == {2: 2.0}


def test_a_run_that_goes_on_takes_the_place_of_what_it_repeats(tmp_path):
    first, second, lost = an_epoch(1, 3.0), an_epoch(2, 2.5), an_epoch(3, 9.0)
    follow(tmp_path, [], [first, second, lost])
    follow(tmp_path, [first, second], [an_epoch(3, 2.0), an_epoch(4, 1.5)])
    assert curve(tmp_path, "train_loss") == {1: 3.0, 2: 2.5, 3: 2.0, 4: 1.5}


def test_the_projector_is_given_cells_and_their_fields(tmp_path):
    board = TensorBoard(tmp_path)
    board.on_start(SimpleNamespace(epoch=0))
    z = np.random.default_rng(0).normal(size=(3, 2))
    board.latent(z, pd.DataFrame({"type": ["B\tcell", "", "T"], "dose": [0.5, 1, 2]}, index=["a", "b", "c"]))
    board.close()
    (config,) = tmp_path.glob("projector_config.pbtxt")
    assert "latent" in config.read_text()
    (points,), (labels,) = tmp_path.rglob("tensors.tsv"), tmp_path.rglob("metadata.tsv")
    np.testing.assert_allclose(np.loadtxt(points), z, rtol=1e-5)
    with labels.open() as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows == [["cell", "type", "dose"], ["a", "B cell", "0.5"], ["b", "-", "1.0"], ["c", "T", "2.0"]]


def test_a_picture_is_shown_as_it_is(tmp_path):
    from matplotlib.image import imread, imsave

    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    imsave(tmp_path / "some.png", pixels)
    board = TensorBoard(tmp_path / "board")
    board.on_start(SimpleNamespace(epoch=0))
    board.picture("some", tmp_path / "some.png")
    board.close()
    (event,) = read(tmp_path / "board").Images("some")
    (tmp_path / "back.png").write_bytes(event.encoded_image_string)
    np.testing.assert_allclose(imread(tmp_path / "back.png")[..., :3] * 255, pixels, atol=0.01)


def test_without_tensorboard_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RunError, match=r"pip install 'genevae\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_fit_leaves_curves_the_latent_and_pictures(tmp_path, make_adata, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_adata(80).write_h5ad("cells.h5ad")
    words = shlex.split(
        "fit cells.h5ad --out run --epochs 2 --device cpu --log tensorboard --condition type --n-latent 3"
    )
    main(words)
    history = gv.load("run").history
    found = read(tmp_path / "run-tensorboard")
    assert curve(tmp_path / "run-tensorboard", "validation_loss") == pytest.approx(
        history.set_index("epoch")["validation_loss"].to_dict(), rel=1e-6
    )
    assert set(found.Tags()["images"]) == {"training", "latent"}
    assert np.loadtxt(next(tmp_path.rglob("tensors.tsv"))).shape == (80, 3)
    with pytest.raises(SystemExit):
        main([*words, "--force", "--log", "tensorbord"])
    assert "Did you mean 'tensorboard'?" in capsys.readouterr().err
