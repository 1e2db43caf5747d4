"""A model of this package, as evaluation sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells
from genevae.data.nesting import one_way
from genevae.errors import CategoryError, DataError
from genevae.evaluation.model import Decoded, EvaluatedModel, ShiftInterval, dense, from_protocol
from genevae.metrics.latent import dead_dimensions
from genevae.models.additive import Additive
from genevae.models.prior import log_prior_n
from genevae.models.vae import VAE
from genevae.runs.card import methods_paragraph, model_card
from genevae.runs.trained import Trained
from genevae.tasks.classify import classify
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.denoise import denoise
from genevae.tasks.embed import embed
from genevae.tasks.gene_embeddings import gene_embeddings
from genevae.tasks.generate import generate
from genevae.tasks.inference import evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.posterior_expectation import MAX_NUMBERS, in_blocks, latents_snk

__all__ = ["as_evaluated"]

Numbers = NDArray[Any]
BATCH_SIZE = 256


def as_evaluated(model: Any) -> EvaluatedModel:
    """Return any model as evaluation sees it.

    Parameters
    ----------
    model
        A trained model of this package, what :func:`genevae.adapters.scvi` returned, or any object that follows
        :class:`~genevae.evaluation.model.Model`.
    """
    if isinstance(model, EvaluatedModel):
        return model
    return _trained(model) if isinstance(model, Trained) else from_protocol(model)


def _trained(model: Trained) -> EvaluatedModel:
    schema, counts = model.schema, model.schema.kind.is_count and model.schema.output_kind.is_count
    return EvaluatedModel(
        schema=schema,
        split=model.split,
        contents=model.contents,
        n_latent=int(model.reference.mean_nk.shape[1]),
        given=schema.fields if model.recipe.settings().get("encode_condition", True) else (),
        in_latent=schema.fields if isinstance(model.module, Additive) else (),
        labels={
            name: tuple(schema.categorical_field(name).categories[code] for code in calibration.code_c)
            for name, calibration in model.calibration.items()
        },
        facts=_facts(model),
        card=model_card(model),
        methods=methods_paragraph(model),
        history=model.history,
        best_epoch=int(model.facts.get("best_epoch", 0)),
        ended=str(model.facts.get("ended", "")),
        was_trained_on=partial(_was_trained_on, model),
        embed=lambda cells: np.asarray(embed(model, cells).obsm["X_genevae"]),
        log_weights=partial(_log_weights, model) if schema.has_noise_model else None,
        likelihoods=partial(_likelihoods, model),
        denoise=(lambda cells, n, seed: dense(denoise(model, cells, n_draws=n, seed=seed).X)) if counts else None,
        generate=lambda n, c, seed: dense(generate(model, n=n, condition=dict(c), seed=seed).X),
        counterfactual=lambda cells, condition, seed: _answer(model, cells, condition, seed)[0],
        answer=partial(_answer, model),
        training_profiles=partial(_training_profiles, model),
        classify=lambda cells, field, seed: classify(model, cells, field=field, seed=seed),
        gene_embeddings=partial(_gene_embeddings, model),
    )


def _facts(model: Trained) -> dict[str, str]:
    """Return what a reader wants to know of a run, by name."""
    schema, facts, parts = model.schema, model.facts, model.parts
    mean_nk = model.reference.mean_nk.cpu().numpy()
    n_dead = dead_dimensions(mean_nk)
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    return {
        "Recipe": model.recipe.name,
        "Trained on": str(facts.get("data", "unknown data")),
        "Cells": ", ".join(f"{n:,} {part}" for part, n in parts.items()),
        "Genes": f"{len(schema.genes):,}",
        "Values": f"{schema.kind}, seen as {schema.input_kind}",
        "Conditions": ", ".join(schema.fields) or "none",
        **({"Nested": _nested(model)} if schema.nested else {}),
        "Latent dimensions": f"{mean_nk.shape[1]}, of which {n_dead or 'none'} {'are' if n_dead > 1 else 'is'} dead",
        "Epochs": f"{len(model.history)}, the best {facts['best_epoch']}; {facts['ended']}",
        "Seed": str(facts.get("seed", "unknown")),
        "Made with": versions or "this version",
    }


def _nested(model: Trained) -> str:
    """Return what the report says of conditions that are nested in others."""
    if model.recipe.settings().get("pool_nested", False):
        return ", ".join(f"{each.inner} in {each.outer}, pooled" for each in one_way(model.schema.nested))
    return " ".join(map(str, one_way(model.schema.nested)))


def _was_trained_on(model: Trained, state: Mapping[str, str]) -> bool:
    """Return whether the reference cells of a model include one of this state."""
    try:
        codes = {name: model.schema.categorical_field(name).code(value) for name, value in state.items()}
    except CategoryError:
        return False
    return bool((model.reference.agreement_n(codes) == len(codes)).any())


def _answer(model: Trained, cells: AnnData, condition: Mapping[str, str], seed: int) -> tuple[Numbers, ShiftInterval]:
    """Return each cell in another condition, and the interval of the shift, averaged over the groups of the cells."""
    found = counterfactual(model, cells, condition=dict(condition), n_draws=1, seed=seed)
    if not found.varm:
        unknown_g = np.full(len(model.schema.genes), np.nan)
        return dense(found.X), ShiftInterval(unknown_g, unknown_g, {"model": 1.0})
    members = found.uns["genevae"]["members"]
    share_c = members.groupby("group")["n_cells"].first() / cells.n_obs
    weight_k = (members["weight"] * members["group"].map(share_c)).groupby(members["member"], sort=False).sum()
    lower_g, upper_g = (found.varm[f"shift_{end}"] @ share_c for end in ("lower", "upper"))
    return dense(found.X), ShiftInterval(lower_g.to_numpy(), upper_g.to_numpy(), weight_k.to_dict())


def _training_profiles(model: Trained, field: str, context: str) -> Mapping[tuple[str, str], Numbers]:
    """Return the profiles that the run keeps of its training cells; none where it keeps none of these fields."""
    profiles = None if model.responses is None else model.responses.profiles
    if profiles is None or field not in profiles.fields or (context and context not in profiles.fields):
        return {}
    return profiles.view([field], [context] if context else []).mean


def _gene_embeddings(model: Trained) -> Mapping[str, Numbers]:
    """Return the vector of every gene; none where the decoder has none."""
    try:
        found = gene_embeddings(model, neighbours=0)
    except DataError:
        return {}
    return dict(zip(found.obs_names, found.obsm["X_genevae"], strict=True))


def _likelihoods(model: Trained, cells: AnnData, n_draws: int, seed: int) -> Iterator[Decoded]:
    """Yield what the model says of every cell. Random numbers stay seeded until the last minibatch is taken."""
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, open_cells(model, cells, None, BATCH_SIZE)):
            for part in in_blocks(minibatch, n_draws):
                p = module.likelihood(latents_snk(module, part, n_draws), module.sized(part))
                yield Decoded(part.x, part.condition.size_n1, p, part.condition.measured_ng)


def _log_weights(model: Trained, cells: AnnData, n_draws: int, seed: int) -> Numbers | None:
    """Return log p(x | z) + log p(z) − log q(z | x), draws × cells; a learned size is drawn and weighted too.

    None where the posterior is a single point, which has no density.
    """
    found = []
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, open_cells(model, cells, None, BATCH_SIZE)):
            if not bool((module.posterior(minibatch).scale > 0).all()):
                return None
            at_once = 1 if module.size else max(1, MAX_NUMBERS // (4 * minibatch.n_cells * minibatch.x.n_genes))
            each = [_log_weight(module, minibatch, len(some)) for some in torch.arange(n_draws).split(at_once)]
            found.append(torch.cat(each))
    return np.asarray(torch.cat(found, 1).double().cpu().numpy())


def _log_weight(module: VAE, cells: Cells, n_draws: int) -> Tensor:
    q, condition = module.posterior(cells), cells.condition
    z_snk = q.sample((n_draws,))
    log_weight = log_prior_n(module.prior(condition), z_snk) - q.log_prob(z_snk).sum(-1)
    if module.size is not None:
        q_size, p_size = module.size.posterior(cells), module.size.prior(condition)
        log_size_n1 = q_size.sample()
        log_weight = log_weight + (p_size.log_prob(log_size_n1) - q_size.log_prob(log_size_n1)).sum(-1)
        condition = condition.with_size(log_size_n1.exp())
    log_px_sn: Tensor = module.likelihood(z_snk, condition).log_prob_n(cells.x, condition.measured_ng)
    weighted: Tensor = log_px_sn + log_weight
    return weighted
