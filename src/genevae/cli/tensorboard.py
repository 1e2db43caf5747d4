"""The TensorBoard logs of a fit: `--log tensorboard`."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import genevae as gv
from genevae.data.genes import match_genes
from genevae.errors import RecipeError, nearest
from genevae.io.formats import open_source
from genevae.io.read_options import ReadOptions
from genevae.io.source import sample_cells
from genevae.metrics.latent import shown_fields
from genevae.plotting.embedding import field_picture
from genevae.plotting.projections import project_2d
from genevae.plotting.training import training_picture
from genevae.runs.tensorboard import TensorBoard
from genevae.runs.trained import Trained
from genevae.training.launch_env import launched

__all__ = ["show", "tensorboard_logs"]

LOGS = {"tensorboard": TensorBoard}
"""Logs by name, and their callbacks."""
N_CELLS = 5000
"""Cells whose latent is logged."""


@contextmanager
def tensorboard_logs(names: Sequence[str], out: Path) -> Iterator[list[TensorBoard]]:
    """Yield the callbacks that log training, to RUN-tensorboard; in several processes, only in the first."""
    for name in names:
        if name not in LOGS:
            raise RecipeError(f"There is no log '{name}'. {nearest(name, LOGS)}")
    wanted = dict.fromkeys(names) if launched(os.environ).is_first else {}
    logs = [LOGS[name](out.with_name(f"{out.name}-{name}")) for name in wanted]
    try:
        yield logs
    finally:
        for log in logs:
            log.close()


def show(logs: Sequence[TensorBoard], model: Trained) -> None:
    """Log pictures of the training curves and of the latent of at most 5,000 cells, sampled with the run's seed."""
    logs = [log for log in logs if log.is_open]  # a run that had ended before has nothing new to log
    if not logs:
        return
    seed = int(model.facts["seed"])
    source = match_genes(open_source(_data_of(model)), model.schema.genes, model.schema.missing)
    some = sample_cells(source, N_CELLS, seed)
    z = gv.embed(model, some).obsm["X_genevae"]
    with tempfile.TemporaryDirectory() as folder:
        curves, cells = Path(folder) / "training.png", Path(folder) / "latent.png"
        training_picture(model.history, model.facts["best_epoch"], curves)
        coloured = shown_fields(some.obs)
        if coloured:
            field_picture(project_2d("pca", z, seed), coloured, "PCA of the latent", cells)
        for log in logs:
            log.latent(z, some.obs)
            log.picture("training", curves)
            if coloured:
                log.picture("latent", cells)


def _data_of(model: Trained) -> ReadOptions:
    """Return where the data are, from the run's config."""
    config, folder = tomllib.loads(model.facts["config"]), Path(model.facts["folder"])
    return ReadOptions.from_flat(config, folder)
