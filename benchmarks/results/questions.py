"""The questions, in the order of the page."""

from __future__ import annotations

from benchmarks.results import bulk, fit, integration, labels, perturbation, simulation
from benchmarks.results.jobs import Job, Rows

__all__ = ["QUESTIONS", "run"]

QUESTIONS = {module.NAME: module for module in (fit, integration, perturbation, simulation, labels, bulk)}
"""Each has NAME, jobs(seed, quick), run(job), and section(found), which writes its table."""


def run(job: Job) -> Rows:
    """Do a job."""
    rows: Rows = QUESTIONS[job.question].run(job)
    return rows
