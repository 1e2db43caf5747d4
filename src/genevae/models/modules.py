"""Conditional VAEs as plain PyTorch modules on tensors, for training loops of your own.

They are made of the same parts as the recipes. Ten lines train one:

>>> import torch
>>> from genevae.models.modules import CVAE_NB
>>> _ = torch.manual_seed(0)
>>> x, condition = torch.poisson(torch.full((64, 20), 2.0)), torch.randint(3, (64,))
>>> model = CVAE_NB(n_genes=20, n_latent=4, n_conditions=3, hidden=(16,))
>>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
>>> for _ in range(20):
...     loss = model.loss(x, condition)
...     optimizer.zero_grad()
...     loss.backward()
...     _ = optimizer.step()
>>> tuple(model.sample(5, condition=1, size=40.0).shape)
(5, 20)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal as Gaussian

from genevae.cells import Cells, Condition, ExpressionRows
from genevae.distributions import ExpressionDistribution
from genevae.models.likelihoods import (
    Decoder,
    NegativeBinomialLikelihood,
    NormalLikelihood,
    PerGene,
    ZeroInflatedLikelihood,
)
from genevae.models.posterior import MLPPosterior
from genevae.models.prior import StandardNormalPrior
from genevae.models.vae import VAE
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import LayerStyle, identity

__all__ = ["CVAE", "CVAE_NB", "CVAE_ZINB"]


class CVAE(nn.Module):
    """Conditional VAE of log-normalised expression: x ~ Normal(mean(z, c), σ), z ~ N(0, I), one σ per gene.

    Parameters
    ----------
    n_genes
        Genes of x.
    n_latent
        Latent dimensions.
    n_conditions
        Categories of the condition; 0 for a VAE without one.
    hidden
        Width of each hidden layer of the encoder; the decoder has them in reverse.
    dropout
        Share of the hidden units of the encoder that training sets to zero.

    References
    ----------
    Kingma and Welling, ICLR (2014); Sohn, Lee and Yan, NeurIPS (2015).
    """

    input_function: Callable[[Tensor], Tensor] = staticmethod(identity)

    def __init__(
        self,
        n_genes: int,
        n_latent: int = 10,
        n_conditions: int = 0,
        hidden: Sequence[int] = (128,),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_genes, self.n_latent, self.n_conditions = n_genes, n_latent, n_conditions
        categories = {"condition": n_conditions} if n_conditions else {}
        style = LayerStyle(dropout=dropout)
        decoder = Decoder(n_latent, Conditioning(categories), tuple(hidden)[::-1], LayerStyle(dropout=0.0))
        self.vae = VAE(
            MLPPosterior(n_genes, Conditioning(categories), hidden, n_latent, style, self.input_function),
            StandardNormalPrior(n_latent),
            self._likelihood(decoder),
        )

    def _likelihood(self, decoder: Decoder) -> nn.Module:
        return NormalLikelihood(decoder, self.n_genes)

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Gaussian:
        """Return q(z | x, c).

        Parameters
        ----------
        x
            ``(n, g)``.
        condition
            The category of each cell, ``(n,)`` of int64.

        Returns
        -------
        Normal
            Of ``(n, k)``.
        """
        return self.vae.posterior(self._cells(x, condition))

    def decode(
        self, z: Tensor, condition: Tensor | None = None, size: Tensor | float | None = None
    ) -> ExpressionDistribution:
        """Return p(x | z, c).

        Parameters
        ----------
        z
            ``(…, n, k)``.
        condition
            The category of each cell, ``(n,)`` of int64.
        size
            Counts per cell, a number or ``(n, 1)``; only for counts, 10,000 by default.

        Returns
        -------
        ExpressionDistribution
            Of ``(…, n, g)``.
        """
        return self.vae.likelihood(z, self._condition(z.shape[-2], condition, size, z))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[ExpressionDistribution, Gaussian, Tensor]:
        """Return p(x | z, c), q(z | x, c) and a draw of z, ``(n, k)``; sizes are those of x."""
        q = self.encode(x, condition)
        z = q.rsample()
        return self.decode(z, condition, self._size(x)), q, z

    def loss(self, x: Tensor, condition: Tensor | None = None, beta: float = 1.0) -> Tensor:
        """Return −E_q[log p(x | z, c)] + β · KL(q(z | x, c) ‖ N(0, I)), the mean over cells, in nats.

        Parameters
        ----------
        x
            ``(n, g)``.
        condition
            The category of each cell, ``(n,)`` of int64.
        beta
            β.
        """
        terms = self.vae.terms(self._cells(x, condition))
        return (beta * terms.kl_n - terms.log_px_sn.mean(0)).mean()

    @torch.no_grad()
    def sample(self, n: int, condition: int | Tensor | None = None, size: Tensor | float | None = None) -> Tensor:
        """Draw z from the prior, and x from p(x | z, c), in evaluation mode.

        Parameters
        ----------
        n
            Cells.
        condition
            One category for all, or the category of each cell.
        size
            As for :meth:`decode`.

        Returns
        -------
        Tensor
            ``(n, g)``.
        """
        device = next(self.parameters()).device
        codes = torch.full((n,), condition, device=device) if isinstance(condition, int) else condition
        modes = {part: part.training for part in self.modules()}
        self.eval()
        try:
            x: Tensor = self.decode(torch.randn(n, self.n_latent, device=device), codes, size).sample()
        finally:
            for part, mode in modes.items():
                part.training = mode
        return x

    def _cells(self, x: Tensor, condition: Tensor | None) -> Cells:
        if x.ndim != 2 or x.shape[1] != self.n_genes:
            raise ValueError(f"x must be cells × {self.n_genes} genes, not of shape {tuple(x.shape)}")
        given = self._condition(len(x), condition, self._size(x), x)
        return Cells(ExpressionRows.from_dense(x), given, torch.arange(len(x), device=x.device))

    def _condition(self, n: int, condition: Tensor | None, size: Tensor | float | None, like: Tensor) -> Condition:
        if (condition is None) != (self.n_conditions == 0):
            need = (
                "no condition" if self.n_conditions == 0 else f"the category of each cell, 0 to {self.n_conditions - 1}"
            )
            raise ValueError(f"this model takes {need}")
        size_n1 = torch.as_tensor(1e4 if size is None else size, dtype=like.dtype, device=like.device).expand(n, 1)
        return Condition(size_n1, {} if condition is None else {"condition": condition})

    def _size(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True).clamp(min=1e-6)


class CVAE_NB(CVAE):  # noqa: N801 - the name of the method
    """Conditional VAE of counts: x ~ NB(size · softmax(…), θ), with variance mean + mean²/θ and one θ per gene."""

    input_function: Callable[[Tensor], Tensor] = staticmethod(torch.log1p)

    def _likelihood(self, decoder: Decoder) -> nn.Module:
        return NegativeBinomialLikelihood(decoder, self.n_genes, PerGene(self.n_genes))


class CVAE_ZINB(CVAE):  # noqa: N801 - the name of the method
    """Conditional VAE of counts: the negative binomial of :class:`CVAE_NB` with an excess of zeros, π(z, c)."""

    input_function: Callable[[Tensor], Tensor] = staticmethod(torch.log1p)

    def _likelihood(self, decoder: Decoder) -> nn.Module:
        return ZeroInflatedLikelihood(decoder, self.n_genes, PerGene(self.n_genes))
