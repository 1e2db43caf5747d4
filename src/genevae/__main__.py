"""`genevae` and `python -m genevae` are the command line."""

import _signal  # type: ignore[import-not-found]
import sys

if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until the next lines are done, Ctrl-C ends without a traceback

from genevae.runs.signals import ends_cleanly


def main() -> None:
    """Run one command, which signals end cleanly from its first moment, while modules are imported, on."""
    with ends_cleanly(sys.argv[1:]):
        from genevae.cli import main as run

        run()


if __name__ == "__main__":
    main()
