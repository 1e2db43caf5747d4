"""The tasks as methods of a trained model: ``model.embed(adata)`` is ``gv.embed(model, adata)``."""

from __future__ import annotations

from genevae.tasks.classify import classify
from genevae.tasks.cluster import cluster
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.decode import decode
from genevae.tasks.denoise import denoise
from genevae.tasks.differential_expression import differential_expression
from genevae.tasks.dose_response import dose_response
from genevae.tasks.effect import effect
from genevae.tasks.embed import embed
from genevae.tasks.gene_embeddings import gene_embeddings
from genevae.tasks.generate import generate
from genevae.tasks.influence import contributions, influence
from genevae.tasks.programs import loadings, program_scores

__all__ = ["TaskMethods"]


class TaskMethods:
    """Every task, with the model as its first argument."""

    classify = classify
    cluster = cluster
    contributions = contributions
    counterfactual = counterfactual
    decode = decode
    denoise = denoise
    differential_expression = differential_expression
    dose_response = dose_response
    effect = effect
    embed = embed
    gene_embeddings = gene_embeddings
    generate = generate
    influence = influence
    loadings = loadings
    program_scores = program_scores
