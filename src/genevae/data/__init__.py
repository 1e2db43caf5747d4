"""From data on disk or in memory to minibatches (:class:`~genevae.cells.Cells`)."""
