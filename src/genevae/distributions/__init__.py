"""What expression values may be drawn from: one distribution, one file."""

from genevae.distributions.bernoulli import Bernoulli
from genevae.distributions.expression import ExpressionDistribution
from genevae.distributions.negative_binomial import NegativeBinomial
from genevae.distributions.normal import Normal
from genevae.distributions.poisson import Poisson
from genevae.distributions.zero_inflated import ZeroInflated

__all__ = ["Bernoulli", "ExpressionDistribution", "NegativeBinomial", "Normal", "Poisson", "ZeroInflated"]
