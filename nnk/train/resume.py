"""What identifies a run, so that it is continued only as itself."""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import nnk
from nnk import backend
from nnk.data import ArrayDataset, DataLoader
from nnk.data.augment import describe

from . import files
from .checkpoint import CheckpointError, read_checkpoint

if TYPE_CHECKING:
    from .trainer import Trainer

MOST_DIFFERENCES = 6
KEYS = {"config", "facts", "environment", "epoch", "batch", "lr", "means", "history"}
KEYS |= {"model", "optimizer", "scheduler", "random", "pending", "precision", "gradients", "callbacks", "stopped"}


def read_run(folder: Path) -> dict[str, Any]:
    """Return the checkpoint of the run in ``folder``; raise CheckpointError if there is none that can be read."""
    path = folder / files.CHECKPOINT
    tree = read_checkpoint(path)
    if tree.keys() != KEYS:
        raise CheckpointError(f"{path} is a checkpoint, but not of a run")
    return tree


def facts_of_training(trainer: Trainer) -> dict[str, Any]:
    """Describe model, loss, optimiser and schedule as they are before the first step."""
    scheduler = trainer.scheduler
    return _as_json(
        {
            "model": repr(trainer.model).splitlines(),
            "loss": repr(trainer.loss),
            "optimizer": type(trainer.optimizer).__name__,
            "groups": [
                {name: value for name, value in group.items() if name != "params"}
                for group in trainer.optimizer.param_groups
            ],
            "scheduler": scheduler and {"name": type(scheduler).__name__, **scheduler.state_dict()},
            "scheduler_interval": trainer.scheduler_interval,
            "accumulate": trainer.accumulate,
            **trainer.clipping,
            **({} if trainer.precision.name is None else {"precision": trainer.precision.name}),
            "callbacks": [repr(callback) for callback in trainer.stateful],
        }
    )


def facts_of_data(train: Any) -> dict[str, Any]:
    """Describe the training data as far as it decides which batches come."""
    if not isinstance(train, DataLoader):
        return {"data": type(train).__name__, "batches": len(train) if hasattr(train, "__len__") else None}
    facts: dict[str, Any] = {"data": type(train.dataset).__name__, "samples": len(train.dataset)}
    if isinstance(train.dataset, ArrayDataset):
        facts["arrays"] = [f"{array.dtype} {array.shape[1:]}" for array in train.dataset.arrays]
    facts |= {name: getattr(train, name) for name in ("batch_size", "shuffle", "drop_last", "seed")}
    if train.augment:
        facts["augment"] = [describe(step) for step in train.augment]
    return facts


def environment(device: str | None) -> dict[str, Any]:
    """Describe what else decides the bits of the result; it may differ in a run that goes on elsewhere."""
    return {
        "device": device or "cpu",
        "nnk": nnk.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": backend.get_num_threads(),
        "precision": backend.get_precision(),
    }


def check_same_run(
    tree: dict[str, Any], config: dict[str, Any], facts: dict[str, Any], folder: Path, device: str | None
) -> None:
    """Raise CheckpointError, naming what differs, unless the checkpoint ``tree`` is of this very run.

    A different environment is a warning: the run can go on, but not bit for bit.
    """
    # The config holds what a person chose; what it explains need not be said twice.
    for here, there in ((config, tree["config"]), (facts, tree["facts"])):
        differences = list(_differences(_as_json(here), _as_json(there)))
        if differences:
            more = len(differences) - MOST_DIFFERENCES
            listed = "; ".join(differences[:MOST_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
            raise CheckpointError(f"cannot resume {folder}, it is another run: {listed}")
    differences = list(_differences(environment(device), tree["environment"]))
    if differences:
        warnings.warn(
            f"resuming {folder} in another environment, results may differ in the last digits: "
            + "; ".join(differences),
            stacklevel=4,
        )


def _as_json(value: Any) -> Any:
    """Bring a description to what comes back from a file, where tuples are lists."""
    return json.loads(json.dumps(value))


def _differences(here: Any, there: Any, path: str = "") -> Iterator[str]:
    if isinstance(here, dict) and isinstance(there, dict):
        pairs = {key: (here.get(key), there.get(key)) for key in [*here, *there]}
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        pairs = {str(i): pair for i, pair in enumerate(zip(here, there))}
    else:
        if here != there:
            yield f"{path} is {_short(here)} here and {_short(there)} in the run"
        return
    for key, (mine, theirs) in pairs.items():
        yield from _differences(mine, theirs, f"{path}.{key}" if path else key)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
