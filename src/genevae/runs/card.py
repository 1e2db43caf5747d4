"""What a run says of itself: a model card, and a paragraph for the methods section of a paper."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.errors import shorten
from genevae.runs.trained import Trained

__all__ = ["methods_paragraph", "model_card"]

MOST_COMBINATIONS = 10_000
"""Of categories, that are compared with those of training cells."""
FEW_CELLS = 1_000
"""Training cells below which a card says that there are few."""


def model_card(model: Trained) -> dict[str, str]:
    """Return what others must know before they use a model, by topic.

    References
    ----------
    Mitchell et al., Model Cards for Model Reporting, FAT* (2019).
    """
    schema, facts, settings = model.schema, model.facts, model.recipe.settings()
    given = [f"{c.name}: {shorten(list(c.categories), 6)}" for c in schema.categorical]
    given += [f"{c.name}: {c.minimum:g} to {c.maximum:g}" for c in schema.continuous]
    return {
        "Data": f"{_data(model)}: {schema.kind}, {_cells(model)}.",
        "Genes": f"{_genes(model)}: {shorten(list(schema.genes), 5)}.",
        "Conditions": "; ".join(given) + "." if given else "None: the model sees expression alone.",
        "Training": f"Recipe {model.recipe.name}. {model.recipe.description} {_epochs(model)}. "
        f"Seed {facts.get('seed', 'unknown')}.",
        "Versions": ", ".join(f"{name} {v}" for name, v in facts.get("versions", {}).items()) or "unknown",
        "Intended use": _intended(model, int(settings.get("n_latent", model.reference.mean_nk.shape[1]))),
        "Limits": " ".join(_limits(model)),
    }


def methods_paragraph(model: Trained) -> str:
    """Return a paragraph for a paper, from what the run records; what it does not know is left out."""
    schema, facts, settings = model.schema, model.facts, model.recipe.settings()
    version = facts.get("versions", {}).get("genevae", "")
    name = f"{model.recipe.name} of genevae {version}".rstrip()
    seen = "" if schema.input_kind == schema.kind else f", {schema.input_kind} for the model"
    given = f", given {_listed(schema.fields)}" if schema.fields else ""
    parts = [f"{model.reference.mean_nk.shape[1]} latent dimensions"]
    if "hidden" in settings:
        parts.append(f"hidden layers of {_listed(list(map(str, settings['hidden'])))} units")
    n_training = int((model.split == "training").sum())
    controls = [f"'{c.control}' of {c.name}" for c in schema.categorical if c.control is not None]
    best, rate = facts.get("best_epoch", len(model.history)), f"{settings['learning_rate']:g}"
    text = (
        f"We trained a model of the recipe {name} ({model.recipe.description.rstrip('.')}){given}, on {_cells(model)} "
        f"with the expression of {_genes(model)} ({schema.kind}{seen}). It had {_listed(parts)}, and was trained with "
        f"Adam, minibatches of {model.recipe.training.minibatch(n_training)} cells and a learning rate of {rate}, for "
        f"{len(model.history)} epochs, of which the best was epoch {best} ({facts.get('ended', 'training ended')})."
    )
    if controls:
        text += f" The control was {_listed(controls)}."
    if controls and model.responses is not None:
        text += (
            " Changes between conditions were predicted by the model and by simple methods, weighted by how well each "
            "predicted states of the training cells that it had not seen, and anchored on measured means."
        )
    return f"{text} The random seed was {facts.get('seed', 'unknown')}."


def _intended(model: Trained, n_latent: int) -> str:
    uses = [f"to embed cells like those of training in {n_latent} dimensions", "to generate and denoise such cells"]
    if any(c.control is not None for c in model.schema.categorical):
        uses.append("to predict how they change between conditions that training cells had")
    return f"For research: {_listed(uses)}. Not for diagnosis or for decisions about a patient."


def _limits(model: Trained) -> list[str]:
    """Return what the run itself shows about where its model does not hold."""
    schema = model.schema
    n_train = model.parts.get("training", 0)
    found = [f"Only {n_train:,} training cells: details of rare groups are uncertain."] if n_train < FEW_CELLS else []
    n_all, unseen = _unseen(model)
    if unseen:
        found.append(
            f"{len(unseen):,} of {n_all:,} combinations of its categories had no cell among the training cells that it "
            f"keeps: {shorten(unseen, 3)}. Answers there are extrapolations."
        )
    if schema.fields:
        found.append("A category that training cells did not have is unknown to it.")
    found += [f"{nesting}" for nesting in map(str, schema.nested)]
    if any(c.control is not None for c in schema.categorical):
        found.append(
            "A predicted change is what cells of the other condition would show, if they differ in nothing else."
        )
    if schema.kind.is_count and not schema.output_kind.is_count:
        found.append("It returns log-normalised expression, not counts.")
    return [*found, "Genes that it was not trained on have no prediction."]


def _unseen(model: Trained) -> tuple[int, list[str]]:
    """Return how many combinations of categories there are, and those that no kept training cell had."""
    fields = [c for c in model.schema.categorical if not c.technical]
    n_all = 1
    for c in fields:
        n_all *= len(c.categories)
    if len(fields) < 2 or n_all > MOST_COMBINATIONS:
        return n_all, []
    codes = pd.DataFrame({c.name: model.reference.condition.codes[c.name].numpy() for c in fields})
    seen = set(codes.drop_duplicates().itertuples(index=False, name=None))
    every = itertools.product(*(range(len(c.categories)) for c in fields))
    absent = [key for key in every if key not in seen]
    return n_all, [" + ".join(c.categories[code] for c, code in zip(fields, key, strict=True)) for key in absent]


def _data(model: Trained) -> str:
    data = str(model.facts.get("data", "unknown data"))
    return Path(data).name or data


def _cells(model: Trained) -> str:
    parts = model.parts
    known = [f"{n:,} {part}" for part, n in parts.items()]
    return f"{sum(parts.values()):,} cells ({', '.join(known)})"


def _genes(model: Trained) -> str:
    return f"{len(model.schema.genes):,} genes"


def _epochs(model: Trained) -> str:
    best = model.facts.get("best_epoch", len(model.history))
    return f"{len(model.history)} epochs, the best {best}; {model.facts.get('ended', 'training ended')}"


def _listed(names: Any) -> str:
    """Return names as a list in a sentence."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
