"""Ask every question of some runs that the data can answer, and write down the answers."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from genevae.errors import DataError, GenevaeError, nearest
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.load_cells import draw
from genevae.evaluation.overview import facts_of_data, facts_of_run, findings_of_data, training
from genevae.io.atomic import replace_with, require_free, staging_folder
from genevae.io.formats import ReadOptions, open_source
from genevae.io.source import Source
from genevae.preprocessing.inspect import inspect
from genevae.report.page import require_jinja, write_page
from genevae.report.records import Section
from genevae.report.report import Report, write_metrics
from genevae.runs.trained import Trained, load

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["QUESTIONS", "evaluate", "require_place", "write_report"]

QUESTIONS = {
    "fit": "genevae.evaluation.fit.evaluate",
    "latent": "genevae.evaluation.latent.evaluate",
    "response": "genevae.evaluation.response.evaluate",
    "simulation": "genevae.evaluation.simulation.evaluate",
    "labels": "genevae.evaluation.labels.evaluate",
}
"""Every question, in the order of the report, and the module that asks it."""
PACKAGES = ("genevae", "torch", "numpy", "scipy", "scikit-learn", "anndata")
MARK = "metrics.json"


def evaluate(
    runs: Mapping[str, Trained | str | Path],
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    questions: Sequence[str] = (),
    gene_sets: str | Path | None = None,
    cells: int = 5000,
    seed: int = 0,
    layer: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Report:
    """Judge trained models on data, every number beside its baselines.

    Parameters
    ----------
    runs
        Models, or the folders that fit wrote, by the names that the report calls them.
    data
        Cells with the genes and conditions of every model.
    questions
        What to ask: fit, latent, response, simulation, labels; all that the data allow by default.
    gene_sets
        A GMT file of gene sets that similar genes are compared with.
    cells
        Cells to judge by, drawn at random where there are more, and as many training cells for the baselines.
    seed
        Of all that is drawn.
    layer
        The layer that holds the expression, or "raw"; X by default.
    out
        The folder to write: metrics.json, metrics.csv and report.html.
    overwrite
        Whether a folder that is there is replaced.
    progress
        Whether to show which question is being asked.

    Returns
    -------
    Report
        Its sections hold verdicts, scores and charts; ``report.scores`` is a table of all scores.

    Raises
    ------
    DataError
        If the data cannot be opened or lack genes of a model; if a question is unknown.
    RunError
        If a run is damaged, or ``out`` is there already.
    """
    asked = _chosen(questions)
    if out is not None:
        require_place(Path(out), overwrite)
    models = _opened(runs)
    source = open_source(data, layer)
    context, sampling = draw(models, source, cells, seed, gene_sets)
    inspection = inspect(source, seed=seed)
    sections, skipped = _ask(context, asked, progress)
    report = Report(
        data=Path(source.name).name,
        runs={name: facts_of_run(model) for name, model in models.items()},
        training=training(models),
        sections=sections,
        skipped=skipped,
        inspection=facts_of_data(inspection),
        findings=findings_of_data(inspection),
        sampling=sampling,
        seed=seed,
        versions=_versions(),
    )
    if out is not None:
        write_report(report, Path(out))
    return report


def require_place(out: Path, overwrite: bool) -> None:
    """Make sure that a report can be made and written to a place, before the work that fills it."""
    require_free(out, overwrite, [MARK])
    require_jinja()


def write_report(report: Report, out: Path) -> None:
    """Write metrics.json, metrics.csv and report.html into a folder, whole or not at all."""
    with staging_folder(out) as folder:
        draft = folder / out.name
        draft.mkdir()
        write_metrics(report, draft)
        write_page(report, draft / "report.html")
        replace_with(draft, out)


def _chosen(questions: Sequence[str]) -> list[str]:
    for name in questions:
        if name not in QUESTIONS:
            raise DataError(f"There is no question '{name}'. {nearest(name, QUESTIONS)}")
    return [name for name in QUESTIONS if name in questions] or list(QUESTIONS)


def _opened(runs: Mapping[str, Trained | str | Path]) -> dict[str, Trained]:
    if not runs:
        raise DataError("There is no run to evaluate: give one or more, by name.")
    return {str(name): run if isinstance(run, Trained) else load(run) for name, run in runs.items()}


def _ask(context: EvaluationContext, asked: Sequence[str], progress: bool) -> tuple[list[Section], dict[str, str]]:
    """Ask questions one after the other; a mistake that a user can mend leaves a reason in the place of an answer."""
    sections: list[Section] = []
    skipped: dict[str, str] = {}
    with _shown(asked, progress) as start:
        for name in asked:
            start(name)
            question = importlib.import_module(QUESTIONS[name])
            try:
                reason = question.unavailable_reason(context)
                section = None if reason else question.evaluate(context)
            except GenevaeError as error:
                reason, section = f"It could not be answered: {error}", None
            if section is None:
                skipped[name] = reason or "These runs and data do not allow it."
            else:
                sections.append(section)
    return sections, skipped


@contextmanager
def _shown(asked: Sequence[str], progress: bool) -> Iterator[Callable[[str], None]]:
    """Show which question is being asked, and for how long."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, disable=not progress) as bars:
        tasks = {name: bars.add_task(name, total=1, start=False) for name in asked}
        running: list[str] = []

        def start(name: str) -> None:
            for done in running:
                bars.update(tasks[done], completed=1)
            running.append(name)
            bars.start_task(tasks[name])

        yield start
        for name in asked:
            bars.update(tasks[name], completed=1)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
