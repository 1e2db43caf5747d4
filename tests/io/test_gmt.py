"""Gene sets from files."""

from __future__ import annotations

import gzip

import pytest

from genevae.errors import DataError
from genevae.io.gmt import read_gene_sets


def test_sets_are_read_with_and_without_descriptions_and_packed(tmp_path):
    text = "A\tabout it\tTP53\tMYC\tTP53\t\n\nB\t\tACTB\r\n"
    (tmp_path / "sets.gmt").write_text(text, newline="")
    (tmp_path / "sets.gmt.gz").write_bytes(gzip.compress(text.encode()))
    expected = {"A": ("TP53", "MYC"), "B": ("ACTB",)}
    assert read_gene_sets(tmp_path / "sets.gmt") == expected
    assert read_gene_sets(tmp_path / "sets.gmt.gz") == expected


def test_the_hallmark_sets_are_fifty(shared_data):
    sets = read_gene_sets(shared_data("annot") / "human_hallmark_v2025.gmt")
    assert len(sets) == 50
    assert "JUNB" in sets["HALLMARK_TNFA_SIGNALING_VIA_NFKB"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"A\tonly\n", "line 1 is not a gene set"),
        (b"A,x,TP53\n", "line 1 is not a gene set"),
        (b"A\t\tTP53\nA\t\tMYC\n", "line 2 repeats the set 'A'"),
        (b"\n\n", "has no gene set"),
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_line(content, reason, tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_gene_sets(path)


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "hallmark.gmt").write_text("A\t\tTP53\n")
    with pytest.raises(DataError, match=r"Did you mean 'hallmark\.gmt'"):
        read_gene_sets(tmp_path / "halmark.gmt")
