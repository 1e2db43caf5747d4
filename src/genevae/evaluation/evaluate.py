"""Compare models on the same cells: a report with one section for each thing that a model can be good at."""

from __future__ import annotations

import importlib
import platform
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genevae.calls import public
from genevae.engine import Block, Plan, Workers, require_workers
from genevae.errors import DataError, GenevaeError, nearest, warn
from genevae.evaluation.adapters import as_evaluated
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.load_cells import load_cells
from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.overview import facts_of_data, findings_of_data, training
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.formats import ReadOptions, open_for_model
from genevae.io.overwrite import require_free
from genevae.io.source import Source
from genevae.preprocessing.inspect import inspect
from genevae.progress import progress as shown_progress
from genevae.report.page import require_jinja, write_page
from genevae.report.records import Section
from genevae.report.report import Report, write_metrics
from genevae.runs.load import load
from genevae.runs.trained import Trained

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SECTIONS", "evaluate", "require_place", "write_report"]

SECTIONS = {
    "fit": "genevae.evaluation.fit.evaluate",
    "latent": "genevae.evaluation.latent.evaluate",
    "response": "genevae.evaluation.response.evaluate",
    "simulation": "genevae.evaluation.simulation.evaluate",
    "labels": "genevae.evaluation.labels.evaluate",
}
"""Every section, in the order of the report, and the module that computes it."""
PACKAGES = ("genevae", "torch", "numpy", "scipy", "scikit-learn", "anndata")


@public
def evaluate(
    models: Mapping[str, Any] | Any,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    sections: Sequence[str] = (),
    questions: Sequence[str] = (),
    gene_sets: str | Path | None = None,
    cells: int = 5000,
    seed: int = 0,
    layer: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    executor: Workers | None = None,
) -> Report:
    """Evaluate trained models on data, every score beside its baselines.

    Parameters
    ----------
    models
        A model, or models by the names that the report calls them: trained models or the folders that fit wrote,
        models of scvi-tools (``gv.adapters.scvi(model)``), or any object that follows
        :class:`~genevae.evaluation.model.Model`.
    data
        Cells with the genes and conditions of every model.
    sections
        Which of fit, latent, response, simulation and labels; all that the data allow by default.
    questions
        The deprecated name of ``sections``.
    gene_sets
        A GMT file of gene sets that similar genes are compared with.
    cells
        Evaluation cells, sampled where there are more, and as many training cells for the baselines.
    seed
        Of all random choices.
    layer
        The layer that holds the expression, or "raw"; X by default.
    out
        The folder to write: metrics.json, metrics.csv and report.html; or a page alone, a name that ends in .html.
    overwrite
        Whether a folder that is there is replaced.
    progress
        Whether to show which section is being computed.
    executor
        Where the sections are computed, each by one worker that reads the cells itself: "processes:4", "dask:ADDRESS",
        "submitit:PARTITION", a pool, a ``Client`` of Dask or an executor of submitit; by default this process. Models
        and data must be in files.

    Returns
    -------
    Report
        Its sections hold verdicts, scores and charts; ``report.scores`` is a table of all scores.

    Raises
    ------
    DataError
        If the data cannot be opened or lack genes of a model; if a section is unknown; if a model has no verb.
    RunError
        If a run is damaged, or ``out`` is there already.
    """
    if questions:
        warnings.warn("evaluate(questions=…) is now evaluate(sections=…).", DeprecationWarning, stacklevel=2)
    chosen = _chosen([*_listed(sections), *_listed(questions)])
    if isinstance(data, Trained | Mapping) or hasattr(models, "obs_names"):
        if not isinstance(data, Trained | Mapping):
            raise DataError("evaluate takes models and then the data: evaluate(model, data).")
        warn("evaluate takes the model first: evaluate(model, data).")
        models, data = data, models
    if out is not None:
        require_place(Path(out), overwrite, (models, data, gene_sets))
    if isinstance(models, Sequence) and not isinstance(models, str):
        raise DataError('Give several models by name, such as {"nb": model, "zinb": other}.')
    if not isinstance(models, Mapping):
        models = {Path(models).resolve().name if isinstance(models, str | Path) else "model": models}
    if not models:
        raise DataError("There is no model to evaluate: give one or more, by name.")
    require_workers(executor)
    given = {str(name): load(model) if isinstance(model, str | Path) else model for name, model in models.items()}
    gene_sets = None if gene_sets is None else Path(gene_sets).absolute()
    plan = Plan(
        _SectionPass.of, models=given, data=data, layer=layer, cells=cells, seed=seed, gene_sets=gene_sets, names=chosen
    )
    opened: dict[str, EvaluatedModel] = plan.here.context.models
    inspection = inspect(plan.here.source, seed=seed)
    found, skipped = _computed(plan, chosen, progress, executor)
    report = Report(
        data=Path(plan.here.source.name).name,
        runs={name: model.facts for name, model in opened.items()},
        cards={name: model.card for name, model in opened.items() if model.card},
        methods={name: model.methods for name, model in opened.items() if model.methods},
        training=training(opened),
        sections=found,
        skipped=skipped,
        inspection=facts_of_data(inspection),
        findings=findings_of_data(inspection),
        sampling=plan.here.sampling,
        seed=seed,
        versions=_versions(),
    )
    if out is not None:
        write_report(report, Path(out))
    return report


def _listed(names: Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def require_place(out: Path, overwrite: bool, reads: Iterable[object]) -> None:
    """Make sure that a report can be made and written to a place, before the work that fills it."""
    require_free(out, overwrite, reads)
    require_jinja()


def write_report(report: Report, out: Path) -> None:
    """Write metrics.json, metrics.csv and report.html into a folder, or the page alone; whole or not at all."""
    with staging_folder(out) as folder:
        draft = folder / out.name
        if out.suffix == ".html":
            write_page(report, draft)
            replace_with(draft, out)
            return
        draft.mkdir()
        write_metrics(report, draft)
        write_page(report, draft / "report.html")
        replace_with(draft, out)


def _chosen(sections: Sequence[str]) -> list[str]:
    for name in sections:
        if name not in SECTIONS:
            raise DataError(f"There is no section '{name}'. {nearest(name, SECTIONS)}")
    return [name for name in SECTIONS if name in sections] or list(SECTIONS)


@dataclass(frozen=True, eq=False)
class _SectionPass:
    """The sections of a report, each a part of the pass.

    Parameters
    ----------
    source
        The data.
    context
        What sections are computed from.
    sampling
        How its cells were chosen, in sentences.
    names
        The sections.
    """

    source: Source
    context: EvaluationContext
    sampling: list[str]
    names: Sequence[str]

    @classmethod
    def of(
        cls, models: Mapping[str, Any], data: Any, layer: str | None, cells: int, seed: int, gene_sets: Path | None,
        names: Sequence[str],
    ) -> _SectionPass:  # fmt: skip
        """Open the data, and sample cells."""
        opened = {name: as_evaluated(model) for name, model in models.items()}
        trained_on = {model.schema.layer for model in opened.values()}
        source = open_for_model(data, layer, trained_on.pop() if len(trained_on) == 1 else None)
        context, sampling = load_cells(opened, source, cells, seed, gene_sets)
        return cls(source, context, sampling, names)

    @property
    def n_parts(self) -> int:
        """The number of sections."""
        return len(self.names)

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Yield each section, or the reason why it is skipped; an error of ours is such a reason."""
        for part in parts:
            module = importlib.import_module(SECTIONS[self.names[part]])
            try:
                reason = module.unavailable_reason(self.context)
                yield {"section": module.evaluate(self.context)} if reason is None else {"skipped": reason}
            except GenevaeError as error:
                yield {"skipped": f"It could not be computed: {error}"}


def _computed(
    plan: Plan, names: Sequence[str], progress: bool, workers: Workers | None
) -> tuple[list[Section], dict[str, str]]:
    """Compute sections, and the reasons why some are skipped."""
    sections: list[Section] = []
    skipped: dict[str, str] = {}
    with shown_progress("evaluating", len(names), progress) as advance, closing(plan.blocks(workers)) as blocks:
        for name in names:
            advance(0, name)
            block = next(blocks)
            if "section" in block:
                sections.append(block["section"])
            else:
                skipped[name] = block["skipped"]
            advance(1)
    return sections, skipped


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
