"""TensorBoard files of a run: curves in training, its latent and pictures at the end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import RunError
from genevae.training.callbacks import Callback
from genevae.training.history import Epoch, History
from genevae.training.state import State

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Write every column of the history as a curve.

    Parameters
    ----------
    folder
        The folder for ``tensorboard --logdir FOLDER``. Later epochs in it, of an earlier attempt, are no longer shown.

    Raises
    ------
    RunError
        If TensorBoard is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RunError("TensorBoard is not installed: pip install 'genevae[tensorboard]'.") from error
        self.folder = folder
        self._make: Any = SummaryWriter
        self._writer: Any = None
        self._last = 0

    def on_start(self, state: State) -> None:
        """Open the files, and continue after the epochs that are done."""
        self._last = state.epoch
        try:
            self._writer = self._make(str(self.folder), purge_step=self._last + 1)
        except OSError as error:
            raise RunError(f"Cannot write {self.folder}: {error.strerror or error}.") from error

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the callback's signature
        """Add a point to every curve, unless it is not finite."""
        self._last = epoch.epoch
        row = History([epoch]).to_frame().iloc[0].drop("epoch")
        for name, value in row.items():
            if math.isfinite(value):
                self._writer.add_scalar(str(name), float(value), epoch.epoch)
        self._writer.flush()

    def on_end(self, state: State) -> None:
        """Write why training ended, and the epoch whose weights were kept."""
        text = f"{state.history.ended}; the best epoch was {state.history.best_epoch + 1}"
        self._writer.add_text("ended", text, self._last)
        self._writer.flush()

    @property
    def is_open(self) -> bool:
        """Whether training has started, so that there are files to add to."""
        return self._writer is not None

    def latent(self, z_nk: NDArray[Any], obs: pd.DataFrame) -> None:
        """Add the latent of some cells to the projector, with their fields as colours and labels."""
        fields = obs.reset_index(names="cell") if "cell" not in obs else obs
        rows = [[" ".join(str(word).split()) or "-" for word in row] for row in fields.to_numpy()]
        header = [str(name) for name in fields.columns]
        self._writer.add_embedding(np.asarray(z_nk), rows, metadata_header=header, global_step=self._last, tag="latent")

    def picture(self, name: str, path: Path) -> None:
        """Show a PNG file."""
        from matplotlib.image import imread

        pixels = (imread(path)[..., :3] * 255).round().astype(np.uint8)
        self._writer.add_image(name, pixels, self._last, dataformats="HWC")

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
