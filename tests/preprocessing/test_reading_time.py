"""What a conversion would save: measured on a sample, and said only where it is much."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace

import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import GenevaeWarning
from genevae.io.formats import open_source
from genevae.io.source import FileSource
from genevae.preprocessing import inspect as inspection
from genevae.preprocessing import reading_time as module
from genevae.preprocessing.reading_time import ReadingTime, reading_time


class Slow:
    """A matrix that takes its time for each row."""

    def __init__(self, matrix, seconds):
        self.matrix, self.seconds, self.shape = matrix, seconds, matrix.shape

    def read(self, rows):
        time.sleep(self.seconds * len(rows))
        return self.matrix.read(rows)


@pytest.fixture
def source(make_adata, tmp_path, monkeypatch) -> FileSource:
    monkeypatch.setattr(module, "N_BLOCKS", 4)
    monkeypatch.setattr(module, "LEAST_CELLS", 300)
    path = tmp_path / "cells.h5ad"
    make_adata(320).write_h5ad(path)
    return open_source(gv.ReadOptions(path, keep="disk"))


def slow(source: FileSource, seconds: float) -> FileSource:
    return replace(source, matrix=Slow(source.matrix, seconds))


def test_an_epoch_is_extrapolated_from_a_sample_and_nothing_is_left(source, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = reading_time(slow(source, 1e-3))
    assert found is not None
    assert 0.32 <= found.now < 3  # 320 cells of a millisecond
    assert 0 < found.converted < found.now
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_files_are_opened_before_the_sample_is_timed(source, monkeypatch):
    monkeypatch.setattr(module, "APART", 1)
    reads = []

    class Noted(Slow):
        def read(self, rows):
            reads.append(set(rows // 64))  # as if each block were a file
            return self.matrix.read(rows)

    assert reading_time(replace(source, matrix=Noted(source.matrix, 0))) is not None
    opened, timed = reads
    assert timed <= opened


def test_data_in_memory_and_few_cells_are_not_measured(make_adata, source, monkeypatch):
    assert reading_time(open_source(make_adata(400))) is None
    monkeypatch.setattr(module, "LEAST_CELLS", 321)
    assert reading_time(source) is None


def test_where_nothing_can_be_measured_nothing_is_said(source, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert reading_time(source) is None


@pytest.mark.parametrize(
    ("now", "converted", "is_worth_it"), [(100.0, 40.0, True), (100.0, 80.0, False), (12.0, 2.0, False)]
)
def test_a_conversion_is_worth_it_where_it_saves_a_third_and_seconds(now, converted, is_worth_it):
    assert ReadingTime("cells.h5ad", 10, now, converted).is_worth_it is is_worth_it


def test_inspect_and_fit_name_the_command_and_it_works(source, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inspection, "reading_time", lambda opened, seed: reading_time(slow(opened, 1e-3), seed))
    on_disk = gv.ReadOptions(source.name, keep="disk")
    (note,) = (str(each) for each in gv.inspect(on_disk).findings if "an epoch reads" in each.text)
    assert note.startswith("note: an epoch reads 320 cells in about ")
    command = note.partition("To convert: genevae ")[2]
    main(command.split())
    assert len(gv.read(tmp_path / "cells.zarr")) == 320
    monkeypatch.setenv("GENEVAE_MAX_MEMORY", "100K")  # expression stays on disk
    with pytest.warns(GenevaeWarning, match=f"{command}.*waiting_share"):
        gv.fit(slow(source, 1e-3), "nb", epochs=1, progress=False)


def test_nothing_is_said_where_little_would_be_saved(source):
    on_disk = gv.ReadOptions(source.name, keep="disk")
    assert not any("an epoch reads" in each.text for each in gv.inspect(on_disk).findings)


def test_data_that_were_open_before_are_not_measured_again(source, monkeypatch):
    """As those of an evaluation, in whose report an epoch of training has no place."""
    monkeypatch.setattr(inspection, "reading_time", lambda opened, seed: ReadingTime("cells.h5ad", 320, 1e3, 1.0))
    assert not any("an epoch reads" in each.text for each in gv.inspect(source).findings)
