"""The part that each cell had in a model's training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.contents import contents_of, hashes_in, hashes_of
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.evaluation import context
from genevae.evaluation.context import PARTS, part_codes, part_codes_by_content, parts_of
from genevae.evaluation.model import EvaluatedModel
from genevae.io.source import MemorySource


def a_model(part: list[str], names: list[str], hashes: list[int]) -> EvaluatedModel:
    schema = Schema(("g",), Kind.COUNTS)
    contents = pd.Series([f"{each:016x}" if each else "" for each in hashes], index=names, dtype=object)
    return EvaluatedModel(schema=schema, split=pd.Series(part, index=names, dtype=object), contents=contents)


def first_part(parts: list[str]) -> str:
    return min(parts, key=PARTS.index, default="new")


@pytest.mark.parametrize("at_once", [1, 3, 2**16])
@given(seed=st.integers(0, 10_000))
def test_every_cell_has_the_part_that_a_rule_for_one_cell_gives(at_once: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_known, n = rng.integers(0, 9), rng.integers(1, 9)
    part = rng.choice(PARTS[:3], n_known).tolist()
    known = [f"c{i}" for i in rng.integers(0, 8, n_known)]
    known_hash = rng.integers(0, 6, n_known).tolist()
    names, hashes = [f"c{i}" for i in rng.integers(0, 8, n)], rng.integers(0, 6, n).tolist()
    model = a_model(part, known, known_hash)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_AT_ONCE", at_once)
        by_name = [PARTS[code] for code in part_codes(model, pd.Index(names))]
        found, coincide = part_codes_by_content(model, pd.Index(names), np.array(hashes, dtype=np.uint64))

    expected_by_name = [first_part([p for p, k in zip(part, known, strict=True) if k == name]) for name in names]
    assert by_name == expected_by_name
    by_content = [first_part([p for p, k in zip(part, known_hash, strict=True) if k == each != 0]) for each in hashes]
    there = [known_hash[known.index(name)] if name in known else 0 for name in names]
    comparable = [a != 0 and b != 0 for a, b in zip(there, hashes, strict=True)]
    other = [c and p == "new" for c, p in zip(comparable, by_content, strict=True)]
    assert coincide == (sum(other) > sum(comparable) / 2)
    expected = [
        name if content == "new" and not (coincide and is_other) else content
        for name, content, is_other in zip(expected_by_name, by_content, other, strict=True)
    ]
    assert [PARTS[code] for code in found] == expected


def test_a_part_of_another_word_is_new() -> None:
    model = a_model(["training", "left out"], ["a", "b"], [1, 2])
    assert parts_of(model, pd.Index(["b", "a", "c"])).to_dict() == {"b": "new", "a": "training", "c": "new"}


def test_hashes_as_text_are_the_same_numbers() -> None:
    x_ng = np.random.default_rng(0).poisson(1.0, (30, 5)).astype(np.float32)
    x_ng[3] = 0
    source = MemorySource("x", x_ng, tuple("abcde"), pd.DataFrame(index=[str(i) for i in range(30)]))
    rows = np.arange(30)
    np.testing.assert_array_equal(hashes_in(pd.Series(contents_of(source, rows))), hashes_of(source, rows))
    assert hashes_of(source, rows)[3] == 0
    assert (hashes_of(source, rows[:3]) > 0).all()
