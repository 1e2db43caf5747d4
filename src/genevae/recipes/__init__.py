"""The methods: a recipe is a choice of model, objective and training numbers.

This file knows only their names, so that listing them loads no PyTorch; :mod:`genevae.recipes.registry` has them.
"""

from __future__ import annotations

__all__ = ["DESCRIPTIONS"]

DESCRIPTIONS = {
    "nb": "Conditional VAE of counts, negative binomial: the first choice for UMI counts.",
    "zinb": "Conditional VAE of counts, zero-inflated negative binomial: for protocols with excess zeros.",
    "poisson": "Conditional VAE of counts, Poisson: for counts no more variable than their mean.",
    "gaussian": "Conditional VAE of log-normalised expression, Gaussian; counts are log-normalised first.",
    "conditional": (
        "Gaussian CVAE with embeddings 32/32/16 (cell type, perturbation, experiment), hidden 512-256, "
        "latent 128; labels may be unknown."
    ),
    "bulk": "β-VAE of standardised log expression of bulk samples, with ELU layers; each step masks random genes.",
    "bulk-large": (
        "As bulk, with five hidden layers 4096-2048-1024-512-256: as trained on 20,000 genes of 17,000 samples."
    ),
    "contrastive": (
        "As bulk, and profiles that share a group (--group donor) are pulled together, those of other groups apart."
    ),
    "adversarial": (
        "CVAE-NB whose latent is without the technical batch: an adversary, two thinned views of each cell, and a "
        "correction."
    ),
    "semi": (
        "As adversarial, for cells of which some have a label (--labels FIELD --unlabelled Unknown): each label has a "
        "place in the latent, and missing labels are summed over."
    ),
    "linear": "As nb, with a linear likelihood: each latent dimension has a loading for every gene.",
    "programs": (
        "As linear, with a dimension for each gene set (--gene-sets FILE.gmt), which loads on the genes of its set, "
        "and a few free ones."
    ),
    "dose": "CVAE-NB of drugs and doses: the effect of a drug rises with its dose, as a Hill curve or freely.",
    "cycle": (
        "Cycle-consistency autoencoder of log-normalised expression: a sum of a tied base and one head per condition."
    ),
    "convolutional": "Convolutional CVAE: genes as a square image with pixels from 0 to 1; squared error plus KL.",
    "convolutional-nb": (
        "The same convolutions over log counts, with a negative binomial of each gene's share of the counts."
    ),
}
"""What each recipe is, in one sentence."""
