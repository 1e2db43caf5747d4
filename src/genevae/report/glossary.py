"""What each metric means, in a line."""

from __future__ import annotations

import re

__all__ = ["meaning"]

MEANINGS: dict[str, str] = {
    # fit
    "log-likelihood of the reconstruction, nats per cell": (
        "How probable a cell is under the distribution that the model gives it after seeing it; the cost of the latent "
        "is not charged, so it flatters."
    ),
    "bound, nats per cell": "At most the log-probability of a cell under the model (ELBO); the latent is charged.",
    "importance-weighted bound, nats per cell": (
        "The same bound with many draws of the latent, which bring it nearer to the true log-probability."
    ),
    "R² per gene, median": "Share of a gene's variance over cells that the expectation explains; of the median gene.",
    "error of variance, doublings": (
        "By how many doublings the expected variance of a gene misses the measured one, on average."
    ),
    "error of the share of zeros": "Mean gap between a gene's expected and measured share of cells without a count.",
    "Pearson of gene means": "Correlation over genes of the mean expression of a category, expected and measured.",
    "coverage of 90 % intervals": "Share of the values that fall in the 90 % intervals; 0.9 is what was promised.",
    "PIT, distance from uniform": (
        "Where values fall in their predicted distributions; if those are right, everywhere equally often. The largest "
        "gap to that (Kolmogorov and Smirnov)."
    ),
    "CRPS": "Distance of a predicted distribution from the value that came (continuous ranked probability score).",
    "predictive p-value": (
        "How often data that the model makes have more of something than the real data; near 0 or 1 they differ."
    ),
    "hidden molecules, Poisson deviance": (
        "Half of each cell's molecules are hidden and foretold from the other half; the error counted as Poisson noise."
    ),
    "hidden molecules, squared error of logarithms": "The same, as the squared error of logarithms.",
    # latent
    "silhouette": "How much nearer a cell lies to its own category than to the next (−1 to 1).",
    "Calinski-Harabasz": "Variance between categories over that within them.",
    "accuracy of 15 neighbours": "How often the 15 nearest cells of other folds tell a cell's category right.",
    "leakage": (
        "How often a condition that the model was given can be read from the latent; it need not be there at all."
    ),
    "leakage (R²)": "The same for numbers: the share of their variance that can be read from the latent.",
    "dead dimensions": "Latent dimensions in which cells hardly differ: their posterior means vary by less than 0.01.",
    "correlation of dimensions": "Mean absolute correlation of two latent dimensions; 0 where each has its own job.",
    "Isolated labels": "Silhouette of the categories that are in the fewest batches, from 0 to 1 (scIB).",
    "KMeans NMI": "Agreement of k-means clusters with labels, as normalised mutual information (scIB).",
    "KMeans ARI": "Agreement of k-means clusters with labels, as the adjusted Rand index (scIB).",
    "Silhouette label": "Silhouette of labels, brought to 0 to 1 (scIB).",
    "cLISI": "How uniform the labels around each cell are, from 0 to 1 (scIB).",
    "BRAS": "How little the batches of one label lie apart, from 0 to 1.",
    "iLISI": "How many batches are mixed around each cell, from 0 to 1 (scIB).",
    "KBET": "Share of the cells around which batches are as frequent as overall (scIB).",
    "Graph connectivity": "Share of each label's cells that hang together in the graph of neighbours (scIB).",
    "PCR comparison": "How much of the variance that the batch explained is gone (scIB).",
    "Bio conservation": "Mean of the scores of biology (scIB).",
    "Batch correction": "Mean of the scores of batches (scIB).",
    "Total": "0.6 of biology and 0.4 of batches (scIB).",
    "gene pairs of one set (AUROC)": "How well the likeness of two genes' vectors tells that they share a gene set.",
    "gene pairs of one set (recall at 5 %)": "Share of the pairs of one set among the most alike 5 % of pairs.",
    # response
    "Pearson of the shift": (
        "Correlation over genes of the predicted and the true change from control; the mean expression cancels out."
    ),
    "Pearson of the shift, calibrated": (
        "The same, where 0 is the baseline to beat and 1 is what the noise of the data allows."
    ),
    "Pearson of the shift from the mean perturbation": (
        "The same, where changes are from the mean of all perturbations: what sets this one apart."
    ),
    "mean squared error of the shift": "Of the predicted change, over genes.",
    "mean absolute error of the shift": "Of the predicted change, over genes.",
    "cosine of the shift": "Cosine of the angle between the predicted and the true change.",
    "squared Pearson of the profile (R² of scGen)": (
        "Of whole profiles, as scGen reports it; near 1 for any profile, since genes differ more than conditions do."
    ),
    "R² of the profile": "Share of the variance of the true profile over genes that the predicted one explains.",
    "agreement of direction": "Share of the genes that truly change whose change has the predicted sign.",
    "E-distance to the true cells": "Energy distance of predicted and true cells, in principal components.",
    "MMD to the true cells": "Maximum mean discrepancy of predicted and true cells: a distance of whole distributions.",
    "discrimination of perturbations": (
        "How much nearer a prediction is to its own perturbation than to the others; 0.5 is chance."
    ),
    # simulation
    "AUC of telling them apart": "How well a random forest tells simulated cells from real ones; 0.5 is chance.",
    "mixing with real cells (iLISI)": "How many kinds, real and simulated, are around each cell; 2 where they mix.",
    "MMD to real cells": "Maximum mean discrepancy of simulated and real cells; 0 where they are alike.",
    "distance to training cells, over that of real cells": (
        "How far a simulated cell is from the nearest training cell, beside a real one; far below 1, it is a copy."
    ),
    "slope of differences between types": "How large simulated differences between types are; 1 as large as real ones.",
    "correlation of differences between types": "Correlation over genes of simulated and real differences of types.",
    # labels
    "accuracy": "Share of the cells whose label is told right.",
    "macro-F1": "Harmonic mean of precision and recall; rare labels count as much as others.",
    "calibration error": "Mean gap between how probable labels are said to be and how often they are right.",
    "area under risk-coverage": "Mean share of wrong labels among the surest cells, over all shares of cells.",
    "AUROC of labels never seen": "How well doubt tells cells of a label that was left out of training.",
}
PATTERNS: dict[str, str] = {
    r"overlap of the top \d+ genes": "Share of the genes that change most that are predicted to.",
    r"distance of .+": (
        "Largest gap between the cumulative shares of simulated and real genes or cells (Kolmogorov and Smirnov)."
    ),
}


def meaning(metric: str) -> str:
    """Return what a metric means; nothing where it is not known.

    >>> meaning("overlap of the top 50 genes")
    'Share of the genes that change most that are predicted to.'
    """
    patterns = (line for pattern, line in PATTERNS.items() if re.fullmatch(pattern, metric))
    return MEANINGS.get(metric) or next(patterns, "")
