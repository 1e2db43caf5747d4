"""Disk and AnnData → :class:`~genevae.cells.Cells`."""
