"""Posterior and decoder for genes arranged as an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from genevae.cells import Cells, Condition
from genevae.models.posterior import NormalHead
from genevae.nn.image import Convolutions, Layout, TransposedConvolutions
from genevae.nn.mlp import MLP, LayerStyle
from genevae.nn.norm import Dropout
from genevae.nn.one_hot import OneHot

__all__ = ["ImageDecoder", "ImagePosterior"]


class ImagePosterior(nn.Module):
    """A normal posterior: convolutions of the image of a cell, then dense layers.

    The condition is a second channel: a dense layer maps it to one value per pixel.

    Parameters
    ----------
    layout
        The pixel of every gene.
    one_hot
        Encodes the condition as a vector. Without covariates, there is one channel.
    filters, kernel
        Output channels of each convolution, and the side of its kernel.
    hidden
        Width of each dense layer after the convolutions.
    n_latent
        Latent dimensions.
    style
        Normalisation, activation and dropout after each dense layer. The convolutions use the same activation.
    enter
        Function applied to every entry of x first.
    missing
        Whether some cells lack some genes. The input of a missing gene is then a learned value, initially zero.
    """

    def __init__(
        self,
        layout: Layout,
        one_hot: OneHot,
        filters: Sequence[int],
        kernel: int,
        hidden: Sequence[int],
        n_latent: int,
        style: LayerStyle,
        enter: Callable[[Tensor], Tensor],
        missing: bool = False,
    ) -> None:
        super().__init__()
        self.enter, self.layout, self.one_hot = enter, layout, one_hot
        self.condition = nn.Linear(one_hot.n_out, layout.side**2) if one_hot.n_out else None
        self.missing_g = nn.Parameter(torch.zeros(len(layout.place_g))) if missing else None
        n_channels = 1 + (self.condition is not None)
        self.convolutions = Convolutions(layout.side, n_channels, filters, kernel, style.activation)
        self.dense = MLP(self.convolutions.n_out, hidden, style)
        self.head = NormalHead(self.dense.n_out, n_latent)

    def forward(self, cells: Cells) -> Normal:
        """Return q(z | x, c), of ``z_nk``."""
        x_ng = cells.x.dense(self.enter(cells.x.values))
        if self.missing_g is not None and cells.condition.measured_ng is not None:
            x_ng = x_ng + self.missing_g * ~cells.condition.measured_ng
        image = self.layout.to_image(x_ng)
        if self.condition is not None:
            image = torch.cat([image, self.condition(self.one_hot(cells.condition)).view_as(image)], 1)
        q: Normal = self.head(self.dense(self.convolutions(image)))
        return q


class ImageDecoder(nn.Module):
    """One value per gene from z and the condition: a dense layer, then transposed convolutions.

    Parameters
    ----------
    layout
        The pixel of every gene.
    one_hot
        Encodes the condition as a vector.
    n_latent
        Latent dimensions.
    filters, kernel
        Those of the posterior, in reverse order.
    activation
        Constructor of the activation.
    dropout
        Share of the units of the dense layer that each training step sets to zero.
    """

    def __init__(
        self,
        layout: Layout,
        one_hot: OneHot,
        n_latent: int,
        filters: Sequence[int],
        kernel: int,
        activation: Callable[[], nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layout, self.one_hot = layout, one_hot
        self.convolutions = TransposedConvolutions(layout.side, filters, kernel, activation)
        self.dense = nn.Sequential(nn.Linear(n_latent + one_hot.n_out, self.convolutions.n_in), activation())
        self.dropout = Dropout(dropout)

    def forward(self, z: Tensor, condition: Condition) -> Tensor:
        """Map ``(…, n, k)`` to ``(…, n, g)``."""
        c = self.one_hot(condition).expand(*z.shape[:-1], -1)
        h = self.dense(torch.cat([z, c], -1)).flatten(0, -2)
        image: Tensor = self.convolutions(self.dropout(h, condition.shard))
        x_g: Tensor = self.layout.from_image(image).unflatten(0, z.shape[:-1])
        return x_g
