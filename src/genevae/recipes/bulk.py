"""System B: bulk expression, with masking in training."""

from __future__ import annotations

from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Annealing, Bound, Masking
from genevae.recipes.gaussian import GaussianModel
from genevae.recipes.recipe import Recipe
from genevae.training.settings import Training

__all__ = ["BOUND", "BULK", "BULK_LARGE"]

BOUND = Bound(
    annealing=Annealing(beta=0.1, beta_schedule="cyclic", beta_ramp=0.5, beta_decay=0.8, beta_curve="cosine"),
    masking=Masking(),
)
BULK = Recipe(
    name="bulk",
    description=DESCRIPTIONS["bulk"],
    model=GaussianModel(n_latent=32, hidden=(512,), activation="elu", dropout=0.3, target_size=1e6, standardise=True),
    objective=BOUND,
    training=Training(
        batch_size=32, learning_rate=1e-3, typical_epochs=90, weight_decay=1e-4, epsilon=1e-8, fresh_norm=True
    ),
)
BULK_LARGE = BULK.variant(
    "bulk-large",
    DESCRIPTIONS["bulk-large"],
    n_latent=128,
    hidden=(4096, 2048, 1024, 512, 256),
    batch_size=128,
)
