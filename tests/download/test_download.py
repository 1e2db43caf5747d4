"""Downloads: what is chosen, what is fetched again and what is not, and that a killed run shows in no byte."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, ClassVar

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")

from fsspec.implementations.local import LocalFileSystem  # noqa: E402 - only where fsspec is

from genevae.download import store as store_module  # noqa: E402
from genevae.download import transfer  # noqa: E402
from genevae.download.columns import contains_text  # noqa: E402
from genevae.download.remote import ByteDigest, Check, Record, Remote  # noqa: E402
from genevae.download.scbasecount import download  # noqa: E402
from genevae.download.store import RetryPolicy, Store, open_store  # noqa: E402
from genevae.errors import DataError, RunError  # noqa: E402
from genevae.io.atomic import _lock  # noqa: E402

SAMPLES = pd.DataFrame(
    {
        "entrez_id": [1, 2, 3, 4, 5],
        "srx_accession": ["SRX30", "SRX10", "ERX20", "SRX40", "NRX50"],
        "file_path": [f"gs://elsewhere/{name}.h5ad" for name in ("SRX30", "SRX10", "ERX20", "SRX40", "NRX50")],
        "obs_count": [300, 100, 200, 400, 500],
        "organism": ["Homo sapiens"] * 5,
        "tissue": ["Lungs, lung-associated lymph nodes", "heart", "blood_vessel", None, "LUNG"],
        "perturbation": ["unsure", "Interferon beta", "interferon gamma, LPS", "unsure", None],
    }
)
NAMES = sorted(SAMPLES["srx_accession"])
FOLDER = "GeneFull_Ex50pAS/Homo_sapiens"


def content_of(name: str) -> bytes:
    """Some bytes that differ from file to file, and in length."""
    seed = zlib.crc32(name.encode())
    return np.random.default_rng(seed).bytes(9_000 + seed % 3_000)


def write_release(files: Any, root: str, samples: pd.DataFrame = SAMPLES) -> None:
    table = io.BytesIO()
    samples.to_parquet(table)
    for folder in ("h5ad", "metadata"):
        files.makedirs(f"{root}/{folder}/{FOLDER}", exist_ok=True)
    files.pipe_file(f"{root}/metadata/{FOLDER}/sample_metadata.parquet", table.getvalue())
    for name in NAMES:
        files.pipe_file(f"{root}/h5ad/{FOLDER}/{name}.h5ad", content_of(name))


@pytest.fixture
def root(tmp_path: Path) -> str:
    write_release(fsspec.filesystem("file"), str(tmp_path / "store"))
    return str(tmp_path / "store")


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a release in a folder, or in memory."""
    files = fsspec.filesystem(request.param)
    path = {"file": str(tmp_path / "store"), "memory": "/store"}[request.param]
    write_release(files, path)
    yield f"{request.param}://{path}"
    if request.param == "memory":
        files.rm("/store", recursive=True)


class Odd(LocalFileSystem):
    """A folder whose reads can be listened to and disturbed, and which says more of its files."""

    protocol = "odd"
    cachable = False
    on_read: ClassVar[Callable[[str, int | None, bytes], bytes]]
    said: ClassVar[Callable[[str], dict[str, Any]]]
    reads: ClassVar[list[tuple[str, int]]]

    def cat_file(self, path, start=None, end=None, **options):
        block = super().cat_file(path, start=start, end=end, **options)
        if path.endswith(".h5ad"):
            type(self).reads.append((Path(path).name, start))
            return type(self).on_read(Path(path).name, start, block)
        return block

    def info(self, path, **options):
        found = super().info(path, **options)
        return {**found, **type(self).said(Path(found["name"]).name)}


@pytest.fixture
def odd(root: str, monkeypatch: pytest.MonkeyPatch) -> type[Odd]:
    """Read the release through a store that can be disturbed, at ``odd://``, in small pieces, without long waits."""
    monkeypatch.setattr(store_module, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(transfer, "CHUNK", 1024)
    Odd.on_read, Odd.said, Odd.reads = (lambda name, start, block: block), (lambda name: {}), []
    fsspec.register_implementation("odd", Odd, clobber=True)
    return Odd


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fill(out: Path, root: str, **choice: Any) -> pd.DataFrame:
    return download(out, root=root, progress=False, **choice)


def reads_of(odd: type[Odd], name: str) -> list[int]:
    return [start for read, start in odd.reads if read == f"{name}.h5ad"]


# --- what comes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["file", "memory"], indirect=True)
def test_everything_comes_and_nothing_else_is_left(address, tmp_path):
    result = fill(tmp_path / "out", address)
    here = everything(tmp_path / "out")
    assert sorted(here) == sorted([*(f"{name}.h5ad" for name in NAMES), "manifest.json", "sample_metadata.csv"])
    assert all(here[f"{name}.h5ad"] == content_of(name) for name in NAMES)
    assert list(result.columns) == ["accession", "cells", "bytes", "file"]
    assert list(result["accession"]) == NAMES
    assert list(result["cells"]) == [200, 500, 100, 300, 400]
    assert list(result["bytes"]) == [len(content_of(name)) for name in NAMES]
    assert [Path(file).read_bytes() for file in result["file"]] == [content_of(name) for name in NAMES]


def test_the_manifest_and_the_table_describe_the_files(root, tmp_path):
    fill(tmp_path / "out", root)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["root"] == f"file://{root}"
    for name, entry in manifest["files"].items():
        content = content_of(name)
        assert entry["file"] == f"{name}.h5ad"
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    table = pd.read_csv(tmp_path / "out" / "sample_metadata.csv")
    assert list(table.columns) == ["SRX_accession", *SAMPLES.columns.drop("srx_accession")]
    assert list(table["SRX_accession"]) == NAMES == list(manifest["files"])
    assert list(table["obs_count"]) == [200, 500, 100, 300, 400]


def test_real_h5ad_files_can_be_read_and_joined_with_the_table(root, tmp_path):
    for number, name in enumerate(NAMES):
        obs = pd.DataFrame({"SRX_accession": name}, index=[f"{name}_{i}" for i in range(3)])
        made = AnnData(np.full((3, 2), number, dtype=np.float32), obs=obs)
        made.write_h5ad(Path(root) / "h5ad" / FOLDER / f"{name}.h5ad")
    result = fill(tmp_path / "out", root, tissue="lung")
    joined = anndata.concat([anndata.read_h5ad(file) for file in result["file"]])
    table = pd.read_csv(tmp_path / "out" / "sample_metadata.csv").set_index("SRX_accession")
    assert joined.n_obs == 6
    assert set(joined.obs["SRX_accession"].map(table["tissue"])) == {"Lungs, lung-associated lymph nodes", "LUNG"}


# --- what is chosen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, NAMES),
        ({"tissue": ["lung"]}, ["NRX50", "SRX30"]),
        ({"tissue": "Lung"}, ["NRX50", "SRX30"]),
        ({"tissue": ["blood vessel", "HEART"]}, ["ERX20", "SRX10"]),
        ({"perturbation": ["interferon"]}, ["ERX20", "SRX10"]),
        ({"perturbation": ["interferon beta", "lps"], "max_cells": 150}, ["SRX10"]),
        ({"accessions": ["srx40", "ERX20"]}, ["ERX20", "SRX40"]),
        ({"min_cells": 200, "max_cells": 400}, ["ERX20", "SRX30", "SRX40"]),
        ({"min_cells": 400}, ["NRX50", "SRX40"]),
        ({"max_files": 2}, NAMES[:2]),
        ({"organism": "homo SAPIENS"}, NAMES),
        ({"organism": "homo", "max_files": 1}, NAMES[:1]),
    ],
)
def test_a_choice_takes_these(root, tmp_path, choice, expected):
    result = fill(tmp_path / "out", root, dry_run=True, **choice)
    assert list(result["accession"]) == expected


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"tissue": ["lungg"]}, ["tissue 'lungg'", "Did you mean 'LUNG'", "heart"]),
        ({"tissue": ["lung", "ear"]}, ["tissue 'ear'"]),
        ({"tissue": [" "]}, ["empty"]),
        ({"perturbation": ["interferon betta"]}, ["Did you mean 'Interferon beta'"]),
        ({"accessions": ["SRX31"]}, ["'SRX31'", "Did you mean 'SRX30'"]),
        ({"organism": "Mus musculus"}, ["Homo_sapiens", "Mus musculus"]),
        ({"feature": "GeneFul"}, ["GeneFul", "GeneFull_Ex50pAS"]),
        ({"tissue": ["heart"], "min_cells": 200}, ["5 in all", "1 with tissue heart", "0 of 200"]),
        ({"min_cells": 9, "max_cells": 8}, ["min_cells", "max_cells"]),
        ({"max_files": 0}, ["max_files"]),
        ({"workers": 0}, ["workers"]),
    ],
)
def test_a_choice_that_fits_nothing_says_what_is_there(root, tmp_path, choice, words):
    with pytest.raises(DataError) as error:
        fill(tmp_path / "out", root, **choice)
    assert [word for word in words if word not in str(error.value)] == []
    assert not (tmp_path / "out").exists()


def test_two_organisms_that_fit_are_not_guessed_between(root, tmp_path):
    for name in ("Mus_musculus", "Mus_spretus"):
        (Path(root) / "metadata" / "GeneFull_Ex50pAS" / name).mkdir()
    with pytest.raises(DataError, match=r"more than one.*Mus_musculus, Mus_spretus"):
        fill(tmp_path / "out", root, organism="mus")


@pytest.mark.parametrize("accession", ["SRX_accession", "Accession", "srx_accession"])
@pytest.mark.parametrize("cells", ["n_cells", "Cell_Count", "obs_count"])
def test_columns_are_found_under_their_other_names(tmp_path, accession, cells):
    renamed = SAMPLES.drop(columns="file_path").rename(columns={"srx_accession": accession, "obs_count": cells})
    write_release(fsspec.filesystem("file"), str(tmp_path / "store"), renamed.astype({"tissue": "category"}))
    result = fill(tmp_path / "out", str(tmp_path / "store"), min_cells=500, tissue=["lung"])
    assert list(result["accession"]) == ["NRX50"]
    assert pd.read_csv(tmp_path / "out" / "sample_metadata.csv").columns[0] == "SRX_accession"


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (SAMPLES.rename(columns={"srx_accession": "run"}), "no column 'srx_accession'"),
        (SAMPLES.rename(columns={"obs_count": "size"}), "no column 'obs_count'"),
        (SAMPLES.replace({"srx_accession": {"SRX30": "../SRX30"}}), r"cannot be a file name: '\.\./SRX30'"),
    ],
)
def test_a_table_that_lacks_what_is_needed_is_refused(tmp_path, samples, words):
    write_release(fsspec.filesystem("file"), str(tmp_path / "store"), samples)
    with pytest.raises(DataError, match=words):
        fill(tmp_path / "out", str(tmp_path / "store"), min_cells=1)


def test_a_table_that_is_none_is_refused(root, tmp_path):
    (Path(root) / "metadata" / FOLDER / "sample_metadata.parquet").write_bytes(b"none")
    with pytest.raises(DataError, match="not a parquet table"):
        fill(tmp_path / "out", root)


@given(st.lists(st.sampled_from(["lung", "heart", "ear", "b cell", "T-cell"]), min_size=1, max_size=4), st.data())
def test_words_are_found_in_any_case_between_any_marks(words, data):
    marks = data.draw(st.lists(st.sampled_from([" ", ", ", "_", "-", "; ", "("]), min_size=4, max_size=4))
    text = "".join(word + mark for word, mark in zip(words, marks, strict=False))
    for word in words:
        assert contains_text(pd.Series([text.upper()]), word).all()
        assert contains_text(pd.Series([text]), word.replace(" ", "_") + "s").all() == (f"{word}s" in text)
    assert contains_text(pd.Series(["x" + word for word in words]), words[0]).sum() == 0


@pytest.mark.parametrize(("word", "found"), [("lung", True), ("virus", True), ("gut", False), ("ear", False)])
def test_words_are_found_in_the_plural(word, found):
    assert contains_text(pd.Series(["Lungs viruses guttata hearts"]), word).all() == found


def test_a_sample_that_is_listed_twice_comes_once(tmp_path):
    twice = pd.concat([SAMPLES, SAMPLES.iloc[:2]], ignore_index=True).assign(SRX_accession="another column")
    write_release(fsspec.filesystem("file"), str(tmp_path / "store"), twice)
    assert list(fill(tmp_path / "out", str(tmp_path / "store"))["accession"]) == NAMES
    table = pd.read_csv(tmp_path / "out" / "sample_metadata.csv")
    assert list(table["SRX_accession"]) == NAMES
    assert "SRX_accession.1" not in table


def test_a_dry_run_says_what_would_come_and_writes_nothing(root, tmp_path):
    result = fill(tmp_path / "out", root, dry_run=True, tissue=["lung"])
    assert list(result.columns) == ["accession", "cells", "bytes", "path"]
    assert list(result["bytes"]) == [len(content_of("NRX50")), len(content_of("SRX30"))]
    assert result["path"][0] == f"{root}/h5ad/{FOLDER}/NRX50.h5ad"
    assert not (tmp_path / "out").exists()


def test_a_dry_run_shows_a_file_that_is_not_there(root, tmp_path, monkeypatch):
    (Path(root) / "h5ad" / FOLDER / "SRX10.h5ad").unlink()
    asked_for_each = fill(tmp_path / "out", root, dry_run=True)
    monkeypatch.setattr("genevae.download.scbasecount.LISTED_TOGETHER", 1)
    listed = fill(tmp_path / "out", root, dry_run=True)
    pd.testing.assert_frame_equal(asked_for_each, listed)
    assert list(listed["accession"][listed["bytes"].isna()]) == ["SRX10"]


# --- going on ---------------------------------------------------------------------------------------------------------


def cut(odd: type[Odd], name: str, after: int) -> None:
    """Let a file be refused from a place on."""

    def refuse(read: str, start: int, block: bytes) -> bytes:
        if read == f"{name}.h5ad" and start >= after:
            raise PermissionError("not today")
        return block

    odd.on_read, odd.reads = refuse, []


def mend(odd: type[Odd]) -> None:
    odd.on_read, odd.reads = (lambda name, start, block: block), []


@pytest.fixture
def cut_short(odd: type[Odd], root: str, tmp_path: Path) -> Path:
    """A folder where SRX10 was refused after four pieces; then the store is mended."""
    cut(odd, "SRX10", 4096)
    with pytest.raises(DataError, match=r"(?s)1 of 5 files.*SRX10.*is not readable.*credentials"):
        fill(tmp_path / "out", f"odd://{root}")
    mend(odd)
    return tmp_path / "out"


@pytest.fixture
def undisturbed(odd: type[Odd], root: str, tmp_path: Path) -> dict[str, bytes]:
    fill(tmp_path / "undisturbed", f"odd://{root}")
    return everything(tmp_path / "undisturbed")


def test_a_failed_file_leaves_the_others_whole_and_goes_on_later(odd, root, undisturbed, cut_short):
    here = everything(cut_short)
    assert all(here[f"{name}.h5ad"] == content_of(name) for name in NAMES if name != "SRX10")
    assert here["SRX10.h5ad.part"] == content_of("SRX10")[:4096]
    assert sorted(json.loads(here["manifest.json"])["files"]) == [name for name in NAMES if name != "SRX10"]
    assert len(pd.read_csv(cut_short / "sample_metadata.csv")) == 4
    fill(cut_short, f"odd://{root}")
    assert everything(cut_short) == undisturbed
    assert min(reads_of(odd, "SRX10")) == 4096
    assert {name for name, _ in odd.reads} == {"SRX10.h5ad"}


def test_a_changed_remote_starts_that_file_again(odd, root, cut_short):
    changed = content_of("SRX10")[::-1]
    path = Path(root) / "h5ad" / FOLDER / "SRX10.h5ad"
    path.write_bytes(changed)
    os.utime(path, ns=(1, 1))
    fill(cut_short, f"odd://{root}")
    assert (cut_short / "SRX10.h5ad").read_bytes() == changed
    assert min(reads_of(odd, "SRX10")) == 0


@pytest.mark.parametrize("damage", ["flipped", "short", "notes", "longer"])
def test_a_damaged_part_is_not_trusted(odd, root, undisturbed, cut_short, damage):
    part = cut_short / "SRX10.h5ad.part"
    content = bytearray(part.read_bytes())
    if damage == "flipped":
        content[1000] ^= 1
    if damage == "notes":
        (cut_short / "SRX10.h5ad.part.json").write_text('{"bytes": 4')
    part.write_bytes(content[:-1] if damage == "short" else content + b"more" * (damage == "longer"))
    fill(cut_short, f"odd://{root}")
    assert everything(cut_short) == undisturbed
    assert min(reads_of(odd, "SRX10")) == (4096 if damage == "longer" else 0)  # what no notes cover is cut off


def test_a_second_run_verifies_and_reads_nothing(odd, root, undisturbed, tmp_path):
    odd.reads = []
    fill(tmp_path / "undisturbed", f"odd://{root}")
    assert odd.reads == []
    assert everything(tmp_path / "undisturbed") == undisturbed


def test_a_file_that_was_damaged_here_is_fetched_again(odd, root, undisturbed, tmp_path):
    file = tmp_path / "undisturbed" / "ERX20.h5ad"
    file.write_bytes(content_of("ERX20")[::-1])
    odd.reads = []
    fill(tmp_path / "undisturbed", f"odd://{root}")
    assert {name for name, _ in odd.reads} == {"ERX20.h5ad"}
    assert everything(tmp_path / "undisturbed") == undisturbed


def test_choices_add_up_in_one_folder(odd, root, undisturbed, tmp_path):
    for choice in ({"accessions": ["SRX10", "SRX30"]}, {"tissue": "lung"}, {"max_files": 1}, {"min_cells": 300}):
        fill(tmp_path / "out", f"odd://{root}", **choice)
    assert everything(tmp_path / "out") == undisturbed


def test_another_release_is_not_mixed_in(root, tmp_path):
    fill(tmp_path / "out", root, max_files=1)
    before = everything(tmp_path / "out")
    write_release(fsspec.filesystem("file"), str(tmp_path / "other"))
    with pytest.raises(RunError, match="Choose another folder"):
        fill(tmp_path / "out", str(tmp_path / "other"))
    assert everything(tmp_path / "out") == before


def forget_in_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Leave the folder as a run does that is killed after a file is in place and before the manifest is."""
    manifest = json.loads((folder / "manifest.json").read_text())
    record: dict[str, Any] = manifest["files"].pop(name)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / f"{name}.h5ad.part.json").write_text(json.dumps(record))
    return record


def test_a_killed_run_s_files_are_known_to_a_later_choice(odd, root, undisturbed, tmp_path):
    folder = tmp_path / "undisturbed"
    forget_in_manifest(folder, "SRX10")
    (folder / ".SRX10.h5ad.part.json.draft").write_text("{")
    fill(folder, f"odd://{root}", tissue="lung")
    assert everything(folder) == undisturbed


def test_a_part_that_waits_beside_a_whole_file_is_not_taken_for_it(odd, root, undisturbed, tmp_path):
    folder = tmp_path / "undisturbed"
    record = forget_in_manifest(folder, "SRX10")
    fill(folder, f"odd://{root}", tissue="lung")
    newer = {**record, "sha256": "0" * 64, "version": "newer"}
    (folder / "SRX10.h5ad.part").write_bytes(bytes(record["bytes"]))
    (folder / "SRX10.h5ad.part.json").write_text(json.dumps(newer))
    fill(folder, f"odd://{root}", tissue="lung")
    assert json.loads((folder / "manifest.json").read_text())["files"]["SRX10"] == record
    assert (folder / "SRX10.h5ad.part").exists()
    fill(folder, f"odd://{root}")
    assert everything(folder) == undisturbed


def test_a_run_that_was_cut_short_has_said_of_which_release_it_is(odd, root, tmp_path, monkeypatch):
    cut(odd, "SRX10", 0)
    with monkeypatch.context() as patch:
        patch.setattr("genevae.download.folder.Folder.finish", lambda self, samples, done: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fill(tmp_path / "out", f"odd://{root}")
    write_release(fsspec.filesystem("file"), str(tmp_path / "other"))
    with pytest.raises(RunError, match="Choose another folder"):
        fill(tmp_path / "out", str(tmp_path / "other"))


def test_a_manifest_of_something_else_is_not_overwritten(root, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="not a manifest"):
        fill(out, root, max_files=1)
    assert (out / "manifest.json").read_text() == "{}"


@given(
    content=st.binary(max_size=40),
    chunk=st.integers(1, 50),
    part=st.one_of(st.none(), st.binary(max_size=60)),
    kept=st.integers(0, 60),
    noted=st.one_of(st.none(), st.integers(0, 60)),
    right=st.booleans(),
)
def test_whatever_a_killed_run_left_the_file_comes_out_right(
    tmp_path_factory, content, chunk, part, kept, noted, right
):
    folder = tmp_path_factory.mktemp("law")
    files = fsspec.filesystem("memory")
    files.pipe_file("/law.h5ad", content)
    store = Store(files, RetryPolicy(0))
    remote, file = store.describe("/law.h5ad"), folder / "law.h5ad"
    start = content[:kept]
    if part is not None:
        (folder / "law.h5ad.part").write_bytes(start + part)
    if noted is not None:
        tally = ByteDigest(remote)
        tally.add((start if right else b"x" + start)[:noted])
        record = tally.record(remote)
        notes = {"bytes": noted, "sha256": record.sha256, "version": remote.version}
        (folder / "law.h5ad.part.json").write_text(json.dumps(notes))
    advanced: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "CHUNK", chunk)
        patch.setattr(os, "fsync", lambda handle: None)
        record = transfer.Fetch(store, advanced.append, Event())(remote, file, None)
    assert file.read_bytes() == content
    assert record == Record(len(content), hashlib.sha256(content).hexdigest(), remote.version)
    assert sum(advanced) == len(content)
    assert not (folder / "law.h5ad.part").exists()


# --- stores that falter -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OSError, TimeoutError, RuntimeError, "short", "long"])
def test_a_store_that_falters_is_asked_again(odd, root, undisturbed, tmp_path, kind):
    left = dict.fromkeys((f"{name}.h5ad" for name in NAMES), 3)

    def falter(name: str, start: int, block: bytes) -> bytes:
        left[name] -= 1
        if left[name] < 0:
            return block
        if isinstance(kind, str):
            return block[:-1] if kind == "short" else block + b"more"
        raise kind("the line is bad")

    odd.on_read = falter
    fill(tmp_path / "out", f"odd://{root}", retries=3)
    assert everything(tmp_path / "out") == undisturbed
    assert max(left.values()) < 0


def test_a_store_that_stays_away_is_named_with_its_last_words(odd, root, tmp_path):
    def falter(name: str, start: int, block: bytes) -> bytes:
        raise OSError("the line is bad")

    odd.on_read = falter
    with pytest.raises(DataError, match=r"(?s)5 of 5 files.*in 3 tries.*the line is bad.*--retries"):
        fill(tmp_path / "out", f"odd://{root}", retries=2)
    assert len(odd.reads) == 15


def test_a_file_that_is_not_there_is_not_asked_for_again(odd, root, tmp_path):
    (Path(root) / "h5ad" / FOLDER / "SRX10.h5ad").unlink()
    with pytest.raises(DataError, match=r"SRX10.*does not exist"):
        fill(tmp_path / "out", f"odd://{root}")
    assert len(list((tmp_path / "out").glob("*.h5ad"))) == 4


def test_waits_double_and_are_shortened_by_chance():
    slept: list[float] = []
    patience = RetryPolicy(9, sleep=slept.append, chance=lambda: 0.5)

    class Away:
        def unstrip_protocol(self, path: str) -> str:
            return f"away://{path}"

        def info(self, path: str) -> None:
            raise ConnectionError("nobody is here")

    with pytest.raises(DataError, match=r"away://x could not be read in 10 tries.*nobody is here"):
        Store(Away(), patience).describe("x")
    assert slept == [0.75 * wait for wait in (0.5, 1, 2, 4, 8, 16, 32, 60, 60)]
    assert list(RetryPolicy(2, chance=lambda: 0.0).waits()) == [0.25, 0.5]


def test_a_bucket_that_is_forbidden_is_not_asked_again():
    class Bucket:
        asked = 0

        def unstrip_protocol(self, path: str) -> str:
            return f"gs://{path}"

        def cat_file(self, path: str, start: int | None, end: int | None) -> bytes:
            self.asked += 1
            raise OSError("Forbidden: no access")  # as gcsfs says it

    bucket = Bucket()
    with pytest.raises(DataError, match=r"gs://x is not readable.*FSSPEC_GS_TOKEN=anon"):
        Store(bucket, RetryPolicy(2)).read("x")
    assert bucket.asked == 1


def test_a_folder_in_the_place_of_a_file_is_no_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Store(fsspec.filesystem("file"), RetryPolicy(0)).describe(str(tmp_path))


def test_what_was_heard_before_is_forgotten_when_asked_afresh():
    class Cached:
        size = 1
        cache: ClassVar[dict[str, int]] = {}

        def unstrip_protocol(self, path: str) -> str:
            return path

        def info(self, path: str) -> dict[str, int]:
            return {"size": self.cache.setdefault(path, self.size)}

        def invalidate_cache(self) -> None:
            self.cache.clear()

    files = Cached()
    store = Store(files, RetryPolicy(0))
    before = store.describe("x")
    files.size = 2
    assert store.describe("x") == before
    assert store.describe("x", fresh=True).size == 2


@pytest.mark.parametrize(("code", "tries"), [(403, 1), (404, 1), (429, 3), (503, 3)])
def test_what_a_server_refuses_for_good_is_not_asked_again(code, tries):
    class HttpError(Exception):
        def __init__(self) -> None:
            super().__init__("refused")
            self.code = code

    class Server:
        asked = 0

        def unstrip_protocol(self, path: str) -> str:
            return path

        def info(self, path: str) -> None:
            self.asked += 1
            raise HttpError

    server = Server()
    with pytest.raises(DataError, match="refused"):
        Store(server, RetryPolicy(2, sleep=lambda wait: None)).describe("x")
    assert server.asked == tries


# --- digests ----------------------------------------------------------------------------------------------------------


def md5_of(name: str) -> str:
    return base64.b64encode(hashlib.md5(content_of(Path(name).stem)).digest()).decode()  # noqa: S324 - it is GCS's


def crc32c_of(name: str) -> str:
    return base64.b64encode(
        pytest.importorskip("google_crc32c").Checksum(content_of(Path(name).stem)).digest()
    ).decode()


DIGESTS = {
    "md5Hash": lambda name: {"md5Hash": md5_of(name)},
    "Content-MD5": lambda name: {"Content-MD5": md5_of(name)},
    "checksum": lambda name: {"checksum": hashlib.sha256(content_of(Path(name).stem)).hexdigest()},
    "crc32c": lambda name: {"crc32c": crc32c_of(name)},
}


@pytest.mark.parametrize("key", DIGESTS)
def test_bytes_that_went_wrong_once_are_found_by_the_digest_and_fetched_again(odd, root, tmp_path, key):
    odd.said = lambda name: DIGESTS[key](name) if name.endswith(".h5ad") else {}
    wrong = {"SRX10.h5ad"}

    def spoil(name: str, start: int, block: bytes) -> bytes:
        if name in wrong and start > 0:
            wrong.remove(name)
            return bytes(len(block))
        return block

    odd.on_read = spoil
    fill(tmp_path / "out", f"odd://{root}")
    assert (tmp_path / "out" / "SRX10.h5ad").read_bytes() == content_of("SRX10")
    assert reads_of(odd, "SRX10").count(0) == 2


def test_bytes_that_are_always_wrong_are_refused_and_not_kept(odd, root, tmp_path):
    odd.said = lambda name: {"md5Hash": md5_of("SRX10.h5ad")} if name in {"SRX10.h5ad", "SRX30.h5ad"} else {}
    with pytest.raises(DataError, match=r"(?s)SRX30.*downloaded 3 times.*md5"):
        fill(tmp_path / "out", f"odd://{root}")
    assert sorted(path.name for path in (tmp_path / "out").glob("SRX*")) == ["SRX10.h5ad", "SRX40.h5ad"]


def test_a_file_of_ones_own_is_kept_if_the_digest_says_it_is_the_same(odd, root, tmp_path):
    odd.said = lambda name: DIGESTS["md5Hash"](name) if name.endswith(".h5ad") else {}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "SRX10.h5ad").write_bytes(content_of("SRX10"))
    fill(tmp_path / "out", f"odd://{root}")
    assert reads_of(odd, "SRX10") == []


def test_a_file_that_changes_while_it_is_read_is_read_again(odd, root, tmp_path):
    path = Path(root) / "h5ad" / FOLDER / "SRX10.h5ad"

    def change(name: str, start: int, block: bytes) -> bytes:
        if name == "SRX10.h5ad" and start == 2048 and reads_of(odd, "SRX10").count(2048) == 1:
            path.write_bytes(content_of("SRX10")[::-1])
            os.utime(path, ns=(1, 1))
        return block

    odd.on_read = change
    fill(tmp_path / "out", f"odd://{root}")
    assert (tmp_path / "out" / "SRX10.h5ad").read_bytes() == content_of("SRX10")[::-1]


@pytest.mark.parametrize(
    ("url", "said", "check"),
    [
        ("gs://b/x", {"etag": "CJizotXt6YgDEAE=", "generation": "7", "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}, "md5"),
        ("s3://b/x", {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, "md5"),
        ("s3://b/x", {"ETag": '"d41d8cd98f00b204e9800998ecf8427e-2"'}, None),
        ("https://b/x", {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, None),
        ("file://x", {"mtime": 1.5}, None),
    ],
)
def test_digests_are_read_from_what_each_store_says(url, said, check):
    remote = Remote.of("x", url, {"size": 0, **said})
    assert (remote.check.algorithm if remote.check else None) == check
    assert remote.check is None or remote.check.digest == hashlib.md5(b"").hexdigest()  # noqa: S324
    assert remote.check is None or remote.check.sure == (not url.startswith("s3"))
    changed = {key: "AAAAAAAAAAAAAAAAAAAAAA==" if key == "md5Hash" else f"{value}1" for key, value in said.items()}
    assert Remote.of("x", url, {"size": 0, **changed}).version != remote.version
    assert Remote.of("x", url, {"size": 0, **said}) == remote


def test_a_file_of_unknown_size_is_refused():
    with pytest.raises(DataError, match="the size of"):
        Remote.of("x", "https://b/x", {"size": None})


def test_an_etag_that_is_no_digest_is_overruled_by_the_same_bytes_twice(tmp_path):
    files = fsspec.filesystem("memory")
    files.pipe_file("/etag.h5ad", b"content")
    store = Store(files, RetryPolicy(0))
    said = store.describe("/etag.h5ad")
    for sure in (False, True):
        remote = Remote(said.path, said.size, said.version, Check("md5", "0" * 32, sure))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "describe", lambda self, path, fresh=False, remote=remote: remote)
            fetch = transfer.Fetch(store, lambda number: None, Event())
            if sure:
                with pytest.raises(DataError, match="3 times"):
                    fetch(remote, tmp_path / "sure.h5ad", None)
            else:
                assert fetch(remote, tmp_path / "etag.h5ad", None).bytes == 7


# --- what is in the way -----------------------------------------------------------------------------------------------


def test_a_folder_that_another_process_fills_is_refused(root, tmp_path):
    handle = _lock(tmp_path / "out", tmp_path / "out")
    try:
        with pytest.raises(RunError, match="Another process"):
            fill(tmp_path / "out", root)
    finally:
        os.close(handle)
    fill(tmp_path / "out", root)


def test_a_full_disk_is_named_and_the_run_goes_on_later(odd, root, undisturbed, tmp_path, monkeypatch):
    whole, sizes = os.fsync, {"left": 20}

    def fsync(handle: int) -> None:
        sizes["left"] -= 1
        if sizes["left"] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(
            RunError, match=rf"{tmp_path / 'out'} is full: \w+.h5ad alone needs [\d,.]+ (bytes|MB) more"
        ):
            fill(tmp_path / "out", f"odd://{root}")
    fill(tmp_path / "out", f"odd://{root}")
    assert everything(tmp_path / "out") == undisturbed


def test_what_cannot_fit_is_not_begun(odd, root, tmp_path, monkeypatch):
    monkeypatch.setattr("genevae.download.folder.shutil.disk_usage", lambda path: SimpleNamespace(free=9))
    with pytest.raises(RunError, match=r"9 bytes free.*are missing.*--max-files"):
        fill(tmp_path / "out", f"odd://{root}")
    assert odd.reads == []


def test_a_folder_that_cannot_be_made_is_refused(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Nothing can be written"):
        fill(tmp_path / "file", root)


@pytest.mark.parametrize(
    ("missing", "address"), [("gcsfs", "gs://bucket/release"), ("fsspec.core", "file:///x"), ("pyarrow", None)]
)
def test_a_missing_package_is_named_with_its_extra(root, tmp_path, monkeypatch, missing, address):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataError, match=r"pip install 'genevae\[download\]'"):
        fill(tmp_path / "out", address or root)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(DataError, match="nowhere://"):
        open_store("nowhere://x", RetryPolicy())


def test_an_interrupted_run_stops_its_workers_and_goes_on_later(odd, root, undisturbed, tmp_path, monkeypatch):
    def interrupt(futures: object) -> Iterator[object]:
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr("genevae.download.folder.as_completed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "out", f"odd://{root}")
    fill(tmp_path / "out", f"odd://{root}")
    assert everything(tmp_path / "out") == undisturbed


# --- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import itertools, os, random, signal, sys, time
from pathlib import Path
import fsspec, pyarrow.parquet
from fsspec.implementations.local import LocalFileSystem
from genevae.download.scbasecount import download
from genevae.download import transfer

root, folder, how, number, seed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
transfer.CHUNK = 1024

class Slow(LocalFileSystem):
    protocol = "slow"
    def cat_file(self, path, start=None, end=None, **options):
        time.sleep(0.002)
        return super().cat_file(path, start=start, end=end, **options)

fsspec.register_implementation("slow", Slow)

def dies_at(step):
    steps = itertools.count(1)  # many threads may count by it
    def counted(function):
        def call(*given, **named):
            now = next(steps)
            if now == step and step % 2:
                os._exit(9)
            result = function(*given, **named)
            if now == step:
                os._exit(9)
            return result
        return call
    for name in ("fsync", "replace", "unlink", "mkdir", "close"):
        setattr(os, name, counted(getattr(os, name)))

def start(out, step=0):
    child = os.fork()
    if child:
        return child
    try:
        if step:
            dies_at(step)
        download(out, root="slow://" + root, progress=False, workers=3)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

def finish(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def everything(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}

began = time.monotonic()
assert finish(start(folder / "undisturbed")) == 0
lasts = time.monotonic() - began
expected = everything(folder / "undisturbed")
chance = random.Random(seed)
step, midway = seed, 0
for trial in range(50 * number):
    out = folder / f"trial{trial}"
    child = start(out, step if how == "steps" else 0)
    if how == "random":
        time.sleep(chance.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
    code = finish(child)
    if how == "steps" and code == 0:  # it has no more steps
        assert everything(out) == expected
        break
    assert code in (9, 0, -signal.SIGKILL), code
    midway += out.exists() and everything(out) != expected
    assert finish(start(out)) == 0
    found = everything(out)
    assert found == expected, (trial, sorted(found), [name for name in expected if found.get(name) != expected[name]])
    step += 1 if number > 50 else 7
    if midway == number:
        break
print(midway)
"""


def kill(root: str, folder: Path, how: str, number: int, seed: int) -> int:
    """Run, kill and run again, until so many kills came midway; return how many did."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, root, str(folder), how, str(number), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


@pytest.mark.parametrize(("how", "number"), [("random", 5), ("steps", 8)])
def test_a_killed_run_shows_in_no_byte(root, tmp_path, how, number):
    assert kill(root, tmp_path, how, number, seed=20) == number


@pytest.mark.slow
@pytest.mark.parametrize(("how", "number"), [("random", 100), ("steps", 1000)])
def test_a_hundred_killed_runs_show_in_no_byte(root, tmp_path, how, number):
    assert kill(root, tmp_path, how, number, seed=1) >= 100  # of steps, there are a few hundred
