"""`python -m bench` and `nnk bench`: the bench of single ops."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from ops import main

main()
