"""What a fit is given, as one frozen record: recipe, covariates, expression, split and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from genevae.data.embedding import read_embedding
from genevae.errors import DataError, RecipeError
from genevae.peers import translated
from genevae.recipes.registry import Recipe, recipe_of
from genevae.runs.interval import Interval

__all__ = ["Covariates", "Expression", "FitConfig", "RunOptions", "SplitOptions", "assignments", "listed"]


MAX_FOLDS = 20


def listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return names as a tuple; a text is one name."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def _one(names: Any) -> Any:
    """Return a name, also where it is the only one of a list."""
    if names is None or isinstance(names, str):
        return names
    if len(names) != 1:
        raise RecipeError(
            f"batch is one obs column, and {', '.join(map(str, names))} were given. Give one, and the others as "
            "condition; or join them in a column: adata.obs['a'].astype(str) + '_' + adata.obs['b'].astype(str)."
        )
    return str(names[0])


def assignments(name: str, value: Any, fields: Sequence[str] = ()) -> Any:
    """Return fields with their values, also where the text FIELD=VALUE is given, or the value of the only field."""
    if isinstance(value, str):
        field, equals, level = value.partition("=")
        if equals:
            return {field: level}
        if len(fields) == 1:
            return {fields[0]: value}
    if value is not None and not isinstance(value, Mapping):
        raise RecipeError(f'{name} must be fields with their values, such as {{"drug": "DMSO"}}, not {value!r}.')
    return value


def _vectors(name: str, value: Any) -> Any:
    """Return the path of an embedding, or its vectors by name, as a config file keeps them."""
    if isinstance(value, str | Path):
        return str(value)
    table = read_embedding(value, name)
    return dict(zip(table.index, map(tuple, table.to_numpy().tolist()), strict=True))


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """The obs columns that the model is given.

    Parameters
    ----------
    condition
        Categorical obs columns that the model is given, such as cell type or perturbation.
    continuous
        Numeric obs columns that the model is given, such as a dose.
    batch
        The obs column of the technical batch, which the model is given too; of several, the others are conditions.
    control
        The reference level of a condition, as FIELD=VALUE; the value alone where there is one condition.
    combine
        Conditions whose categories may be combinations: A+B is then the sum of A and B, also where no cell has it.
    context
        Obs columns, such as cell type, whose categories respond each in its way. The model is not given them; their
        mean expression in every condition is kept, and counterfactuals and effects use it. Conditions are contexts too.
    group
        The obs column whose categories make pairs of cells, for recipes that compare pairs; the model is not given it.
    view
        An obs column of two categories, such as pseudobulk and cell type: a pair of a group then has one cell of each,
        and each has a projection of its own.
    unlabelled
        The value of a condition in cells without a label, besides missing values and "unknown"; for recipes that take
        such cells.
    embedding
        Vectors of the categories of a condition, as FIELD=FILE: .csv, .tsv or .parquet with the names in the first
        column, or .npy with a .txt of names. In Python also a table, or vectors by name. The model knows a category by
        its vector, so that counterfactuals answer for categories that only the file has. Needs no row of the control.
    """

    condition: Sequence[str] = ()
    continuous: Sequence[str] = ()
    batch: str | Sequence[str] | None = None
    control: Mapping[str, str] | None = None
    combine: Sequence[str] = ()
    context: Sequence[str] = ()
    group: str | None = None
    view: str | None = None
    unlabelled: str | None = None
    embedding: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Make one name a list of one."""
        object.__setattr__(self, "batch", _one(self.batch))
        for name in ("condition", "continuous", "combine", "context"):
            value = getattr(self, name)
            object.__setattr__(self, name, listed(value))
        object.__setattr__(self, "control", assignments("control", self.control, self.condition))
        if given := assignments("embedding", self.embedding, self.condition):
            object.__setattr__(self, "embedding", {name: _vectors(name, value) for name, value in given.items()})


@dataclass(frozen=True, kw_only=True)
class Expression:
    """The expression that is modelled.

    Parameters
    ----------
    genes
        Genes to model: the number of highly variable ones, names, a file with one name per line, or the column of var
        that marks them in an AnnData in memory, such as "highly_variable"; all by default.
        Ensembl ids match with or without their version, and symbols where the data have them.
    gene_filter
        A GTF file, whose protein-coding genes are kept, or a list of genes, of which the data may lack some; the
        genes to model are chosen among those.
    layer
        The layer that holds the expression, or "raw"; X by default.
    gene_sets
        The gene sets of recipe programs: a GMT file, or the genes of each set by its name. Those with at least five of
        the genes to model are dimensions of the latent.
    """

    genes: int | str | Path | Sequence[str] | None = None
    gene_filter: str | Path | None = None
    layer: str | None = None
    gene_sets: str | Path | Mapping[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        """Make a list of what pandas and NumPy have for one."""
        if isinstance(self.genes, np.ndarray | pd.Index | pd.Series | np.integer):
            object.__setattr__(self, "genes", self.genes.tolist())


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which cells train, validate and test.

    Parameters
    ----------
    validation
        Share of the cells that is not trained on and chooses the best weights.
    test
        Share of the cells that is kept out of training altogether; split.csv names them.
    stratify
        An obs column whose proportions are kept in every part.
    split_by
        An obs column, such as the donor; no group of it is in two parts.
    hold_out
        Keep all cells with this combination out of training, as FIELD=VALUE.
    balance
        An obs column whose categories are drawn equally often in training.
    """

    validation: float = 0.1
    test: float = 0.0
    stratify: str | None = None
    split_by: str | None = None
    hold_out: Mapping[str, str] | None = None
    balance: str | None = None

    def __post_init__(self) -> None:
        """Check that there is one way to split."""
        chosen = [name for name in ("stratify", "split_by", "hold_out") if getattr(self, name)]
        if len(chosen) > 1:
            raise DataError(f"Cells can be split in one way only, and {' and '.join(chosen)} were given. Choose one.")
        object.__setattr__(self, "hold_out", assignments("hold_out", self.hold_out))


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a fit runs.

    Parameters
    ----------
    folds
        How many more models are trained, each without a part of the perturbed states and for a third of the epochs. How
        well they predict these states decides how much counterfactuals and effects use the model; with 0 they use
        simple methods alone. By default 3 where a condition has a control level and its effects differ in context.
    from_run
        The folder of a trained model to start from: its weights where name and shape fit, with genes matched by name,
        and its recipe and settings unless others are given.
    seed
        Of the split, the initial weights, the order of cells and the noise. Same seed, same bits.
    device
        auto, cpu, cuda or mps.
    compile
        Whether to compile the layers; where that fails, one line says so, and training continues without.
    cuda_graphs
        Record a step on an NVIDIA GPU and replay it, which saves the time that Python takes for small steps. It is
        first compared with a usual step; where they differ, or where it cannot be recorded, a warning says so, and
        training continues as usual.
    checkpoint_every
        Save the state of training every so many steps (500), minutes (10m) or epochs (2e), and when a signal stops the
        process (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1); the run can then be resumed, to the same bits. Without, training
        ends at a signal with the best weights so far, which are saved.
    keep_checkpoints
        How many checkpoints are kept, the latest.
    read_threads
        Threads that read from disk, each a buffer of 16,384 cells; they change no result.
    """

    folds: int | None = None
    from_run: str | Path | None = None
    seed: int = 0
    device: str = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    checkpoint_every: int | str | None = None
    keep_checkpoints: int = 2
    read_threads: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "seed", int(self.seed))
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed must be 0 or more and below 2**63, not {self.seed}.")
        if self.folds is not None and not 0 <= int(self.folds) <= MAX_FOLDS:
            raise RecipeError(f"folds must be from 0 to {MAX_FOLDS}, not {self.folds}.")
        for name in ("compile", "cuda_graphs"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"{name} must be True or False, not {getattr(self, name)!r}.")
        for name in ("keep_checkpoints", "read_threads"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.checkpoint_every is not None:
            Interval.parse(self.checkpoint_every)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """All that a fit is given besides the data.

    Parameters
    ----------
    recipe
        The method, with its settings.
    covariates, expression, split, run
        The other options.
    """

    recipe: Recipe
    covariates: Covariates = Covariates()
    expression: Expression = Expression()
    split: SplitOptions = SplitOptions()
    run: RunOptions = RunOptions()

    def __post_init__(self) -> None:
        """Check that there is a trained model to start from where the recipe needs one."""
        if self.recipe.objective.needs_trained and self.run.from_run is None:
            raise RecipeError(
                "posterior=frozen keeps the posterior of a trained model, and none was given. Give one with --from RUN "
                "(from_run=), or train the posterior: posterior=joint or posterior=bound."
            )

    @classmethod
    def from_flat(cls, options: Mapping[str, Any]) -> Self:
        """Build the record from options by name, as a config file has them.

        Parameters
        ----------
        options
            ``recipe``, ``setting`` (the settings of the recipe), and fields of the parts.

        Raises
        ------
        RecipeError
            If there is no such option or setting.
        """
        known = [each.name for kind in PARTS.values() for each in fields(kind)]
        options = translated(options, ["recipe", "setting", *known])
        recipe = recipe_of(options.get("recipe", "nb"), options.get("setting", {}))
        parts = {}
        for part, kind in PARTS.items():
            parts[part] = kind(**{each.name: options[each.name] for each in fields(kind) if each.name in options})
        return cls(recipe=recipe, **parts)

    def to_flat(self) -> dict[str, Any]:
        """Return the options by name, for a config file; the device is that of a machine, and is left out."""
        flat: dict[str, Any] = {"recipe": self.recipe.name}
        for part in PARTS:
            record = getattr(self, part)
            flat |= {each.name: getattr(record, each.name) for each in fields(record) if each.name != "device"}
        return {**flat, "setting": self.recipe.settings()}


PARTS: dict[str, Any] = {"covariates": Covariates, "expression": Expression, "split": SplitOptions, "run": RunOptions}
