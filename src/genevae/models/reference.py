"""Reference cells: posteriors and conditions of training cells, kept with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from genevae.cells import Condition
from genevae.models.clusters import Clusters

__all__ = ["Hurdle", "Limits", "Reference"]

OF_GENE, OF_ALL = 2.0, 1.5
"""How many times the largest count of its gene, and of all genes, in training a count of a new cell may be."""


@dataclass(frozen=True)
class Hurdle:
    """Zeros of samples from a Gaussian of log-normalised expression, which has none, and negative values instead.

    Every sample of a gene below its threshold is zero, so that the share of zeros is that of the training cells. The
    others are shifted, so that their mean is that of the training cells' positive values.

    Parameters
    ----------
    threshold_g
        The quantile of the samples at the share of zeros.
    shift_g
        What is added to the other samples.
    """

    threshold_g: Tensor
    shift_g: Tensor

    @classmethod
    def fit(cls, x_ng: Tensor, share_g: Tensor, mean_g: Tensor) -> Self:
        """Fit to samples, the share of zeros, and the mean of positive values, which is zero where there are none."""
        n = len(x_ng)
        n_zero_g = (share_g * n).round().long().clamp(0, n)
        threshold_g = x_ng.sort(0).values.gather(0, n_zero_g.clamp(max=n - 1).unsqueeze(0)).squeeze(0)
        threshold_g = threshold_g.masked_fill(n_zero_g == n, torch.inf)
        above_ng = x_ng >= threshold_g
        sampled_g = (x_ng * above_ng).sum(0) / above_ng.sum(0).clamp(min=1)
        return cls(threshold_g, (mean_g - sampled_g).where(above_ng.any(0), 0.0))

    def apply(self, x_ng: Tensor) -> Tensor:
        """Return samples with zeros, none negative."""
        threshold_g, shift_g = self.threshold_g.to(x_ng), self.shift_g.to(x_ng)
        return (x_ng + shift_g).clamp(min=0).masked_fill(x_ng < threshold_g, 0)


@dataclass(frozen=True)
class Limits:
    """The largest counts among some training cells.

    Negative binomials have heavy tails, and so have learned sizes: some of their samples are far above any count that a
    cell can have.

    Parameters
    ----------
    highest_g
        The largest count of each gene.
    size_range
        The smallest and the largest size of a cell.
    """

    highest_g: Tensor
    size_range: Tensor

    def of_counts(self, size_n1: Tensor) -> Tensor:
        """Return the largest count of each gene in new cells of these sizes, ``n, g``.

        Twice that in training, and 1.5 times that of all genes: samples from a model that fits are hardly ever above.
        Cells that are larger than any in training may have more, in proportion.
        """
        highest_g = self.highest_g.to(size_n1)
        limit_g = (OF_GENE * highest_g).clamp(max=OF_ALL * highest_g.max()).clamp(min=1)
        return (limit_g * (size_n1 / self.size_range[1].to(size_n1)).clamp(min=1)).floor()

    def of_sizes(self, size_n1: Tensor) -> Tensor:
        """Return sizes within those in training."""
        low, high = self.size_range.to(size_n1)
        return size_n1.clamp(low, high)


@dataclass(frozen=True)
class Reference:
    """Posteriors of some training cells with their conditions: the aggregate posterior.

    With it, a model can generate cells like the training cells, and measure how close a prediction is to them, without
    the training data.

    Parameters
    ----------
    mean_nk, scale_nk
        Mean and standard deviation of q(z | x, c).
    condition
        Codes, values and sizes of the same cells.
    hurdle
        What gives samples their zeros, where the model returns log-normalised expression.
    limits
        The largest counts that they have, if they have counts.
    clusters
        Clusters of the cells, with the values of every gene in each; None in runs of earlier versions.
    """

    mean_nk: Tensor
    scale_nk: Tensor
    condition: Condition
    hurdle: Hurdle | None = None
    limits: Limits | None = None
    clusters: Clusters | None = None

    @property
    def n_cells(self) -> int:
        """Number of reference cells."""
        return len(self.mean_nk)

    def agreement_n(self, codes: Mapping[str, int]) -> Tensor:
        """Return the number of given fields in which each reference cell has the given code."""
        agreement = torch.zeros(self.n_cells, dtype=torch.int64, device=self.mean_nk.device)
        for name, code in codes.items():
            agreement += self.condition.codes[name] == code
        return agreement

    def nearest_rows(self, codes: Mapping[str, int]) -> Tensor:
        """Return the rows of the reference cells that agree in the largest number of the given fields."""
        agreement_n = self.agreement_n(codes)
        return (agreement_n == agreement_n.max()).nonzero().squeeze(-1)

    def take(self, row_n: Tensor) -> Self:
        """Return the cells of these rows, without their clusters."""
        mean_nk, scale_nk = self.mean_nk[row_n], self.scale_nk[row_n]
        return replace(
            self, mean_nk=mean_nk, scale_nk=scale_nk, condition=self.condition.map(lambda t: t[row_n]), clusters=None
        )

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        condition = self.condition.map(lambda t: t.to(device))
        return replace(self, mean_nk=self.mean_nk.to(device), scale_nk=self.scale_nk.to(device), condition=condition)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the content as named tensors."""
        limits = self.limits and {"highest_g": self.limits.highest_g, "size_range": self.limits.size_range}
        return {
            **(limits or {}),
            "mean_nk": self.mean_nk,
            "scale_nk": self.scale_nk,
            "size_n1": self.condition.size_n1,
            **{f"codes/{name}": codes for name, codes in self.condition.codes.items()},
            **{f"values/{name}": values for name, values in self.condition.values.items()},
            **({f"hurdle/{name}": t for name, t in vars(self.hurdle).items()} if self.hurdle else {}),
            **({f"clusters/{name}": t for name, t in self.clusters.to_tensors().items()} if self.clusters else {}),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Restore from named tensors."""
        fields = {
            kind: {name.removeprefix(f"{kind}/"): t for name, t in tensors.items() if name.startswith(f"{kind}/")}
            for kind in ("codes", "values", "hurdle", "clusters")
        }
        has_limits = "highest_g" in tensors and "size_range" in tensors  # runs of earlier versions have none
        return cls(
            tensors["mean_nk"],
            tensors["scale_nk"],
            Condition(tensors["size_n1"], fields["codes"], fields["values"]),
            Hurdle(**fields["hurdle"]) if fields["hurdle"] else None,
            Limits(tensors["highest_g"], tensors["size_range"]) if has_limits else None,
            Clusters.from_tensors(fields["clusters"]) if fields["clusters"] else None,
        )
