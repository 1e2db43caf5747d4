"""`genevae plot`: the pictures of a run that a reader of scanpy expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import DataIfAny, FieldValues, Force, OptionalData, Run, target
from genevae.cli.table_output import require_picture, save_picture
from genevae.errors import DataError

if TYPE_CHECKING:
    from genevae.runs.trained import Trained

__all__ = ["plot"]

Draw = Callable[[Path], None]


def plot(
    run: Run,
    kind: Literal["latent", "training", "effect", "dose", "calibration", "contributions"],
    data: OptionalData = DataIfAny(),  # noqa: B008 - it is frozen
    *,
    out: Path,
    force: Force = False,
    condition: Annotated[FieldValues | None, Parameter(name=("--set", "--condition"))] = None,
    field: str | None = None,
    by: Sequence[str] | None = None,
    projection: Annotated[Literal["pca", "umap", "tsne"], Parameter(name=("--map", "--projection"))] = "pca",
    cells: int = 10_000,
    seed: int = 0,
) -> None:
    """Draw a picture of a run: its latent, its training, an effect, doses, its calibration or its contributions.

    Parameters
    ----------
    kind
        latent: the cells in two dimensions, by each field; without data, the training cells that the run keeps.
        training: losses over epochs. effect: a heat map of the largest effects. dose: curves of the genes that change
        most. calibration: how often values fall in the intervals of their predicted distributions. contributions: the
        genes that every category adds most to, in a model of additive heads. All but the first two need data.
    out
        The picture to write: .png, .pdf or .svg.
    condition
        The drug of dose, as FIELD=VALUE, and any other condition to set.
    field
        The condition whose categories are the perturbations, for effect; the dose, for dose.
    by
        The conditions and contexts whose combinations are the groups of effect.
    projection
        How the latent becomes a map.
    cells
        Cells of latent, sampled where there are more.
    seed
        Of all random choices.
    """
    require_picture(out, force, run, data if data.path else None)
    request = _Request(gv.load(run), data, target(condition) or None, field, by, projection, cells, seed)
    if kind not in {"latent", "training"} and not data.path:
        raise DataError(f"A picture of {kind} needs cells: genevae plot {run} {kind} DATA --out {out}")
    save_picture(out, DRAWINGS[kind](request))


@dataclass(frozen=True)
class _Request:
    """The run, the data, and the options of the pictures."""

    model: Trained
    data: DataIfAny
    condition: Any
    field: str | None
    by: Sequence[str] | None
    projection: str
    cells: int
    seed: int


def _latent(request: _Request) -> Draw:
    from genevae.explorer.explore import kept_obs
    from genevae.io.formats import open_for_model
    from genevae.io.source import sample_cells
    from genevae.metrics.latent import shown_fields
    from genevae.plotting.embedding import field_picture
    from genevae.plotting.projections import TITLES, project_2d

    model = request.model
    if request.data.path:
        some = sample_cells(open_for_model(request.data, None, model.schema.layer), request.cells, request.seed)
        z_nk, obs = gv.embed(model, some).obsm["X_genevae"], some.obs
    else:
        z_nk, obs = model.reference.mean_nk.numpy(), kept_obs(model)
    fields = shown_fields(obs)
    if not fields:
        raise DataError("No field has 2 to 50 categories, or numbers that vary: there is nothing to colour a map by.")
    xy = project_2d(request.projection, z_nk, request.seed, request.cells)
    return partial(field_picture, xy, fields, f"{TITLES[request.projection]} of the latent")


def _training(request: _Request) -> Draw:
    from genevae.plotting.training import training_picture

    return partial(training_picture, request.model.history, int(request.model.facts["best_epoch"]))


def _effect(request: _Request) -> Draw:
    from genevae.cli.effect import largest
    from genevae.plotting.embedding import effect_picture

    table = gv.effect(request.model, request.data, field=request.field, by=request.by, seed=request.seed)
    return partial(effect_picture, largest(table))


def _dose(request: _Request) -> Draw:
    from genevae.plotting.curves import dose_picture

    table = gv.dose_response(
        request.model, request.data, condition=request.condition, field=request.field, seed=request.seed
    )
    return partial(dose_picture, table)


def _calibration(request: _Request) -> Draw:
    from genevae.plotting.bars import calibration_picture

    return partial(calibration_picture, gv.calibration(request.model, request.data, seed=request.seed))


def _contributions(request: _Request) -> Draw:
    from genevae.plotting.bars import MOST_GENES, contribution_picture

    return partial(contribution_picture, gv.contributions(request.model, request.data, top=MOST_GENES))


DRAWINGS: dict[str, Callable[[_Request], Draw]] = {
    "latent": _latent,
    "training": _training,
    "effect": _effect,
    "dose": _dose,
    "calibration": _calibration,
    "contributions": _contributions,
}
"""What draws each kind of picture."""
