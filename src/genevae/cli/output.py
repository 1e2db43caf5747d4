"""Results as files, whole or not at all."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import print as say

from genevae.errors import RunError, nearest
from genevae.training.folder import beside, put_in_place, require_free

__all__ = ["Output"]


def _write_zarr(adata: Any, path: Path) -> None:
    with warnings.catch_warnings():  # which version of the format is written is anndata's choice, not the user's
        warnings.filterwarnings("ignore", message="Writing zarr v2")
        adata.write_zarr(path)


WRITERS: dict[str, dict[str, Callable[[Any, Path], None]]] = {
    "AnnData": {
        ".h5ad": lambda adata, path: adata.write_h5ad(path, compression="gzip"),
        ".zarr": _write_zarr,
    },
    "pd.DataFrame": {
        ".csv": lambda table, path: table.to_csv(path, index_label="cell"),
        ".tsv": lambda table, path: table.to_csv(path, index_label="cell", sep="\t"),
    },
}
"""What each kind of result can be written as; the kind is a task's return annotation."""


ZARR_MARKS = ("zarr.json", ".zgroup")
"""The files by which a folder is a zarr store."""


class Output:
    """A file that a result will be written to, checked before the work begins.

    Parameters
    ----------
    path
        Where.
    task
        The function whose result it is.
    force
        Whether a file that is there is replaced.

    Raises
    ------
    RunError
        If the suffix is unknown, a file is there already, or its folder cannot be written to.
    """

    def __init__(self, path: Path, task: Callable[..., Any], force: bool) -> None:
        writers = WRITERS[task.__annotations__["return"]]
        if path.suffix not in writers:
            raise RunError(f"{path} cannot be written as '{path.suffix}'. {nearest(path.suffix, writers)}")
        require_free(path, force, ZARR_MARKS)
        self.path = path
        self._writer = writers[path.suffix]

    def write(self, result: Any) -> None:
        """Write beside the place, then move there."""
        draft = beside(self.path)
        try:
            self._writer(result, draft)
            put_in_place(draft, self.path)
        except OSError as error:
            raise RunError(f"Cannot write {self.path}: {error.strerror or error}.") from error
        finally:
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            draft.unlink(missing_ok=True)
        say(f"Wrote {self.path}: {len(result):,} cells.")
