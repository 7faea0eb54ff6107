"""Training: the loop, its callbacks, and runs that survive being killed."""

from .activations import ActivationStats, LayerStats, activation_stats
from .averaging import ExponentialMovingAverage, StochasticWeightAveraging
from .callbacks import Callback, Checkpoint, Curves, HistoryFile
from .checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from .confusion import confusion_matrix, plot_confusion
from .early_stopping import EarlyStopping
from .ensemble import Ensemble, Snapshots, bagging
from .files import new_run_dir
from .lr_range import LRRange, lr_range_test
from .metrics import accuracy, top_k
from .predicting import augmented_probabilities, probabilities
from .progress import Progress
from .recompute_bn import recompute_bn
from .resume import read_run
from .search import Trial, draws, grid, optuna_search, search
from .trainer import Interrupted, NonFiniteError, Trainer

__all__ = [
    "ActivationStats",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Curves",
    "EarlyStopping",
    "Ensemble",
    "ExponentialMovingAverage",
    "HistoryFile",
    "Interrupted",
    "LRRange",
    "LayerStats",
    "NonFiniteError",
    "Progress",
    "Snapshots",
    "StochasticWeightAveraging",
    "Trainer",
    "Trial",
    "accuracy",
    "activation_stats",
    "augmented_probabilities",
    "bagging",
    "confusion_matrix",
    "draws",
    "grid",
    "lr_range_test",
    "new_run_dir",
    "optuna_search",
    "plot_confusion",
    "probabilities",
    "read_checkpoint",
    "read_run",
    "recompute_bn",
    "search",
    "top_k",
    "write_checkpoint",
]
