"""What the tests of the evaluation share."""

from __future__ import annotations

import pytest

from genevae.plotting import projections


@pytest.fixture(scope="module")
def quick_maps():
    """Let the maps, which have their own tests, take no time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tsne", "umap"):
            patch.setitem(projections.MAPS, name, lambda z, seed: z[:, :2])
        yield
