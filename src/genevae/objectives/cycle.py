"""Cycle consistency: a cell is translated to another context, which a classifier must recognise, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genevae.cells import Cells, Shard
from genevae.models.additive import Additive
from genevae.models.vae import VAE
from genevae.nn.heads import AdditiveHeads
from genevae.nn.linear import product
from genevae.nn.sharding import all_mean, draw, n_of_first
from genevae.objectives.masking import CategoryDropout
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.objectives.running_scale import Influence, RunningScale
from genevae.objectives.schedules import Constant, Schedule

__all__ = ["ContextClassifier", "Cycle", "CyclePass", "missing_share_n", "random_targets", "translate_and_back"]

N_FOR_VARIANCE = 16
"""Cells of each minibatch that update the likelihood's σ."""
SMALLEST = 1e-12


class ContextClassifier(nn.Module):
    """Predicts the category of every field from expression, by one linear layer.

    Parameters
    ----------
    n_genes
        Genes of x.
    n_categories
        Categories of each field; a code beyond them is unknown, and does not count.
    """

    def __init__(self, n_genes: int, n_categories: Mapping[str, int]) -> None:
        super().__init__()
        self.n_categories = dict(n_categories)
        self.weight_gc = nn.Parameter(torch.zeros(n_genes, sum(n_categories.values())))
        self.bias_c = nn.Parameter(torch.zeros(sum(n_categories.values())))

    def cross_entropy_n(self, logits_nc: Tensor, codes: Mapping[str, Tensor]) -> Tensor:
        """Return −log p of each cell's categories over log C, averaged over fields, with C categories of the field.

        A random prediction has 1.
        """
        cross_entropy_n = logits_nc.new_zeros(len(logits_nc))
        parts = logits_nc.split(list(self.n_categories.values()), -1)
        for (name, n), logits in zip(self.n_categories.items(), parts, strict=True):
            log_p_cn = F.log_softmax(logits.T.contiguous(), 0)  # twice as fast along the cells
            each_n = F.nll_loss(log_p_cn.T, codes[name], ignore_index=n, reduction="none")
            cross_entropy_n = cross_entropy_n + each_n / (math.log(max(n, 2)) * len(parts))
        return cross_entropy_n


def random_targets(
    codes: Mapping[str, Tensor], n_categories: Mapping[str, int], shard: Shard | None = None
) -> dict[str, Tensor]:
    """Draw a category of every field for every cell, uniformly; unknown categories stay unknown."""
    return {
        name: torch.where(
            code_n < n, draw(partial(torch.randint, n, device=code_n.device), code_n.shape, shard), code_n
        )
        for name, n in n_categories.items()
        for code_n in (codes[name],)
    }


@dataclass(frozen=True)
class CyclePass:
    """x under its own context s → x̂ under t → x̂ under s again.

    Parameters
    ----------
    z_source_nk, z_target_nk
        Hidden states of x, and of its translation to t.
    translated_nk, y_nk
        Last hidden units of the translation to t, and of that back to s.
    translated_onto_nk, y_onto_nk
        The same, times Dᵀ D.
    last_gk, gram_kk
        The last layer D, without a gradient, and Dᵀ D.
    squared_n
        ‖x − x̂‖² of each cell, over measured genes.
    logits_real_nc, logits_translated_nc
        Logits of the classifier for x, and for the translation to t, which does not train it.
    """

    z_source_nk: Tensor
    z_target_nk: Tensor
    translated_nk: Tensor
    y_nk: Tensor
    translated_onto_nk: Tensor
    y_onto_nk: Tensor
    last_gk: Tensor
    gram_kk: Tensor
    squared_n: Tensor
    logits_real_nc: Tensor
    logits_translated_nc: Tensor


def translate_and_back(
    heads: AdditiveHeads, classifier: ContextClassifier, cells: Cells, target: Mapping[str, Tensor]
) -> CyclePass:
    """Translate cells to another context and back.

    The first layer R and the last layer D are linear, so that the expression in between is never computed: with y the
    last hidden units, x̂ R = y (Dᵀ R), and ‖x − y Dᵀ‖² = ‖x‖² − 2 (x D)·y + y (Dᵀ D) yᵀ. Only products of weights,
    and one product of the cells, which are sparse, have the length of the genes.
    """
    source = cells.condition.codes
    n_base, n_last, n_classes = heads.widths[0], sum(heads.widths), classifier.weight_gc.shape[1]
    n_each = [n_last, n_last - n_base, n_classes]
    weight_gk = heads.weights(classifier.weight_gc)
    onto_last_nk, read_nk, classes_nc = product(cells.x, weight_gk).split(n_each, -1)
    onto_all_kk: Tensor = _Gram.apply(weight_gk, n_last, n_classes)  # type: ignore[no-untyped-call]
    gram_kk = onto_all_kk[:, :n_last]
    z_source_nk = heads.encode_hidden(torch.cat([onto_last_nk[:, :n_base], read_nk], -1), source)
    translated_nk = heads.decode_hidden(z_source_nk, target)
    translated_onto_nk, translated_read_nk, translated_classes_nc = (translated_nk @ onto_all_kk).split(n_each, -1)
    z_target_nk = heads.encode_hidden(torch.cat([translated_onto_nk[:, :n_base], translated_read_nk], -1), target)
    y_nk = heads.decode_hidden(z_target_nk, source)
    y_onto_nk = y_nk @ gram_kk
    if cells.condition.measured_ng is None:
        squared_n = cells.x.sum_n(cells.x.values.square()) + (y_nk * (y_onto_nk - 2 * onto_last_nk)).sum(-1)
    else:
        error_ng = cells.x.dense() - y_nk @ weight_gk[:, :n_last].T
        squared_n = error_ng.square().masked_fill(~cells.condition.measured_ng, 0).sum(-1)
    return CyclePass(
        z_source_nk,
        z_target_nk,
        translated_nk,
        y_nk,
        translated_onto_nk,
        y_onto_nk,
        weight_gk.detach()[:, :n_last],
        gram_kk,
        squared_n,
        classes_nc + classifier.bias_c,
        translated_classes_nc + classifier.bias_c.detach(),
    )


class _Gram(torch.autograd.Function):
    """Dᵀ W, of the first columns D of W; the last columns of W, a classifier's, have no gradient."""

    @staticmethod
    def forward(ctx: Any, weight_gk: Tensor, n_first: int, n_fixed: int) -> Tensor:
        ctx.save_for_backward(weight_gk)
        ctx.n_first, ctx.n_fixed = n_first, n_fixed
        return weight_gk[:, :n_first].T @ weight_gk

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_kk: Tensor) -> tuple[Tensor, None, None]:
        (weight_gk,) = ctx.saved_tensors
        gradient_gk, n = torch.empty_like(weight_gk), weight_gk.shape[1] - ctx.n_fixed
        gradient_gk[:, n:].zero_()
        torch.mm(weight_gk[:, : ctx.n_first], grad_kk[:, :n], out=gradient_gk[:, :n])
        gradient_gk[:, : ctx.n_first].addmm_(weight_gk, grad_kk.T)
        return gradient_gk, None, None


class Cycle(Objective):
    """Cycle reconstruction + β · (integration + target consistency), each over its own running scale.

    Every cell is translated to a random category of every field, and back:

    - *cycle*: ‖x − x̂(t→s)(x̂(s→t)(x))‖², as a share of the mean ‖x‖²;
    - *integration*: the hidden states of x and of x̂(s→t) agree, ‖z − z'‖² / ½(‖z‖² + ‖z'‖²), averaged over heads;
    - *target*: −log p(t | x̂(s→t)) over log of the number of categories, by a classifier that is trained on real
      expression only.

    In validation the terms are not divided by their running scales, so that epochs can be compared.

    In training a penalty keeps the heads of the fields from saying what all cells share: with b_n = ‖base‖/‖x̂(s→t)‖,
    (max(0, share − b_n) / share)², which is zero wherever the base adds its share.

    Parameters
    ----------
    n_genes
        Genes of x.
    categories
        Of each field.
    beta
        Weight of integration and target consistency.
    weights
        Of reconstruction, integration and target consistency.
    dropout
        Replaces categories by “unknown” in training.
    base_share
        The share of the norm of the prediction that the base adds at least; zero leaves it free.
    """

    def __init__(
        self,
        n_genes: int,
        categories: Mapping[str, tuple[str, ...]],
        beta: Schedule = Constant(1.0),  # noqa: B008 - it is frozen
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        dropout: CategoryDropout | None = None,
        base_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_categories = {name: len(each) for name, each in categories.items()}
        self.classifier = ContextClassifier(n_genes, self.n_categories)
        self.beta = beta
        self.weights = dict(zip(("cycle", "integration", "target"), weights, strict=True))
        self.dropout = dropout
        self.base_share = base_share
        self.scales = nn.ModuleDict({name: RunningScale() for name in self.weights})
        self.influence = Influence(categories)

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss of an additive model."""
        if self.training and self.dropout is not None:
            cells = self.dropout(cells)
        model = cast("Additive", model)
        heads = model.heads
        if self.training and heads.scaling == "fitted" and self.scales["cycle"].n_seen == 0:
            heads.fit_scale(cells.x, cells.condition.codes, cells.shard)
        target = random_targets(cells.condition.codes, self.n_categories, cells.shard)
        cycle = translate_and_back(heads, self.classifier, cells, target)
        terms = {
            "cycle": cycle.squared_n / _mean_square(cells),
            "integration": disagreement_n(heads, cycle),
            "target": self.classifier.cross_entropy_n(cycle.logits_translated_nc, target),
        }
        named = {name: term_n.mean().detach() for name, term_n in terms.items()}
        loss_n = self._weigh(terms, progress, cells.shard)
        if not self.training:
            return Loss(loss_n.mean(), named, loss_n.detach())
        classifier_n = self.classifier.cross_entropy_n(cycle.logits_real_nc, cells.condition.codes)
        n_first = n_of_first(N_FOR_VARIANCE, cells.shard)
        first = cells[:n_first]
        hidden_nk = heads.decode_hidden(cycle.z_source_nk[:n_first].detach(), first.condition.codes)
        model.update_variance(hidden_nk.detach() @ cycle.last_gk.T, first, cells.shard)
        named |= self.influence(heads, cycle.y_nk, cycle.y_onto_nk, cycle.gram_kk, cells)
        named["classifier"] = classifier_n.mean().detach()
        loss_n = loss_n + classifier_n
        if self.base_share and heads.fields:
            missing_n = missing_share_n(heads, cycle, self.base_share)
            named["base"] = missing_n.mean().detach()
            loss_n = loss_n + missing_n
        return Loss(loss_n.mean(), named, loss_n.detach())

    def settled(self, progress: Progress) -> bool:
        """Whether β has reached its target."""
        return self.beta(progress.step, progress.n_steps) == self.beta.target

    def _weigh(self, terms: Mapping[str, Tensor], progress: Progress | None, shard: Shard | None) -> Tensor:
        """Add up the terms; in training, each over its running scale."""
        beta = self.beta(progress.step, progress.n_steps) if progress else self.beta.target
        loss_n = torch.zeros(())
        for name, term_n in terms.items():
            weight = self.weights[name] * (1.0 if name == "cycle" else beta)
            loss_n = loss_n + weight * (self.scales[name](term_n, shard) if self.training else term_n)
        return loss_n


def disagreement_n(heads: AdditiveHeads, cycle: CyclePass) -> Tensor:
    """Return ‖z − z'‖² / ½(‖z‖² + ‖z'‖²), averaged over heads: 0 where they agree, 2 where they are orthogonal."""
    a_nk, b_nk = cycle.z_source_nk, cycle.z_target_nk
    apart_nh = (a_nk - b_nk).square() @ heads.unit_of_head_kh
    length_nh = (0.5 * (a_nk.square() + b_nk.square())) @ heads.unit_of_head_kh
    return (apart_nh / length_nh.clamp(min=SMALLEST)).mean(-1)


def missing_share_n(heads: AdditiveHeads, cycle: CyclePass, share: float) -> Tensor:
    """Return (max(0, share − ‖base‖/‖x̂(s→t)‖) / share)²: 0 where the base adds its share, 1 without a base.

    Parameters
    ----------
    heads
        The heads.
    cycle
        Gives the last hidden units, and the gram matrix by which norms need no expression.
    share
        Above zero.
    """
    y_nk, gram_kk = cycle.translated_nk, cycle.gram_kk
    k = heads.widths[0]
    added_n = (y_nk[:, :k] @ gram_kk[:k, :k] * y_nk[:, :k]).sum(-1)
    total_n = (cycle.translated_onto_nk * y_nk).sum(-1)
    base_n = (added_n.clamp(min=SMALLEST) / total_n.clamp(min=SMALLEST)).sqrt()
    return ((share - base_n).clamp(min=0) / share).square()


def _mean_square(cells: Cells) -> Tensor:
    """Return the mean over cells of ‖x‖²."""
    return all_mean(cells.x.values.square().sum() / cells.n_cells, cells.shard).clamp(min=SMALLEST)
