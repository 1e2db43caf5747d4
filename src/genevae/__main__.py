"""`python -m genevae` is the command line."""

from genevae.cli import main

if __name__ == "__main__":
    main()
