"""The benchmark suite: jobs that are kept and run once, intervals, and a page that says what it lacks."""

import doctest
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from benchmarks.results import jobs, numbers, page, settings, table
from benchmarks.results.jobs import Job
from benchmarks.results.questions import QUESTIONS
from benchmarks.results.table import Verdict
from scipy import stats

FACTS = {"commit": "abc", "made": "today", "machine": "two cores", "python": "3"}
FIRST, SECOND = (Job("bulk", "first projects", method, 0) for method in ("PCA", "bulk"))


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
    assert written["rows"] == {"PCA": {"accuracy": 0.5, "macro-F1": 0.5}}
    assert written["commit"] == "abc"
    before = FIRST.path(tmp_path).stat().st_mtime_ns
    jobs.run_all([FIRST], pretend, tmp_path, FACTS, pool)
    assert FIRST.path(tmp_path).stat().st_mtime_ns == before
    assert "1 jobs, of which 1 are done" in capsys.readouterr().out


def test_a_job_that_fails_does_not_stop_the_others(tmp_path, pool):
    unlucky = Job("bulk", "first projects", "PCA", 13)
    assert jobs.run_all([unlucky, FIRST], pretend, tmp_path, FACTS, pool) == [unlucky]
    assert jobs.missing([unlucky, FIRST], tmp_path) == [unlucky]


def test_other_settings_make_a_job_run_again(tmp_path, pool, monkeypatch):
    jobs.run_all([SECOND], pretend, tmp_path, FACTS, pool)
    assert jobs.kept(SECOND, tmp_path) is not None
    monkeypatch.setitem(settings.OURS["bulk"], "bulk", {"n_latent": 3})
    assert jobs.kept(SECOND, tmp_path) is None


def test_quick_runs_are_kept_apart(tmp_path, pool):
    jobs.run_all([FIRST], pretend, tmp_path, FACTS, pool)
    assert jobs.kept(Job("bulk", "first projects", "PCA", 0, quick=True), tmp_path) is None


def test_every_question_has_three_seeds_of_different_jobs():
    assert settings.SEEDS >= 3
    every = [job for s in range(settings.SEEDS) for each in QUESTIONS.values() for job in each.jobs(s, quick=False)]
    assert len({str(job) for job in every}) == len(every)
    assert len({job.path(Path()) for job in every}) == len(every)


@pytest.mark.parametrize("module", [numbers, settings, table])
def test_examples_in_docstrings(module):
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed


def test_interval_is_that_of_students_t():
    values = [0.31, 0.35, 0.29]
    mean, half = numbers.mean_and_half(values)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert numbers.shown([0.5, 0.5, 0.5]) == "0.500"


def test_the_page_says_what_is_missed_and_what_is_lacking(tmp_path):
    results = [
        {**job_content("bulk", fold, method, value), **FACTS}
        for fold, ours in (("first projects", 0.9), ("second projects", 0.7))
        for method, value in (("PCA", 0.8), ("bulk", ours), ("expression", 0.8), ("commonest tissue", 0.2))
    ]
    page.write(tmp_path / "results.md", results, n_jobs=20)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "**missed on 1 of 2**: second projects" in text
    assert "0.700, **behind PCA**" in text
    assert "**12 jobs are missing" in text
    assert text.count("Not run.") == 6


def job_content(question, data, method, value):
    return {
        "question": question, "data": data, "method": method, "seed": 0, "seconds": 1.0,
        "rows": {method: {"accuracy": value, "macro-F1": value}},
    }  # fmt: skip


def test_verdicts_are_counted():
    assert page.judged([Verdict("a", True)]) == "met"
    assert page.judged([Verdict("a", False)]) == "**missed**"
    assert page.judged([Verdict("a", True), Verdict("b", True)]) == "met on all 2"


def test_a_table_of_results_has_a_row_for_each_score():
    written = json.loads(json.dumps(job_content("bulk", "first projects", "PCA", 0.5)))
    found = numbers.table_of([written])
    assert list(found["score"]) == ["accuracy", "macro-F1"]
    assert numbers.told(found, "PCA", "accuracy", "first projects").to_list() == [0.5]
