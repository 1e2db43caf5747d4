"""There and back again: to another context, which must be found in what comes out, and from there to the cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Cells, ExpressionRows
from genevae.models.additive import Additive
from genevae.models.vae import VAE
from genevae.nn.heads import AdditiveHeads
from genevae.nn.linear import product
from genevae.nn.sharding import drawn, mean_of_all, own_of_first
from genevae.objectives.masking import CategoryDropout
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.running_scale import Influence, RunningScale
from genevae.objectives.schedules import Constant, Schedule

__all__ = ["ContextClassifier", "Cycle", "CyclePass", "draw_targets", "travel"]

N_WATCHED = 16
"""Cells of each minibatch by which the likelihood's σ is kept."""
SMALLEST = 1e-12


class ContextClassifier(nn.Module):
    """Reads the category of every field from expression: one linear layer, side by side for all fields.

    Parameters
    ----------
    n_genes
        Genes of x.
    n_categories
        Categories of each field; a code beyond them is unknown, and is not asked for.
    """

    def __init__(self, n_genes: int, n_categories: Mapping[str, int]) -> None:
        super().__init__()
        self.n_categories = dict(n_categories)
        self.weight_gc = nn.Parameter(torch.zeros(n_genes, sum(n_categories.values())))
        self.bias_c = nn.Parameter(torch.zeros(sum(n_categories.values())))

    def surprise_n(self, logits_nc: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        """Return −log p of each cell's categories, averaged over fields, each in units of chance: log of their number.

        One is what a guess at random gets.
        """
        surprise_n = logits_nc.new_zeros(len(logits_nc))
        parts = logits_nc.split(list(self.n_categories.values()), -1)
        for (name, n), logits in zip(self.n_categories.items(), parts, strict=True):
            each_n = F.cross_entropy(logits, codes[name], ignore_index=n, reduction="none")
            surprise_n = surprise_n + each_n / (math.log(max(n, 2)) * len(parts))
        return surprise_n


def draw_targets(codes: Mapping[str, Tensor], n_categories: Mapping[str, int]) -> dict[str, Tensor]:
    """Draw a category of every field for every cell, each as likely as any; what is unknown stays so."""
    return {
        name: torch.where(code_n < n, drawn(partial(torch.randint, n, device=code_n.device), code_n.shape), code_n)
        for name, n in n_categories.items()
        for code_n in (codes[name],)
    }


@dataclass(frozen=True)
class CyclePass:
    """x under its own context s → x̂ under t → x̂ under s again.

    Parameters
    ----------
    there_nk, back_nk
        Hidden states of x, and of the expression that was made of it under t.
    home_nk
        What the heads are about to write under s again.
    gram_kk
        Products of the columns that write.
    squared_n
        Squared distance of where it ends from where it began, over measured genes.
    logits_real_nc, logits_made_nc
        What the classifier reads from x, and from the expression under t; by the latter it is not changed.
    """

    there_nk: Tensor
    back_nk: Tensor
    home_nk: Tensor
    gram_kk: Tensor
    squared_n: Tensor
    logits_real_nc: Tensor
    logits_made_nc: Tensor


def travel(
    heads: AdditiveHeads, classifier: ContextClassifier, cells: Cells, target: Mapping[str, Tensor]
) -> CyclePass:
    """Take cells to another context and back.

    Writing and reading are linear, so that the expression in between need not be written down: with R what reads, D
    what writes and y what is to be written, x̂ R = y (Dᵀ R), and ‖x − y Dᵀ‖² = ‖x‖² − 2 (x D)·y + y (Dᵀ D) yᵀ. All
    that is as long as the genes are products of weights, and one product of the cells, which are sparse.
    """
    source = cells.condition.codes
    base_gk, read_gk, write_gk = heads.weights()
    n_each = [base_gk.shape[1], read_gk.shape[1], write_gk.shape[1], classifier.weight_gc.shape[1]]
    base_nk, read_nk, write_nk, classes_nc = product(
        cells.x, torch.cat([base_gk, read_gk, write_gk, classifier.weight_gc], 1)
    ).split(n_each, -1)
    writing_gk = torch.cat([base_gk, write_gk], 1)
    to_base, to_read, to_write, to_classes = (
        writing_gk.T @ torch.cat([base_gk, read_gk, write_gk, classifier.weight_gc.detach()], 1)
    ).split(n_each, -1)
    gram_kk = torch.cat([to_base, to_write], -1)
    at_write_nk = torch.cat([base_nk, write_nk], -1)
    there_nk = heads.inwards(torch.cat([base_nk, read_nk], -1), source)
    made_nk = heads.outwards(there_nk, target)
    back_nk = heads.inwards(made_nk @ torch.cat([to_base, to_read], -1), target)
    home_nk = heads.outwards(back_nk, source)
    if cells.condition.measured_ng is None:
        squared_n = cells.x.sum_n(cells.x.values.square()) + (home_nk * (home_nk @ gram_kk - 2 * at_write_nk)).sum(-1)
    else:
        error_ng = cells.x.dense() - home_nk @ writing_gk.T
        squared_n = error_ng.square().masked_fill(~cells.condition.measured_ng, 0).sum(-1)
    return CyclePass(
        there_nk,
        back_nk,
        home_nk,
        gram_kk,
        squared_n,
        classes_nc + classifier.bias_c,
        made_nk @ to_classes + classifier.bias_c.detach(),
    )


class Cycle(Objective):
    """Cycle reconstruction + β · (integration + target consistency), each over its own running scale.

    Every cell is taken to a context in which each field's category is drawn at random, and back:

    - *cycle*: ‖x − x̂(t→s)(x̂(s→t)(x))‖², as a share of the mean ‖x‖²;
    - *integration*: the hidden states of x and of x̂(s→t) agree, ‖z − z'‖² / ½(‖z‖² + ‖z'‖²), averaged over heads;
    - *target*: −log p(t | x̂(s→t)) by a classifier that is trained on real expression only, in units of chance.

    In validation the terms are not divided by their running scales, so that losses of different epochs can be compared.

    Parameters
    ----------
    n_genes
        Genes of x.
    categories
        Of each field.
    beta
        Weight of integration and target consistency beside reconstruction.
    weights
        Of reconstruction, integration and target consistency.
    dropout
        Hides categories in training.
    """

    def __init__(
        self,
        n_genes: int,
        categories: Mapping[str, tuple[str, ...]],
        beta: Schedule = Constant(1.0),  # noqa: B008 - it is frozen
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        dropout: CategoryDropout | None = None,
    ) -> None:
        super().__init__()
        self.n_categories = {name: len(each) for name, each in categories.items()}
        self.classifier = ContextClassifier(n_genes, self.n_categories)
        self.beta = beta
        self.weights = dict(zip(("cycle", "integration", "target"), weights, strict=True))
        self.dropout = dropout
        self.scales = nn.ModuleDict({name: RunningScale() for name in self.weights})
        self.influence = Influence(categories)

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss of a model of heads."""
        if self.training and self.dropout is not None:
            cells = self.dropout(cells)
        model = cast("Additive", model)
        heads = model.heads
        if self.training and heads.scaling == "fitted" and self.scales["cycle"].n_seen == 0:
            heads.fit_scale(cells.x, cells.condition.codes)
        target = draw_targets(cells.condition.codes, self.n_categories)
        journey = travel(heads, self.classifier, cells, target)
        terms = {
            "cycle": journey.squared_n / _mean_square(cells.x),
            "integration": disagreement_n(heads, journey),
            "target": self.classifier.surprise_n(journey.logits_made_nc, target),
        }
        named = {name: term_n.mean().detach() for name, term_n in terms.items()}
        loss_n = self._weigh(terms, progress)
        if not self.training:
            return Loss(loss_n.mean(), named, loss_n.detach())
        reads_n = self.classifier.surprise_n(journey.logits_real_nc, cells.condition.codes)
        n_watched = own_of_first(N_WATCHED)
        model.update_variance(journey.there_nk[:n_watched], cells[:n_watched])
        named |= self.influence(heads, journey.home_nk, journey.gram_kk, cells.condition.codes)
        named["classifier"] = reads_n.mean().detach()
        return Loss((loss_n + reads_n).mean(), named, (loss_n + reads_n).detach())

    def settled(self, progress: Progress) -> bool:
        """Say whether β has reached its target."""
        return self.beta(progress.step, progress.n_steps) == self.beta.target

    def _weigh(self, terms: Mapping[str, Tensor], progress: Progress | None) -> Tensor:
        """Add the terms up; in training, each over its running scale."""
        beta = self.beta(progress.step, progress.n_steps) if progress else self.beta.target
        loss_n = torch.zeros(())
        for name, term_n in terms.items():
            weight = self.weights[name] * (1.0 if name == "cycle" else beta)
            loss_n = loss_n + weight * (self.scales[name](term_n) if self.training else term_n)
        return loss_n


def disagreement_n(heads: AdditiveHeads, journey: CyclePass) -> Tensor:
    """Return ‖z − z'‖² / ½(‖z‖² + ‖z'‖²), averaged over heads: 0 where they agree, 2 where they share nothing."""
    parts = (each.split(heads.hidden_widths, -1) for each in (journey.there_nk, journey.back_nk))
    each_n = [
        (a - b).square().sum(-1) / (0.5 * (a.square().sum(-1) + b.square().sum(-1))).clamp(min=SMALLEST)
        for a, b in zip(*parts, strict=True)
    ]
    return torch.stack(each_n).mean(0)


def _mean_square(x: ExpressionRows) -> Tensor:
    """Return the mean over cells of ‖x‖²."""
    return mean_of_all(x.values.square().sum() / x.n_cells).clamp(min=SMALLEST)
