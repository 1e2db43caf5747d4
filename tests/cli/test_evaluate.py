"""`genevae evaluate`: which cells it judges by, what it asks, and what it leaves."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import genevae as gv
from genevae.cli import main
from genevae.errors import DataError, GeneError, GenevaeError
from genevae.evaluation import evaluate as evaluating
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.load_cells import load_cells
from genevae.io.formats import open_source
from genevae.report.records import Score, Section, Verdict

Question = Callable[..., str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put questions of the test's own in place of the real ones."""

    def put(**asks: Callable[[EvaluationContext], Section | None]) -> None:
        for name, ask in asks.items():
            module = ModuleType(f"fake_{name}")
            module.evaluate = ask
            module.reason = getattr(ask, "reason", None)
            module.unavailable_reason = partial(reason_of, module)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(evaluating, "SECTIONS", {name: f"fake_{name}" for name in asks})

    return put


def reason_of(module: ModuleType, context: EvaluationContext) -> str | None:
    return module.reason


def counting(context: EvaluationContext) -> Section:
    n = float(context.evaluation_n.sum())
    scores = [Score(metric="cells", who=name, value=n) for name in context.models]
    return Section(name="counting", title="How many?", verdicts=[Verdict(f"{n:.0f} cells.", "good")], scores=scores)


def refusing(context: EvaluationContext) -> Section:
    raise GenevaeError("The control is missing.")


def failing(context: EvaluationContext) -> Section:
    raise ZeroDivisionError


def unfit(context: EvaluationContext) -> Section:
    raise AssertionError("this was not to be asked")


unfit.reason = "No run has a control."


@pytest.fixture
def new_cells(make_adata: Callable[..., AnnData]) -> AnnData:
    adata = make_adata(60, seed=5)
    adata.obs_names = [f"new{i}" for i in range(60)]
    return adata


def test_answers_and_reasons_stand_in_the_report(asked, tiny_model, new_cells) -> None:
    asked(counting=counting, refusing=refusing, unfit=unfit)
    report = gv.evaluate({"tiny": tiny_model}, new_cells, progress=False)
    assert [section.name for section in report.sections] == ["counting"]
    assert report.skipped == {
        "refusing": "It could not be computed: The control is missing.",
        "unfit": "No run has a control.",
    }
    assert "+ 60 cells." in str(report)
    assert set(report.scores["metric"]) == {"cells"}
    assert report.runs["tiny"]["Recipe"] == "nb"
    assert report.runs["tiny"]["Latent dimensions"].startswith("4, of which ")
    assert report.inspection["Size"] == "60 cells × 30 genes"


def test_a_bug_goes_up_and_leaves_nothing(asked, tiny_model, new_cells, tmp_path) -> None:
    asked(failing=failing)
    with pytest.raises(ZeroDivisionError):
        gv.evaluate({"tiny": tiny_model}, new_cells, out=tmp_path / "report", progress=False)
    assert not list(tmp_path.iterdir())


def test_only_the_chosen_questions_are_asked(asked, tiny_model, new_cells) -> None:
    asked(counting=counting, unfit=unfit)
    report = gv.evaluate({"tiny": tiny_model}, new_cells, sections=["counting"], progress=False)
    assert not report.skipped
    with pytest.raises(DataError, match="counting"):
        gv.evaluate({"tiny": tiny_model}, new_cells, sections=["couting"], progress=False)


def test_cells_of_the_training_are_not_judged_by(tiny_model, make_adata) -> None:
    adata = make_adata()
    context, said = load_cells({"tiny": tiny_model}, open_source(adata), 5000, 0)
    parts = tiny_model.split.value_counts()
    assert context.evaluation_n.sum() == parts["validation"]
    assert context.trained_n.sum() == parts["training"]
    assert context.cells.n_obs == parts["training"] + parts["validation"]
    assert "chose the best epoch" in said[0]


def test_the_draw_is_of_both_kinds_and_repeats(tiny_model, new_cells, make_adata) -> None:
    both = make_adata()
    both = AnnData(
        np.vstack([both.X.toarray(), new_cells.X.toarray()]), obs=pd.concat([both.obs, new_cells.obs]), var=both.var
    )
    first, said = load_cells({"tiny": tiny_model}, open_source(both), 25, seed=3)
    again, _ = load_cells({"tiny": tiny_model}, open_source(both), 25, seed=3)
    other, _ = load_cells({"tiny": tiny_model}, open_source(both), 25, seed=4)
    assert (first.evaluation_n.sum(), first.trained_n.sum()) == (25, 25)
    assert first.n_left_out == both.n_obs - 50
    assert list(first.cells.obs_names) == list(again.cells.obs_names) != list(other.cells.obs_names)
    assert "seed 3" in " ".join(said)
    place = both.obs_names.get_indexer(first.cells.obs_names)
    np.testing.assert_array_equal(first.cells.to_df().to_numpy(), np.asarray(both.X)[place])


def test_runs_may_have_different_genes(tiny_model, new_cells, make_adata) -> None:
    few = gv.fit(make_adata(), genes=["G29", "G3", "G7"], epochs=1, progress=False)
    some, _ = load_cells({"few": few}, open_source(new_cells), 50, 0)
    assert list(some.cells.var_names) == ["G29", "G3", "G7"]
    all_of_them, _ = load_cells({"few": few, "tiny": tiny_model}, open_source(new_cells), 50, 0)
    assert set(all_of_them.cells.var_names) == set(new_cells.var_names)
    with pytest.raises(GeneError, match="lacks"):
        load_cells({"few": few, "tiny": tiny_model}, open_source(new_cells[:, :10].copy()), 50, 0)


def test_cells_of_one_name_count_as_seen_if_one_of_them_was(make_adata) -> None:
    adata = make_adata(60)
    adata.obs_names = [f"cell{i // 2}" for i in range(60)]
    model = gv.fit(open_source(adata), epochs=1, progress=False, test=0.4)
    seen = {name for name, part in model.split.items() if part == "training"}
    with pytest.warns(UserWarning, match="unique"):
        exact, _ = load_cells({"m": model}, open_source(adata), 60, 0)
    parts = model.split[model.split != "validation"]
    assert exact.trained_n.tolist() == (parts == "training").tolist(), "their expression says which one was"
    by_name = replace(model, contents=pd.Series(dtype=object))  # a run of an earlier version
    with pytest.warns(UserWarning, match="unique"):
        context, _ = load_cells({"m": by_name}, open_source(adata), 60, 0)
    assert set(context.cells.obs_names[context.trained_n]) == seen
    assert not seen & set(context.cells.obs_names[context.evaluation_n])


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_model, make_adata) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    gv.save(tiny_model, folder / "one")
    gv.save(tiny_model, folder / "two")
    cells = make_adata(60, seed=5)
    cells.obs_names = [f"new{i}" for i in range(60)]
    cells.write_h5ad(folder / "new.h5ad")
    return {"one": folder / "one", "two": folder / "two", "new": folder / "new.h5ad"}


def test_the_command_leaves_three_files(asked, places, tmp_path, capsys) -> None:
    asked(counting=counting, refusing=refusing)
    out = tmp_path / "report"
    words = ["evaluate", *(str(places[name]) for name in ("one", "two", "new")), "--out", str(out), "--cells", "30"]
    main(words)
    assert {path.name for path in out.iterdir()} == {"metrics.json", "metrics.csv", "report.html"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["runs"]) == ["one", "two"]
    assert metrics["command"].startswith("genevae evaluate ")
    assert "--cells 30" in metrics["command"]
    assert pd.read_csv(out / "metrics.csv").query("metric == 'cells'")["value"].tolist() == [30, 30]
    assert "report.html" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(words)
    main([*words, "--force"])
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_the_command_of_a_report_repeats_it(asked, places, tmp_path) -> None:
    asked(counting=counting)
    cells = ad.read_h5ad(places["new"])
    cells.obs.to_csv(tmp_path / "labels.csv")
    cells.obs = cells.obs[[]]
    cells.layers["counts"] = cells.X
    cells.write_h5ad(tmp_path / "bare.h5ad")
    read = ["--metadata", str(tmp_path / "labels.csv"), "--layer", "counts", "--keep", "disk", "--no-transpose"]
    main(["evaluate", str(places["one"]), str(tmp_path / "bare.h5ad"), *read, "--out", str(tmp_path / "a")])
    written = json.loads((tmp_path / "a" / "metrics.json").read_text())
    main([*shlex.split(written["command"])[1:], "--force"])
    assert json.loads((tmp_path / "a" / "metrics.json").read_text()) == written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{one}"], "one run or more"),
        (["{one}", "{new}", "--sections", "guess"], "There is no section 'guess'"),
        (["{one}", "{new}", "--cells", "3"], "20 or more"),
        (["nowhere", "{new}"], "There is no folder nowhere"),
        (["{one}", "nothing.h5ad"], "There is no nothing.h5ad"),
    ],
)
def test_mistakes_are_told(words, said, asked, places, tmp_path, capsys) -> None:
    asked(counting=counting)
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", *(word.format(**places) for word in words), "--out", str(tmp_path / "r")])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_jinja_is_told_before_the_work(asked, places, tmp_path, capsys, monkeypatch) -> None:
    asked(unfit=unfit)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(SystemExit):
        main(["evaluate", str(places["one"]), str(places["new"]), "--out", str(tmp_path / "r")])
    assert "genevae[report]" in capsys.readouterr().err


def test_every_question_answers_both_ways() -> None:
    import importlib

    for name, path in evaluating.SECTIONS.items():
        question: Any = importlib.import_module(path)
        assert callable(question.evaluate), name
        assert callable(question.unavailable_reason), name


@pytest.mark.slow
def test_every_question_is_answered_on_real_cells(shared_data, tmp_path) -> None:
    from genevae.report.glossary import glossary

    path = shared_data("kang_merged.h5ad")
    told = {"condition": ["cell_type", "condition"], "control": {"condition": "ctrl"}, "batch": "subset"}
    model = gv.fit(path, **told, genes=200, test=0.3, epochs=5, progress=False)
    report = gv.evaluate({"kang": model}, path, cells=800, out=tmp_path / "report", progress=False)
    assert [section.name for section in report.sections] == list(evaluating.SECTIONS)
    assert not report.skipped
    assert [metric for metric in report.scores["metric"].unique() if metric not in glossary()] == []
    for section in report.sections:
        assert section.verdicts, section.name
        own = report.scores.query("section == @section.name")
        assert {"run", "baseline"} <= set(own["role"]), section.name
    assert (tmp_path / "report" / "report.html").stat().st_size < 5_000_000
