"""Training: the loop, its callbacks, and runs that survive being killed."""

from .callbacks import Callback, Checkpoint, Curves, HistoryFile
from .checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from .files import new_run_dir
from .metrics import accuracy
from .progress import Progress
from .recompute_bn import recompute_bn
from .resume import read_run
from .trainer import Interrupted, NonFiniteError, Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Curves",
    "HistoryFile",
    "Interrupted",
    "NonFiniteError",
    "Progress",
    "Trainer",
    "accuracy",
    "new_run_dir",
    "read_checkpoint",
    "read_run",
    "recompute_bn",
    "write_checkpoint",
]
