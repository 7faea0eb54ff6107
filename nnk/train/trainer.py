"""The loop that trains a model, and what makes it stop, save and go on."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import nnk
from nnk import backend, nn, optim, random
from nnk.data import DataLoader
from nnk.nn.arguments import integer, only
from nnk.optim.optimizer import check_clipping

from . import files
from .batches import asarray_like, device_of, pairs, source
from .callbacks import Callback, Checkpoint, Curves, HistoryFile
from .checkpoint import write_checkpoint
from .graph import StepGraphs
from .interrupt import Interrupt
from .metrics import Means, accuracy
from .precision import MixedPrecision
from .predicting import inference, outputs
from .resume import check_same_run, environment, facts_of_data, facts_of_training, read_run
from .step import Step

LOOK_EVERY = 50  # batches, on a GPU, between two looks at whether the loss is finite


class NonFiniteError(ArithmeticError):
    """The loss became NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended the training, after the running step and a checkpoint."""


class Trainer:
    """Trains a model, evaluates it, and predicts with it.

    A step is ``loss = criterion(model(x), y)``, the backward pass through both and ``optimizer.step()``. The
    training mode is set for it; evaluation and prediction run in eval mode and save nothing for a backward.

    A model on a GPU (``model.to("cuda")``) is trained there: batches are brought to it, arrays that fit stay there and
    are augmented there. Losses and metrics are read when they are shown, or saved, and every 50 batches, so a loss that
    is not finite is noticed some steps late; no checkpoint holds what came of it.

    With ``out``, a run directory is kept: config.json, history.csv, curves.png (where matplotlib is installed),
    model.safetensors (the final ``state_dict``) and checkpoint.safetensors, which holds all that a run is. A run
    that died at any moment goes on from there with the same call and ``resume=True``, and ends with the very
    bits it would have had without the interruption (on the same backend with the same number of threads).

    Args:
        model: the module to train.
        optimizer: from `nnk.optim`, over the model's parameters; None is ``Adam(model.parameters())``.
        loss: a loss module; None is ``CrossEntropyLoss()``.
        scheduler: a learning-rate schedule for ``optimizer``.
        scheduler_interval: "step" or "epoch", when ``scheduler.step()`` is called; None is "step" for OneCycleLR
            and CyclicLR, which count in batches, and "epoch" for the others. ReduceLROnPlateau hears the loss of each
            epoch: that over the validation data where there is any.
        metrics: functions ``(output, target) -> mean over the batch`` by name, reported beside the loss; None is
            ``{"accuracy": accuracy}`` with CrossEntropyLoss and nothing with another loss.
        batch_size: batch size for data given as arrays or as an `ArrayDataset`.
        seed: seed of the order of such data; None draws one from the generator of `nnk.manual_seed`.
        accumulate: make one update from the gradients g of so many batches: Σ n g / Σ n over their numbers of samples
            n, that of one large batch in little memory (norms still see the small ones). What is left at the end of
            an epoch makes an update of its own. Schedules that step per step do so per update.
        clip_norm: scale the gradients of each update, as `nnk.nn.utils.clip_grad_norm_` does, so that all together
            have at most this norm.
        clip_value: bring each element of the gradients into the range ±clip_value. Only one of the two can be given.
        graph: on a GPU, repeat the step as one CUDA graph (`nnk.train.graph`). None does so where modules, loss,
            optimizer and metrics are all nnk's own and accumulate is 1; True with others too, which must not compute
            on the host what changes from step to step, and raises where it cannot be done; False does not.
        precision: "bf16" or "fp16" trains a float32 model on a GPU in mixed precision (`nnk.train.precision`); with
            "fp16" the history has a column of the updates skipped so far. None is float32.
        callbacks: more callbacks; those that keep a state come before the run directory's own, the others after.
        out: the run directory; None keeps no files.
        config: JSON-ready facts that belong to the run (names, rates, …). They are kept in config.json, and a
            run continues only with an equal config.

    Raises:
        TypeError: ``model``, ``optimizer``, ``loss``, ``scheduler`` or ``metrics`` is something else, such as a class;
            ``batch_size`` or ``accumulate`` is no int, ``clip_norm`` or ``clip_value`` no number, or ``callbacks``
            is no list of `Callback`.
        ValueError: an unknown ``scheduler_interval``, or "step" with ReduceLROnPlateau; ``batch_size`` or
            ``accumulate`` below 1; a negative ``clip_norm``, a ``clip_value`` that is not above 0, or both; an unknown
            ``precision``; ``graph=True`` with an ``accumulate`` above 1.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: optim.Optimizer | None = None,
        loss: nn.Module | None = None,
        scheduler: Any = None,
        scheduler_interval: str | None = None,
        metrics: dict[str, Callable[[Any, Any], float]] | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        graph: bool | None = None,
        precision: str | None = None,
        callbacks: Sequence[Callback] = (),
        out: str | Path | None = None,
        config: dict[str, Any] | None = None,
    ):
        made = (("model", model, nn.Module), ("optimizer", optimizer, optim.Optimizer), ("loss", loss, nn.Module))
        for name, value, kind in made:
            if not isinstance(value, kind) and (value is not None or name == "model"):
                raise TypeError(f"{name} is {value!r}, expected an instance of {kind.__module__}.{kind.__name__}")
        if scheduler is not None and not (hasattr(scheduler, "step") and hasattr(scheduler, "state_dict")):
            raise TypeError(f"scheduler is {scheduler!r}, expected one of nnk.optim.lr_scheduler")
        if metrics is not None and not (isinstance(metrics, dict) and all(map(callable, metrics.values()))):
            raise TypeError(f"metrics is {metrics!r}, expected a dict of functions by name, as in {{'top5': top5}}")
        if not isinstance(callbacks, (list, tuple)):
            raise TypeError(f"callbacks is {callbacks!r}, expected a list of instances of nnk.train.Callback")
        if scheduler_interval not in (None, "step", "epoch"):
            raise ValueError(f"scheduler_interval is {scheduler_interval!r}, expected 'step', 'epoch' or None")
        if isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau):
            only(scheduler_interval, "scheduler_interval with ReduceLROnPlateau", None, "epoch")
        if scheduler_interval is None:
            scheduler_interval = "step" if type(scheduler).__name__ in ("OneCycleLR", "CyclicLR") else "epoch"
        self.model = model
        self.optimizer = optim.Adam(model.parameters()) if optimizer is None else optimizer
        self.loss = nn.CrossEntropyLoss() if loss is None else loss
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        if metrics is None:
            metrics = {"accuracy": accuracy} if isinstance(self.loss, nn.CrossEntropyLoss) else {}
        self.metrics = metrics
        self.batch_size = integer(batch_size, "batch_size", least=1)
        self.seed = seed
        self.out = None if out is None else Path(out)
        self.accumulate = integer(accumulate, "accumulate", least=1)
        check_clipping(clip_norm, clip_value)
        clipping = {"clip_norm": clip_norm, "clip_value": clip_value}
        self.clipping = {name: float(value) for name, value in clipping.items() if value is not None}
        self.precision = MixedPrecision(precision)
        if self.accumulate > 1 and graph:
            raise ValueError(f"graph is True with accumulate {accumulate}, whose steps differ from one another")
        self._step = Step(model, self.loss, self.optimizer, metrics, self.accumulate, self.clipping, self.precision)
        self._graphs = StepGraphs(self._step, graph)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks holds {callback!r}, expected instances of nnk.train.Callback")
        own = [] if out is None else [Checkpoint(), HistoryFile(), Curves()]
        self.stateful = [c for c in callbacks if type(c).state_dict is not Callback.state_dict]
        self.callbacks = [*self.stateful, *own, *(c for c in callbacks if c not in self.stateful)]
        self.config = dict(config or {})
        self.facts = facts_of_training(self)

        self.epoch = 0  # epochs done
        self.batch = 0  # batches of the current epoch done
        self.epochs = 0  # epochs to be done in all
        self.batches: int | None = None  # per epoch, where known
        self.samples: int | None = None  # per epoch, where known
        self.lr: float | None = None  # of the last step, of the first group of parameters
        self.history: list[dict[str, float]] = []
        self.pending = 0  # samples whose gradients wait for the rest of their group of batches
        self.stopped = False
        self._saved: tuple[int, int] | None = None
        self._interrupt = Interrupt()
        self._calling = False  # callbacks, which may be half done, or have put other weights into the model

    def __repr__(self) -> str:
        parts = (type(part).__name__ for part in (self.model, self.optimizer, self.loss))
        return f"Trainer({', '.join(parts)}, batch_size={self.batch_size}, epoch={self.epoch})"

    @property
    def means(self) -> Means:
        """The means of this epoch."""
        return self._step.means

    def fit(self, train: Any, val: Any = None, epochs: int = 1, *, resume: bool = False) -> list[dict[str, float]]:
        """Train for ``epochs`` epochs and return the history, one dict per epoch.

        A row holds epoch, lr (of its last step), the mean loss and metrics over the training batches as they were
        seen, and with ``val`` the same over ``val`` as val_loss and so on.

        Args:
            train: (inputs, targets) as two arrays, an `ArrayDataset` (both are shuffled anew every epoch), a
                `DataLoader`, or any iterable of batches (input, target) that can be iterated once per epoch.
            val: the same for evaluation after every epoch.
            epochs: how many epochs to train; with ``resume``, how many the run has in all.
            resume: go on from the checkpoint in ``out``.

        Raises:
            CheckpointError: nothing, nothing readable or another run is there to resume from.
            FileExistsError: ``out`` holds a run already, and ``resume`` is not set.
            Interrupted: after Ctrl-C, once the step is done and saved.
            NonFiniteError: the loss is NaN or infinite; names the first layer whose output was.
            TypeError, ValueError: data of the wrong kind, or epochs without a batch.
        """
        epochs = integer(epochs, "epochs", least=1)
        tree = self._open(resume)
        seed = tree["facts"].get("seed") if tree is not None and self.seed is None else self.seed
        self.precision.check(self.model)
        device = device_of(self.model)
        train = source("train", train, self.batch_size, shuffle=True, seed=seed, device=device)
        val = None if val is None else source("val", val, self.batch_size, device=device)
        self.facts |= facts_of_data(train)
        if tree is not None:
            check_same_run(tree, self.config, self.facts, self.out, device)
            self._restore(tree)
        self.epochs = epochs if resume else self.epoch + epochs
        self.stopped = self.stopped and resume
        self.batches = len(train) if hasattr(train, "__len__") else None
        self.samples = None
        if isinstance(train, DataLoader):
            self.samples = min(len(train) * train.batch_size, len(train.dataset))
        if self.out is not None:
            self._claim()
        # A number that is not finite ends the run with an error that says more than NumPy's warnings.
        with Interrupt() as self._interrupt, np.errstate(over="ignore", invalid="ignore"):
            try:
                self._call("fit_start")
                while self.epoch < self.epochs and not self.stopped:
                    self._train_epoch(train)
                    self._finish_epoch(val)
            finally:
                self._call("fit_end")
            if self.out is not None:
                nnk.save(self.model.state_dict(), self.out / files.MODEL)
        return self.history

    def stop(self) -> None:
        """End the training after the running epoch: for callbacks."""
        self.stopped = True

    def evaluate(self, data: Any) -> dict[str, float]:
        """Return the mean loss and metrics over ``data`` (anything `fit` takes), in eval mode."""
        means, device = Means(), device_of(self.model)
        batches = pairs(source("data", data, self.batch_size, device=device), device=device)
        with inference(self.model, self.loss), contextlib.closing(batches):
            for x, y in batches:
                output = self.model(x)
                loss = self.loss(output, y)
                loss = loss if backend.on_gpu(loss) else float(loss)
                means.add(self._step.numbers(loss, output, y), len(x))
                self._stop_if_asked()
        if not means.samples:
            raise ValueError("data has no batch to evaluate")
        return means.means()

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the model's outputs for ``inputs``, an array (N, …) or an `ArrayDataset`, in eval mode."""
        return outputs(self.model, inputs, self.batch_size)

    def save(self) -> None:
        """Write the checkpoint into ``out``, unless it was written at this very point.

        Raises ValueError without ``out``, OSError when it cannot be written; then the old checkpoint is still there.
        """
        if self.out is None:
            raise ValueError("out is None, expected the run directory: Trainer(..., out=...)")
        if self._saved == (self.epoch, self.batch):
            return
        self._look()
        state = {
            "config": self.config,
            "facts": self.facts,
            "environment": environment(device_of(self.model)),
            "epoch": self.epoch,
            "batch": self.batch,
            "lr": self.lr,
            "means": self.means.state_dict(),
            "history": self.history,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler and self.scheduler.state_dict(),
            "random": random.get_state(),
            "pending": self.pending,
            "precision": self.precision.state_dict(),
            "gradients": self._gradients(),
            "callbacks": [callback.state_dict() for callback in self.stateful],
            "stopped": self.stopped,
        }
        write_checkpoint(self.out / files.CHECKPOINT, state)
        self._saved = (self.epoch, self.batch)

    # ---------------------------------------------------------------- the loop
    def _train_epoch(self, train: DataLoader | Iterable) -> None:
        self._step.train()
        self._graphs.new_epoch()
        with contextlib.closing(pairs(train, self.epoch, self.batch, device_of(self.model))) as batches:
            for x, y in batches:
                self._one_batch(x, y)
                self.batch += 1
                self._call("batch_end", len(x))
                self._stop_if_asked()
        if self.pending:
            self._step.update(self.pending)
            self._updated()
        if not self.batch:
            raise ValueError(f"train has no batch in epoch {self.epoch + 1}: an iterator can be used only once")

    def _one_batch(self, x: Any, y: Any) -> None:
        """Add the batch's gradients; update the weights if it completes a group, or is known to be the last."""
        completes = (self.batch + 1) % self.accumulate == 0 or self.batch + 1 == self.batches
        repeated = self._graphs.repeat(x, y)
        if not repeated:
            if not self.pending:
                self.optimizer.zero_grad()
            loss = self._step.gradients(x, y)
            if not backend.on_gpu(loss) and not math.isfinite(loss):
                raise NonFiniteError(self._explain(loss, x))
        self.pending += len(x)
        self.means.samples += len(x)
        if not repeated and completes:
            self._step.update(self.pending)
        if completes:
            self._updated()
        if (self.batch + 1) % LOOK_EVERY == 0:
            self._look()

    def _look(self) -> None:
        """Raise NonFiniteError if a loss of this epoch was not finite, which nobody looked at on a GPU."""
        loss = self.means.means().get("loss", 0.0)
        if not math.isfinite(loss):
            where = f"in epoch {self.epoch + 1}, within its first {self.means.samples} samples"
            raise NonFiniteError(f"the loss became {loss} {where}")

    def try_step(self, x: Any, y: Any) -> float:
        """Make one update from one batch, nothing else, and return the loss; if that is not finite, make none."""
        self._step.train()
        self.optimizer.zero_grad()
        loss = float(self._step.back_and_forth(x, y)[0])
        if math.isfinite(loss):
            self.precision.update(self.optimizer, self.clipping)
        return loss

    def _updated(self) -> None:
        self.pending = 0
        self.lr = self.optimizer.param_groups[0]["lr"]
        if self.scheduler is not None and self.scheduler_interval == "step":
            self.scheduler.step()
        self._call("update_end")

    def _gradients(self) -> dict[str, Any]:
        """The gradients that wait for the rest of their group of batches."""
        if not self.pending:
            return {}
        named = self.model.named_parameters()
        return {name: parameter.grad for name, parameter in named if parameter.grad is not None}

    def _finish_epoch(self, val: DataLoader | Iterable | None) -> None:
        self._look()
        row = {"epoch": self.epoch + 1, "lr": self.lr, **self.means.means()}
        if self.precision.loss_scale is not None:
            row["skipped"] = self.precision.state_dict()["skipped"]
        if val is not None:
            row |= {f"val_{name}": value for name, value in self.evaluate(val).items()}
        if isinstance(self.scheduler, optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(row.get("val_loss", row["loss"]))
        elif self.scheduler is not None and self.scheduler_interval == "epoch":
            self.scheduler.step()
        self.history.append(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self.means.clear()
        self._call("epoch_end")

    def _explain(self, loss: float, x: Any) -> str:
        return f"the loss is {loss} in epoch {self.epoch + 1}, batch {self.batch + 1}{self._step.culprit(x)}"

    def _call(self, event: str, *arguments: Any) -> None:
        self._calling = True
        try:
            for callback in self.callbacks:
                getattr(callback, event)(self, *arguments)
        finally:
            self._calling = False

    def _stop_if_asked(self) -> None:
        if not self._interrupt.requested or self._calling:
            return
        where = f"stopped in epoch {self.epoch + 1} after {self.batch} batches"
        if self.out is None:
            raise Interrupted(where)
        self.save()
        raise Interrupted(f"{where}, saved in {self.out}: go on with resume=True")

    # ---------------------------------------------------------------- the run directory
    def _open(self, resume: bool) -> dict[str, Any] | None:
        """Return the checkpoint to resume from; touch nothing."""
        if resume:
            if self.out is None:
                raise ValueError("out is None, but resume needs the run directory: Trainer(..., out=...)")
            return read_run(self.out)
        if self.out is not None and self._saved is None and files.holds_run(self.out):
            raise FileExistsError(f"{self.out} holds a run already: resume it, or choose another folder")
        return None

    def _restore(self, tree: dict[str, Any]) -> None:
        self.model.load_state_dict(tree["model"])
        self.optimizer.load_state_dict(tree["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(tree["scheduler"])
        self.epoch, self.batch, self.lr = tree["epoch"], tree["batch"], tree["lr"]
        self.history = tree["history"]
        self.means.load_state_dict(tree["means"])
        random.set_state(tree["random"])
        self.stopped = tree["stopped"]
        self.pending = tree["pending"]
        self.precision.load_state_dict(tree["precision"])
        for name, parameter in self.model.named_parameters():
            gradient = tree["gradients"].get(name)
            parameter.grad = gradient if gradient is None else asarray_like(gradient, parameter.data)
        for callback, state in zip(self.stateful, tree["callbacks"]):
            callback.load_state_dict(state)

    def _claim(self) -> None:
        self._saved = None
        self.out.mkdir(parents=True, exist_ok=True)
        files.drop_leftovers(self.out)
        self.save()  # first, so that whatever holds a run can be resumed
        description = {"config": self.config, "facts": self.facts, "environment": environment(device_of(self.model))}
        files.write_text(self.out / files.CONFIG, json.dumps(description, indent=2) + "\n")

    def batches_of_epoch(self, train: Any, epoch: int) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of an epoch of anything that `fit` takes, as pairs of arrays."""
        device = device_of(self.model)
        batches = source("train", train, self.batch_size, shuffle=True, seed=self.seed, device=device)
        return pairs(batches, epoch, device=device)
