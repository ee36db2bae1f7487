"""Run the command line as ``python -m nupes``."""

import sys

from nupes.cli import main

if __name__ == "__main__":
    sys.exit(main())
