"""Drug and dose as one vector: the drug's embedding, scaled by a response that never falls with the dose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.nn.conditioning import Conditioning, Vectors, embedding_width, table_of

__all__ = ["RESOLUTION", "RESPONSES", "DosedConditioning", "Doses", "FreeResponse", "HillResponse", "Response"]

RESOLUTION = 1e-6
"""Of the largest dose: the smallest dose that differs from zero once it is standardised in 32 bits."""
RANGE = 1e-5
"""Of the largest dose: above it, a free response depends on the logarithm of the dose."""
START_EC50 = 0.1
"""Of the largest dose: where the search for an EC50 starts."""
LOG_EC50_LIMIT = 20.0
"""|log EC50 / its start| is kept below this."""
LOG_SLOPE_LIMIT = 2.0
"""|log slope| is kept below this, so that the slope lies between 0.14 and 7.4."""


class Response(nn.Module):
    """h(d) of every drug: 0 at dose 0, never falling, below or at 1."""

    def forward(self, dose_n: Tensor, drug_n: Tensor) -> Tensor:
        """Return ``h_n`` of doses in their own units, 0 or more, of the drugs with these codes."""
        raise NotImplementedError


class HillResponse(Response):
    """h(d) = dⁿ / (dⁿ + EC50ⁿ), with an EC50 and a slope n above zero for every drug.

    Parameters
    ----------
    n_drugs
        Drugs.
    largest
        The largest dose that is expected, in its own units.

    References
    ----------
    Hill, J. Physiol. 40:iv (1910).
    """

    def __init__(self, n_drugs: int, largest: float) -> None:
        super().__init__()
        self.start = math.log(START_EC50 * largest)
        self.shift_c = nn.Parameter(torch.zeros(n_drugs))
        self.log_slope_c = nn.Parameter(torch.zeros(n_drugs))

    @property
    def ec50_c(self) -> Tensor:
        """The dose of half the response of every drug, in its own units."""
        return self._log_ec50_c.exp()

    @property
    def slope_c(self) -> Tensor:
        """The steepness n of every drug."""
        return self.log_slope_c.clamp(-LOG_SLOPE_LIMIT, LOG_SLOPE_LIMIT).exp()

    @property
    def _log_ec50_c(self) -> Tensor:
        return self.start + self.shift_c.clamp(-LOG_EC50_LIMIT, LOG_EC50_LIMIT)

    def forward(self, dose_n: Tensor, drug_n: Tensor) -> Tensor:
        """Return ``h_n``: a logistic curve of log d, and zero at zero, where there is no logarithm."""
        is_dosed = dose_n > 0
        log_dose_n = torch.where(is_dosed, dose_n, 1.0).log()
        h_n = torch.sigmoid(self.slope_c[drug_n] * (log_dose_n - self._log_ec50_c[drug_n]))
        return torch.where(is_dosed, h_n, 0.0)


class FreeResponse(Response):
    """h(d) = Σ_j π_j · (1 − exp(−a_j u)) · σ(a_j u + b_j), u = log(1 + d / s), of any shape that never falls.

    A network of one hidden layer whose weights are positive (a_j > 0, π_j > 0, Σ π_j = 1), less its value at zero and
    scaled to end at one: (σ(a u + b) − σ(b)) / (1 − σ(b)) = (1 − exp(−a u)) · σ(a u + b).

    Parameters
    ----------
    n_drugs
        Drugs.
    largest
        The largest dose that is expected, in its own units; s is a hundred-thousandth of it.
    n_steps
        Hidden units: steps that the curve of each drug is made of.

    References
    ----------
    Sill, Monotonic Networks, NeurIPS (1997).
    """

    def __init__(self, n_drugs: int, largest: float, n_steps: int = 6) -> None:
        super().__init__()
        self.unit = RANGE * largest
        whole = -math.log(RANGE)
        place_j = torch.linspace(0.3, 1.0, n_steps) * whole
        self.weight_cj = nn.Parameter(torch.zeros(n_drugs, n_steps))
        self.rate_cj = nn.Parameter(torch.full((n_drugs, n_steps), math.log(math.expm1(1.0))))
        self.bias_cj = nn.Parameter(-place_j.repeat(n_drugs, 1))

    def forward(self, dose_n: Tensor, drug_n: Tensor) -> Tensor:
        """Return ``h_n``."""
        u_n1 = torch.log1p(dose_n / self.unit).unsqueeze(-1)
        risen_nj = F.softplus(self.rate_cj)[drug_n] * u_n1
        step_nj = -torch.expm1(-risen_nj) * torch.sigmoid(risen_nj + self.bias_cj[drug_n])
        return (self.weight_cj.softmax(-1)[drug_n] * step_nj).sum(-1)


RESPONSES: dict[str, Callable[[int, float], Response]] = {"hill": HillResponse, "free": FreeResponse}


class Doses(nn.Module):
    """Standardised values back in their own units; values below a millionth of the largest dose are zero.

    Parameters
    ----------
    mean, scale
        What standardised them.
    largest
        The largest dose seen, in its own units.
    """

    def __init__(self, mean: float, scale: float, largest: float) -> None:
        super().__init__()
        self.mean, self.scale, self.smallest = mean, scale, RESOLUTION * largest

    def forward(self, value_n: Tensor) -> Tensor:
        """Return ``dose_n``."""
        dose_n = value_n * self.scale + self.mean
        return torch.where(dose_n > self.smallest, dose_n, 0.0)


class DosedConditioning(Conditioning):
    """Embeddings of the other fields, beside Σ_parts embedding(drug) · h_drug(dose).

    The control, and any drug at dose zero, are the same point: zero.

    Parameters
    ----------
    drug, dose
        Names of the categorical and of the continuous field.
    doses
        Gives the doses back their units.
    response
        h of every code of the drug.
    n_categories, continuous, widths, parts, vectors
        As :class:`Conditioning` takes them, the drug and the dose among them.
    control
        The code of the control, whose effect is zero at every dose.
    """

    def __init__(
        self,
        drug: str,
        dose: str,
        doses: Doses,
        response: Response,
        *,
        n_categories: Mapping[str, int],
        continuous: Sequence[str] = (),
        widths: Sequence[int] = (),
        parts: Mapping[str, Sequence[Sequence[int]]] | None = None,
        vectors: Mapping[str, Vectors] | None = None,
        control: int | None = None,
    ) -> None:
        parts, vectors = parts or {}, vectors or {}
        width_of = dict(zip(n_categories, widths, strict=False))
        others = {name: n for name, n in n_categories.items() if name != drug}
        super().__init__(
            others,
            [name for name in continuous if name != dose],
            [width_of.get(name, embedding_width(n)) for name, n in others.items()],
            {name: codes for name, codes in parts.items() if name != drug},
            vectors=vectors,
        )
        self.drug, self.dose = drug, dose
        self.doses, self.response = doses, response
        n_drugs = n_categories[drug]
        self.effect = DoseEffect(
            parts.get(drug, [(code,) for code in range(n_drugs)]),
            width_of.get(drug, embedding_width(n_drugs)),
            control,
            vectors.get(drug),
        )
        self.n_out += self.effect.n_out

    def forward(self, condition: Condition) -> Tensor:
        """Return ``(n, n_out)``."""
        dose_n = self.doses(condition.values[self.dose])
        effect = self.effect(condition.codes[self.drug], dose_n, self.response)
        return torch.cat([super().forward(condition), effect], -1)


class DoseEffect(nn.Module):
    """Σ_parts embedding(part) · h_part(dose): the parts of a combination A+B are both given at the dose.

    Parameters
    ----------
    parts
        The codes that each drug is the sum of; its own, for one that is no combination.
    width
        Of the embeddings.
    control
        The code that has no effect.
    vectors
        The vector of each drug, where they have some.
    """

    part_cm: Tensor
    counts_cm: Tensor

    def __init__(
        self, parts: Sequence[Sequence[int]], width: int, control: int | None, vectors: Vectors | None = None
    ) -> None:
        super().__init__()
        self.n_out = width
        self.embedding = table_of(len(parts), width, vectors)
        most = max(map(len, parts))
        padded = [[*codes, *[0] * (most - len(codes))] for codes in parts]
        counts = [[float(code != control) for code in codes] + [0.0] * (most - len(codes)) for codes in parts]
        self.register_buffer("part_cm", torch.tensor(padded), persistent=False)
        self.register_buffer("counts_cm", torch.tensor(counts), persistent=False)

    def forward(self, drug_n: Tensor, dose_n: Tensor, response: Response) -> Tensor:
        """Return ``(n, width)``."""
        part_nm = self.part_cm[drug_n]
        h_nm = response(dose_n.unsqueeze(-1).expand(part_nm.shape).flatten(), part_nm.flatten()).view(part_nm.shape)
        effect_nmh: Tensor = (h_nm * self.counts_cm[drug_n]).unsqueeze(-1) * self.embedding(part_nm)
        return effect_nmh.sum(-2)
