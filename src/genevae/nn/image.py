"""Genes as the pixels of a square image, and convolutions of such images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Convolutions", "Layout", "TransposedConvolutions", "curve", "smallest_side"]

Activation = Callable[[], nn.Module]


def smallest_side(n_genes: int) -> int:
    """Return the side of the smallest square image that holds so many genes.

    >>> [smallest_side(n) for n in (1, 9, 10, 20_736)]
    [1, 3, 4, 144]
    """
    return math.isqrt(max(n_genes, 1) - 1) + 1


def curve(side: int) -> NDArray[np.int64]:
    """Return the pixels of a square image, numbered row by row, in the order in which a Hilbert curve meets them.

    Pixels that are near each other on the curve are near each other in the image. The curve is that of the next power
    of two, without the pixels beyond the image.

    >>> curve(2).tolist()
    [0, 2, 3, 1]

    References
    ----------
    Hilbert, Mathematische Annalen 38:459 (1891).
    """
    y, x = (each.ravel() for each in np.indices((side, side), dtype=np.int64))
    met = np.zeros(side * side, dtype=np.int64)
    half = 1 << (max(side - 1, 1).bit_length() - 1)
    while half:
        right, low = (x & half) > 0, (y & half) > 0
        met += half * half * (3 * right ^ low)
        x, y = x & (half - 1), y & (half - 1)  # within the quarter, which is turned before it is divided again
        x, y = (np.where(right & ~low, half - 1 - each, each) for each in (x, y))
        x, y = np.where(low, x, y), np.where(low, y, x)
        half //= 2
    return np.argsort(met)


class Layout(nn.Module):
    """The pixel of every gene; the pixels that are left are padding, and hold zero.

    Parameters
    ----------
    place_g
        The pixel of each gene, numbered row by row; no two the same.
    side
        Of the image, in pixels.
    """

    place_g: Tensor

    def __init__(self, place_g: Tensor, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("place_g", place_g, persistent=False)  # it follows from the schema

    def to_image(self, x_ng: Tensor) -> Tensor:
        """Lay genes out: ``(n, g)`` to ``(n, 1, side, side)``."""
        image = x_ng.new_zeros(x_ng.shape[0], self.side**2).index_copy(1, self.place_g, x_ng)
        return image.view(-1, 1, self.side, self.side)

    def from_image(self, image: Tensor) -> Tensor:
        """Take the genes out of ``(n, 1, side, side)``, as ``(n, g)``: what lies in the padding is not looked at."""
        return image.flatten(1).index_select(-1, self.place_g)


def _sides(side: int, n_layers: int) -> list[int]:
    """Return the sides of an image before and after each convolution: each halves it, rounding up."""
    return [-(-side // 2**layer) for layer in range(n_layers + 1)]


def _memory(kernel: int) -> torch.memory_format:
    """Return how images lie in memory: channels last, which is faster.

    PyTorch 2.13 writes beyond its memory in the gradient of a transposed convolution with a kernel of 1, a stride of 2
    and channels last.
    """
    return torch.channels_last if kernel > 1 else torch.contiguous_format


class Convolutions(nn.Module):
    """Convolutions of stride two, each followed by an activation.

    Parameters
    ----------
    side, n_channels
        Of the image that comes in.
    filters
        Channels that each convolution makes.
    kernel
        Side of each kernel, odd.
    activation
        Makes the activation.
    """

    def __init__(self, side: int, n_channels: int, filters: Sequence[int], kernel: int, activation: Activation) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(
            nn.Sequential(nn.Conv2d(n, m, kernel, stride=2, padding=kernel // 2), activation())
            for n, m in itertools.pairwise([n_channels, *filters])
        ))  # fmt: skip
        self.memory = _memory(kernel)
        self.to(memory_format=self.memory)  # type: ignore[call-overload]
        self.n_out = filters[-1] * _sides(side, len(filters))[-1] ** 2

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(n, channels, side, side)`` to ``(n, n_out)``."""
        small: Tensor = self.layers(image.contiguous(memory_format=self.memory))
        return small.permute(0, 2, 3, 1).flatten(1)  # channels last, as it mostly lies in memory


class TransposedConvolutions(nn.Module):
    """The mirror of :class:`Convolutions`: an image of one channel from a small one of many.

    The layer that mirrors a convolution gives back the channels that it was given; where that is the image, half as
    many as it made. A last one, of stride one and without activation, makes one channel of those.

    Parameters
    ----------
    side
        Of the image that comes out.
    filters, kernel, activation
        As those of the convolutions that are mirrored.
    """

    def __init__(self, side: int, filters: Sequence[int], kernel: int, activation: Activation) -> None:
        super().__init__()
        sides = _sides(side, len(filters))[::-1]
        channels = [*filters[::-1], max(1, filters[0] // 2)]
        self.shape = (sides[0], sides[0], channels[0])
        self.n_in = math.prod(self.shape)
        layers: list[nn.Module] = []
        for (n, m), (small, large) in zip(itertools.pairwise(channels), itertools.pairwise(sides), strict=True):
            rest = large - (2 * small - 1)  # 0 for an odd side, 1 for an even one
            layers += [nn.ConvTranspose2d(n, m, kernel, 2, kernel // 2, output_padding=rest), activation()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 1, kernel, padding=kernel // 2))
        self.memory = _memory(kernel)
        self.to(memory_format=self.memory)  # type: ignore[call-overload]

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(n, n_in)`` to ``(n, 1, side, side)``."""
        small = h.unflatten(1, self.shape).permute(0, 3, 1, 2)
        image: Tensor = self.layers(small.contiguous(memory_format=self.memory))
        return image
