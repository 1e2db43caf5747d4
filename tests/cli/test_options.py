"""Signatures become options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.cli.options import assignments, option, options_of
from genevae.errors import CategoryError

names = st.text(st.characters(exclude_characters="="), min_size=1)


@given(st.dictionaries(names, st.text(), min_size=1))
def test_assignments_give_back_what_was_written(fields: dict[str, str]) -> None:
    assert assignments([f"{name}={value}" for name, value in fields.items()]) == fields


@given(names, st.lists(st.text(), min_size=2))
def test_a_field_that_comes_often_keeps_every_value(name: str, values: list[str]) -> None:
    assert assignments([f"{name}={value}" for value in values]) == {name: values}


@pytest.mark.parametrize("word", ["cell_type", "=B", ""])
def test_a_word_without_a_field_is_refused(word: str) -> None:
    with pytest.raises(CategoryError, match="FIELD=VALUE"):
        assignments([word])


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (int | None, int | None),
        (bool, bool),
        (str | None, str),
        (int | str | Path | Sequence[str] | None, str),
        (Sequence[str], list[str]),
        (Sequence[int] | None, str),
        (Mapping[str, str] | None, list[str]),
        (Mapping[str, str | Sequence[str]] | None, list[str]),
    ],
)
def test_a_type_has_an_option(hint: object, kind: object) -> None:
    assert option(hint)[0] == kind


def test_only_keyword_parameters_become_options() -> None:
    def task(model: object, data: object, *, n: int = 3, field: str) -> None: ...

    options = options_of(task, {})
    assert list(options) == ["n", "field"]
    assert options["n"][0].default == 3
    assert options["field"][0].default is options["field"][0].empty
