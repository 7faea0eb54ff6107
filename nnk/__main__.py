"""``python -m nnk``: the same as the command ``nnk``."""

import sys

from nnk.cli import main

if __name__ == "__main__":
    sys.exit(main())
