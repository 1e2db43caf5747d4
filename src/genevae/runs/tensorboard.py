"""A run as TensorBoard shows it: curves while it trains, and its latent and pictures at the end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import RunError
from genevae.training.history import Epoch, History

__all__ = ["TensorBoard"]


class TensorBoard:
    """Write every column of the history as a curve, and what is shown later beside it.

    Parameters
    ----------
    folder
        What TensorBoard is pointed at: ``tensorboard --logdir FOLDER``. What is there of later epochs, from an earlier
        attempt, is no longer shown.

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

    def start(self, history: History) -> None:
        """Begin, or go on after these epochs."""
        self._last = len(history.epochs)
        try:
            self._writer = self._make(str(self.folder), purge_step=self._last + 1)
        except OSError as error:
            raise RunError(f"Cannot write {self.folder}: {error.strerror or error}.") from error

    def epoch(self, epoch: Epoch) -> None:
        """Add a point to every curve; a number that is not finite is left out."""
        self._last = epoch.epoch
        row = History([epoch]).to_frame().iloc[0].drop("epoch")
        for name, value in row.items():
            if math.isfinite(value):
                self._writer.add_scalar(str(name), float(value), epoch.epoch)
        self._writer.flush()

    def end(self, history: History) -> None:
        """Write down why training ended, and the epoch whose weights were kept."""
        text = f"{history.ended}; the best epoch was {history.best_epoch + 1}"
        self._writer.add_text("ended", text, self._last)
        self._writer.flush()

    @property
    def is_open(self) -> bool:
        """Whether training has begun, so that there is something to add to."""
        return self._writer is not None

    def latent(self, z_nk: NDArray[Any], obs: pd.DataFrame) -> None:
        """Give the projector the latent of some cells, and their fields to colour and label by."""
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
        """Let go of the files."""
        if self._writer is not None:
            self._writer.close()
