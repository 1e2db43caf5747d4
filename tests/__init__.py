"""The tests are a package, for a worker in a process of its own to find these and not another package's `tests`."""
