"""Generative models of gene expression.

>>> import genevae as gv
>>> sorted(gv.RECIPES)[:3]
['adversarial', 'bulk', 'bulk-large']
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from typing import TYPE_CHECKING, Any


def _set_waiting() -> None:
    """Set how long threads of PyTorch spin while they wait for each other, unless the user has, before it is loaded.

    By default they spin for longer than most steps take, and two threads beside other busy processes train fifty times
    slower. Where they sleep at once, they are woken so often that two threads on an idle machine are hardly faster than
    one. So they spin for about 0.2 ms on a machine that has little else to do, and sleep at once on one that has; so do
    processes that this one starts.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "0" if _is_busy() else "20000"


def _is_busy() -> bool:
    """Whether half of the processors have something to do besides this process.

    What runs is counted five times in ten milliseconds: the load, a mean of the last minute, is high long after a job.
    """
    found = []
    for _ in range(5):
        try:
            with open("/proc/loadavg") as file:  # noqa: PTH123 - pathlib is not needed otherwise
                running = file.read().split()[3]
            found.append(int(running.partition("/")[0]) - 1)
        except (OSError, ValueError, IndexError):  # not Linux
            return False
        time.sleep(2e-3)
    return sorted(found)[2] >= 0.5 * (os.cpu_count() or 1)


_set_waiting()

if TYPE_CHECKING:
    from genevae.errors import GenevaeError as GenevaeError
    from genevae.errors import GenevaeWarning as GenevaeWarning
    from genevae.evaluation import adapters as adapters
    from genevae.evaluation.evaluate import evaluate as evaluate
    from genevae.evaluation.fit.coverage import calibration as calibration
    from genevae.evaluation.sweep import sweep as sweep
    from genevae.evaluation.tune import tune as tune
    from genevae.explorer.explore import explore as explore
    from genevae.io.arrays import from_arrays as from_arrays
    from genevae.io.formats import read as read
    from genevae.io.read_options import ReadOptions as ReadOptions
    from genevae.models import modules as modules
    from genevae.plotting import pl as pl
    from genevae.preprocessing.example import example as example
    from genevae.preprocessing.hvg import highly_variable as highly_variable
    from genevae.preprocessing.inspect import inspect as inspect
    from genevae.preprocessing.pseudobulk import pseudobulk as pseudobulk
    from genevae.recipes.registry import RECIPES as RECIPES
    from genevae.runs.export import export as export
    from genevae.runs.fit import fit as fit
    from genevae.runs.load import load as load
    from genevae.runs.mapping import map_query as map_query
    from genevae.runs.resume import resume as resume
    from genevae.runs.share import share as share
    from genevae.runs.trained import Trained as Trained
    from genevae.runs.trained import save as save
    from genevae.session import settings as settings
    from genevae.tasks.cell_eval import for_cell_eval as for_cell_eval
    from genevae.tasks.classify import classify as classify
    from genevae.tasks.cluster import cluster as cluster
    from genevae.tasks.counterfactual import counterfactual as counterfactual
    from genevae.tasks.decode import decode as decode
    from genevae.tasks.denoise import denoise as denoise
    from genevae.tasks.differential_expression import differential_expression as differential_expression
    from genevae.tasks.dose_response import dose_response as dose_response
    from genevae.tasks.effect import effect as effect
    from genevae.tasks.embed import embed as embed
    from genevae.tasks.gene_embeddings import gene_embeddings as gene_embeddings
    from genevae.tasks.generate import generate as generate
    from genevae.tasks.influence import contributions as contributions
    from genevae.tasks.influence import influence as influence
    from genevae.tasks.programs import loadings as loadings
    from genevae.tasks.programs import program_scores as program_scores

_HOMES = {
    # data
    "ReadOptions": "genevae.io.read_options",
    "example": "genevae.preprocessing.example",
    "from_arrays": "genevae.io.arrays",
    "highly_variable": "genevae.preprocessing.hvg",
    "inspect": "genevae.preprocessing.inspect",
    "pseudobulk": "genevae.preprocessing.pseudobulk",
    "read": "genevae.io.formats",
    # training
    "RECIPES": "genevae.recipes.registry",
    "Trained": "genevae.runs.trained",
    "export": "genevae.runs.export",
    "fit": "genevae.runs.fit",
    "load": "genevae.runs.load",
    "map_query": "genevae.runs.mapping",
    "resume": "genevae.runs.resume",
    "save": "genevae.runs.trained",
    "share": "genevae.runs.share",
    # tasks
    "classify": "genevae.tasks.classify",
    "cluster": "genevae.tasks.cluster",
    "contributions": "genevae.tasks.influence",
    "counterfactual": "genevae.tasks.counterfactual",
    "decode": "genevae.tasks.decode",
    "denoise": "genevae.tasks.denoise",
    "differential_expression": "genevae.tasks.differential_expression",
    "dose_response": "genevae.tasks.dose_response",
    "effect": "genevae.tasks.effect",
    "embed": "genevae.tasks.embed",
    "for_cell_eval": "genevae.tasks.cell_eval",
    "gene_embeddings": "genevae.tasks.gene_embeddings",
    "generate": "genevae.tasks.generate",
    "influence": "genevae.tasks.influence",
    "loadings": "genevae.tasks.programs",
    "program_scores": "genevae.tasks.programs",
    # evaluation
    "adapters": "genevae.evaluation.adapters",
    "calibration": "genevae.evaluation.fit.coverage",
    "evaluate": "genevae.evaluation.evaluate",
    "explore": "genevae.explorer.explore",
    "sweep": "genevae.evaluation.sweep",
    "tune": "genevae.evaluation.tune",
    # the session
    "settings": "genevae.session",
    # pictures
    "pl": "genevae.plotting.pl",
    # plain modules
    "metrics": "genevae.metrics",
    "modules": "genevae.models.modules",
    # errors
    "GenevaeError": "genevae.errors",
    "GenevaeWarning": "genevae.errors",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of names, made from the one above


_RENAMED = {"discover": "cluster", "genes": "gene_embeddings"}
"""Deprecated names, for one version."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import genevae` stays light."""
    if name in _RENAMED:
        warnings.warn(f"genevae.{name} is now genevae.{_RENAMED[name]}.", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name == "__version__":
        from importlib.metadata import version

        return version("genevae")
    if name not in _HOMES:
        from genevae.peer_functions import NAMESPACES, composed
        from genevae.peers import ALIASES, alias, peer_name

        if name in NAMESPACES:
            return NAMESPACES[name]
        if name == "report":
            return importlib.import_module("genevae.report")
        if (ours := alias(name, ALIASES, "genevae")) is not None:
            return __getattr__(ours)
        if (function := composed(name, "genevae")) is not None:
            return function
        hint = "" if name.startswith("_") else f" {peer_name(name, _HOMES, 'genevae')}"
        raise AttributeError(f"module 'genevae' has no attribute '{name}'.{hint}")
    home = importlib.import_module(_HOMES[name])
    return home if name in {"adapters", "metrics", "modules", "pl"} else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
