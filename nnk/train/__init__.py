"""Training: the loop, its callbacks, and runs that survive being killed."""

from .activations import ActivationStats, LayerStats, activation_stats
from .callbacks import Callback, Checkpoint, Curves, HistoryFile
from .checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from .files import new_run_dir
from .metrics import accuracy
from .progress import Progress
from .recompute_bn import recompute_bn
from .resume import read_run
from .trainer import Interrupted, NonFiniteError, Trainer

__all__ = [
    "ActivationStats",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Curves",
    "HistoryFile",
    "Interrupted",
    "LayerStats",
    "NonFiniteError",
    "Progress",
    "Trainer",
    "accuracy",
    "activation_stats",
    "new_run_dir",
    "read_checkpoint",
    "read_run",
    "recompute_bn",
    "write_checkpoint",
]
