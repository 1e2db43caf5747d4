"""The benchmark suite: jobs that are kept and run once, intervals, and a page that says what it lacks."""

import doctest
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.results import bulk, jobs, page, settings, tables
from benchmarks.results.jobs import Job
from benchmarks.results.questions import QUESTIONS
from scipy import stats

import genevae as gv
from genevae.metrics.labels import ACCURACY

FACTS = {"commit": "abc", "made": "today", "machine": "two cores", "python": "3"}
FIRST, SECOND = (Job("bulk", "first projects", method, 0) for method in ("no dropout", "bulk"))


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as one:
        yield one


def pretend(job):
    """Stand in for a training."""
    if job.seed == 13:
        raise ValueError("no luck")
    return {job.method: {"accuracy": 0.5 + job.seed / 100, "macro-F1": 0.5}}


def test_what_is_done_is_kept_and_not_done_again(tmp_path, pool, capsys):
    assert not jobs.run_all([FIRST], pretend, tmp_path, FACTS, pool)
    assert jobs.missing([FIRST, SECOND], tmp_path) == [SECOND]
    written = jobs.kept(FIRST, tmp_path)
    assert written["rows"] == {"no dropout": {"accuracy": 0.5, "macro-F1": 0.5}}
    assert written["commit"] == "abc"
    before = FIRST.path(tmp_path).stat().st_mtime_ns
    jobs.run_all([FIRST], pretend, tmp_path, FACTS, pool)
    assert FIRST.path(tmp_path).stat().st_mtime_ns == before
    assert "1 jobs, of which 1 are done" in capsys.readouterr().out


def test_a_job_that_fails_does_not_stop_the_others(tmp_path, pool):
    unlucky = Job("bulk", "first projects", "no dropout", 13)
    assert jobs.run_all([unlucky, FIRST], pretend, tmp_path, FACTS, pool) == [unlucky]
    assert jobs.missing([unlucky, FIRST], tmp_path) == [unlucky]


def test_other_settings_make_a_job_run_again(tmp_path, pool, monkeypatch):
    jobs.run_all([SECOND], pretend, tmp_path, FACTS, pool)
    assert jobs.kept(SECOND, tmp_path) is not None
    monkeypatch.setitem(settings.OURS["bulk"], "bulk", {"n_latent": 3})
    assert jobs.kept(SECOND, tmp_path) is None


def test_quick_runs_are_kept_apart(tmp_path, pool):
    jobs.run_all([FIRST], pretend, tmp_path, FACTS, pool)
    assert jobs.kept(Job("bulk", "first projects", "no dropout", 0, quick=True), tmp_path) is None


def test_the_first_method_of_every_question_has_five_seeds_of_different_jobs():
    assert settings.SEEDS >= 5
    every = [job for each in QUESTIONS.values() for s in range(settings.SEEDS) for job in each.jobs(s, quick=False)]
    for each in QUESTIONS.values():
        assert each.methods[0] in settings.OURS[each.name]
        first = {(job.data, job.seed) for job in every if job.question == each.name and job.method == each.methods[0]}
        assert len(first) == len(each.data) * settings.SEEDS
    assert len({str(job) for job in every}) == len(every)
    assert len({job.path(Path()) for job in every}) == len(every)


@pytest.mark.parametrize("module", [settings, tables])
def test_examples_in_docstrings(module):
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed


def test_interval_is_that_of_students_t():
    values = [0.31, 0.35, 0.29]
    mean, half = tables.mean_and_half(values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert tables.shown([0.5, 0.5, 0.5]) == "0.500"


def test_the_page_says_what_is_missed_and_what_is_lacking(tmp_path):
    results = [
        {**job_content("bulk", fold, method, value), **FACTS}
        for fold, ours in (("first projects", 0.9), ("second projects", 0.7))
        for method, value in (("bulk", ours), (bulk.PCS, 0.8), (bulk.SCALED_PCS, 0.95), ("commonest label", 0.2))
    ]
    page.write(tmp_path / "results.md", results, n_jobs=20)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "**missed on 1 of 2**: second projects" in text
    assert "| bulk | 0.700 | 0.700 | 0.700 |" in text
    assert "**12 jobs are missing" in text
    assert text.count("Not run.") == len(QUESTIONS) - 1
    assert "## Measured earlier" in text


def test_scores_are_those_of_the_report(make_adata):
    adata = make_adata(300)
    model = gv.fit(adata, condition=["type"], epochs=2, n_latent=2, hidden=[8], test=0.3, progress=False, device="cpu")
    labels = replace(
        QUESTIONS["labels"], models=lambda job: ({job.method: model}, adata), scores={"accuracy": (ACCURACY, "type")}
    )
    rows = labels.run(Job("labels", "here", "nb", 0))
    assert {"nb", "commonest label", "nearest neighbours on 30 PCs"} <= set(rows)
    assert 0 <= rows["nb"]["accuracy"] <= 1


def test_a_question_by_data_has_a_table_for_each_score():
    found = tables.table_of(
        [job_content("fit", data, "nb", value) for data, value in (("kang_merged", 1.0), ("pbmc3k_labelled", 3.0))]
    )
    question = replace(QUESTIONS["fit"], scores={"accuracy": (ACCURACY, "")})
    assert question.body(found)[2:] == [
        "| accuracy, higher is better | nb |", "|---|--:|", "| kang_merged | 1.000 |", "| pbmc3k_labelled | 3.000 |",
        "| mean | 2.000 |",
    ]  # fmt: skip


def job_content(question, data, method, value):
    return {
        "question": question, "data": data, "method": method, "seed": 0, "seconds": 1.0,
        "rows": {method: {"accuracy": value, "macro-F1": value, bulk.HIDDEN_ERROR.name: value}},
    }  # fmt: skip


def test_verdicts_are_counted():
    assert page.verdict({}) == "not run"
    assert page.verdict({"a": True}) == "met"
    assert page.verdict({"a": False}) == "**missed**"
    assert page.verdict({"a": True, "b": True}) == "met on all 2"


def test_a_target_may_ask_more_of_the_mean():
    rows = {
        "nb": {"Pearson-Δ": 0.92, "E-distance": 0.5, "MSE × 1,000": 1.0, "coverage": 0.9},
        "slope": {"Pearson-Δ": 0.925, "E-distance": 0.6, "MSE × 1,000": 2.0},
    }
    found = tables.table_of([{"question": "types", "data": "B", "seed": 0, "rows": rows}])
    assert QUESTIONS["types"].verdicts(found) == {"B": True, "the mean": False}


def test_a_table_of_results_has_a_row_for_each_score():
    written = json.loads(json.dumps(job_content("bulk", "first projects", "PCA", 0.5)))
    found = tables.table_of([written])
    assert list(found["score"]) == ["accuracy", "macro-F1", bulk.HIDDEN_ERROR.name]
    assert tables.values_of(found, "PCA", "accuracy", "first projects").to_list() == [0.5]
