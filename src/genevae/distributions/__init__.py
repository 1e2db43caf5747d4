"""Distributions of expression values, one per file. They keep the contract of ``torch.distributions``."""

from genevae.distributions.expression import ExpressionDistribution
from genevae.distributions.negative_binomial import NegativeBinomial
from genevae.distributions.normal import Normal
from genevae.distributions.poisson import Poisson
from genevae.distributions.zero_inflated import ZeroInflated

__all__ = ["ExpressionDistribution", "NegativeBinomial", "Normal", "Poisson", "ZeroInflated"]
