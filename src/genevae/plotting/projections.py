"""Points of many dimensions in two, for maps."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.metrics.principal import Principal
from genevae.metrics.sampling import subsample

__all__ = ["MAPS", "TITLES", "Projections", "has_umap", "project_2d"]

_Points = NDArray[np.float32]
N_NEAREST = 3
"""Sampled cells between which any other cell is put."""


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def project_2d(name: str, z_nk: NDArray[Any], seed: int, at_most: int | None = None, n_dimensions: int = 2) -> _Points:
    """Return coordinates of all cells in two dimensions, or three.

    Parameters
    ----------
    name
        One of :data:`MAPS`.
    z_nk
        Points of any number of dimensions.
    seed
        Of all random choices.
    at_most
        Points that t-SNE and UMAP are computed from, sampled where there are more. Each other point is put at the mean
        of the 3 sampled points that are nearest to it in the many dimensions.
    n_dimensions
        Two or three.
    """

    def compute(z: NDArray[Any]) -> NDArray[Any]:
        return MAPS[name](z, seed) if n_dimensions == 2 else MAPS[name](z, seed, n_dimensions)

    if name == "pca" or at_most is None or len(z_nk) <= at_most:
        return np.asarray(compute(z_nk), dtype=np.float32)
    from sklearn.neighbors import NearestNeighbors

    chosen = subsample(np.ones(len(z_nk)), at_most, seed)
    others = np.setdiff1d(np.arange(len(z_nk)), chosen)
    xy = np.empty((len(z_nk), n_dimensions), dtype=np.float32)
    xy[chosen] = compute(z_nk[chosen])
    nearest = NearestNeighbors(n_neighbors=N_NEAREST).fit(z_nk[chosen]).kneighbors(z_nk[others], return_distance=False)
    xy[others] = xy[chosen][nearest].mean(1)
    return xy


def _pca(z: NDArray[Any], seed: int, n: int = 2) -> NDArray[Any]:
    found = Principal.fit(z, n, seed).embed(z)
    return np.pad(found, ((0, 0), (0, n - found.shape[1])))


def _tsne(z: NDArray[Any], seed: int, n: int = 2) -> NDArray[Any]:
    from sklearn.manifold import TSNE

    start: Any = "pca" if z.shape[1] >= n else "random"
    tsne = TSNE(n, perplexity=min(30.0, (len(z) - 1) / 3), init=start, random_state=seed)
    return np.asarray(tsne.fit_transform(z))


def _umap(z: NDArray[Any], seed: int, n: int = 2) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of parts that are not used here
        umap = importlib.import_module("umap").UMAP(
            n_neighbors=min(15, len(z) - 1), n_components=n, random_state=seed, n_jobs=1
        )
        return np.asarray(umap.fit_transform(z))


MAPS: dict[str, Callable[..., NDArray[Any]]] = {"pca": _pca, "tsne": _tsne, "umap": _umap}
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


class Projections(Mapping[str, _Points]):
    """Coordinates of points by title of the map, each computed when it is first needed.

    UMAP and t-SNE take longer than all scores of a report, and only its page needs them.

    Parameters
    ----------
    z_nk, seed, at_most
        As for :func:`project_2d`.
    maps
        Some of :data:`MAPS`.
    """

    def __init__(self, z_nk: NDArray[Any], seed: int, at_most: int | None, maps: list[str]) -> None:
        self._points = z_nk, seed, at_most
        self._names = {TITLES[name]: name for name in maps}
        self._computed: dict[str, _Points] = {}

    def __getitem__(self, title: str) -> _Points:
        """Return coordinates of all points in two dimensions."""
        if title not in self._computed:
            self._computed[title] = project_2d(self._names[title], *self._points)
        return self._computed[title]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the titles."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self._names)
