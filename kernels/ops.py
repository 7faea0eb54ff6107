"""The registry: one row per operation.

A new operation takes one row here, a file `reference/<file>.py` and a file of the same name and signatures
in every backend, and one entry in `cases/<file>.py`. The tests, the bench and `nnk doctor` walk this table,
and a test fails while a row has a hole.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .cases._suite import Suite


@dataclass(frozen=True)
class Op:
    """One operation: where its functions live and what they change.

    `functions` are defined in `<file>.py` of every backend, forward first. `mutates` names, per function,
    the arguments it updates in place. `reference_only` are functions that the reference adds for readers.
    Ops that work on data before any network, such as augmentations, are not `differentiable`.
    """

    name: str
    file: str
    functions: tuple[str, ...]
    mutates: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    reference_only: tuple[str, ...] = ()
    differentiable: bool = True

    @property
    def suite(self) -> Suite:
        """What tests and bench know of this op: the entry named like the op in `cases/<file>.py`."""
        return getattr(import_module(f".cases.{self.file}", __package__), self.name)

    def calls(self, backend: ModuleType, inputs: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
        """Each function as a call without arguments, just as `suite.run` makes it on these inputs: for the clock."""
        recorder = _Recorder(backend)
        self.suite.run(recorder, **inputs)
        return recorder.calls


class _Recorder:
    """Stands in for a backend and keeps the first call of each function."""

    def __init__(self, backend):
        self.backend, self.calls = backend, {}

    def __getattr__(self, name):
        function = getattr(self.backend, name)

        def call(*args, **kwargs):
            self.calls.setdefault(name, lambda: function(*args, **kwargs))
            return function(*args, **kwargs)

        return call


OPS = (
    Op("conv2d", "conv2d", ("conv2d", "conv2d_dgrad", "conv2d_wgrad", "conv2d_bgrad")),
    Op("pad2d", "pad2d", ("pad2d", "pad2d_backward")),
    Op("max_pool2d", "pool2d", ("max_pool2d", "max_pool2d_backward")),
    Op("avg_pool2d", "pool2d", ("avg_pool2d", "avg_pool2d_backward")),
    Op("adaptive_max_pool2d", "pool2d", ("adaptive_max_pool2d", "adaptive_max_pool2d_backward")),
    Op("adaptive_avg_pool2d", "pool2d", ("adaptive_avg_pool2d", "adaptive_avg_pool2d_backward")),
    Op(
        "batch_norm_train",
        "batchnorm",
        ("batch_norm_train", "batch_norm_train_backward"),
        mutates={"batch_norm_train": ("running_mean", "running_var")},
        reference_only=("batch_norm_train_backward_chain",),
    ),
    Op("batch_norm_eval", "batchnorm", ("batch_norm_eval", "batch_norm_eval_backward")),
    Op(
        "batch_norm_relu",
        "batchnorm_relu",
        ("batch_norm_relu_train", "batch_norm_relu_train_backward", "batch_norm_relu_eval"),
        mutates={"batch_norm_relu_train": ("running_mean", "running_var")},
    ),
    Op("group_norm", "groupnorm", ("group_norm", "group_norm_backward")),
    Op("layer_norm", "layernorm", ("layer_norm", "layer_norm_backward")),
    Op("linear", "linear", ("linear", "linear_dgrad", "linear_wgrad", "linear_bgrad")),
    Op("relu", "activation", ("relu", "relu_backward")),
    Op("leaky_relu", "activation", ("leaky_relu", "leaky_relu_backward")),
    Op("relu6", "activation", ("relu6", "relu6_backward")),
    Op("hardsigmoid", "activation", ("hardsigmoid", "hardsigmoid_backward")),
    Op("hardswish", "activation", ("hardswish", "hardswish_backward")),
    Op("sigmoid", "activation", ("sigmoid", "sigmoid_backward")),
    Op("tanh", "activation", ("tanh", "tanh_backward")),
    Op("elu", "exponential", ("elu", "elu_backward")),
    Op("softplus", "exponential", ("softplus", "softplus_backward")),
    Op("gelu", "gated", ("gelu", "gelu_backward")),
    Op("silu", "gated", ("silu", "silu_backward")),
    Op("swish", "gated", ("swish", "swish_backward")),
    Op("mish", "gated", ("mish", "mish_backward")),
    Op("softmax", "softmax", ("softmax", "softmax_backward")),
    Op("log_softmax", "softmax", ("log_softmax", "log_softmax_backward")),
    Op("prelu", "prelu", ("prelu", "prelu_backward")),
    Op("maxout", "maxout", ("maxout", "maxout_backward")),
    Op("add", "elementwise", ("add",)),
    Op("cross_entropy", "cross_entropy", ("cross_entropy", "cross_entropy_backward")),
    Op("soft_cross_entropy", "soft_cross_entropy", ("soft_cross_entropy", "soft_cross_entropy_backward")),
    Op("nll_loss", "nll", ("nll_loss", "nll_loss_backward")),
    Op("sigmoid_focal_loss", "focal", ("sigmoid_focal_loss", "sigmoid_focal_loss_backward")),
    Op("softmax_focal_loss", "focal", ("softmax_focal_loss", "softmax_focal_loss_backward")),
    Op("binary_cross_entropy", "binary_cross_entropy", ("binary_cross_entropy", "binary_cross_entropy_backward")),
    Op(
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy",
        ("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_backward"),
    ),
    Op("mse_loss", "regression_loss", ("mse_loss", "mse_loss_backward")),
    Op("l1_loss", "regression_loss", ("l1_loss", "l1_loss_backward")),
    Op("smooth_l1_loss", "regression_loss", ("smooth_l1_loss", "smooth_l1_loss_backward")),
    Op("huber_loss", "regression_loss", ("huber_loss", "huber_loss_backward")),
    Op("kl_div", "kl_div", ("kl_div", "kl_div_backward")),
    Op("margin_ranking_loss", "margin_ranking", ("margin_ranking_loss", "margin_ranking_loss_backward")),
    Op("gaussian_nll_loss", "likelihood", ("gaussian_nll_loss", "gaussian_nll_loss_backward")),
    Op("laplace_nll_loss", "likelihood", ("laplace_nll_loss", "laplace_nll_loss_backward")),
    Op("bernoulli_nll_loss", "likelihood", ("bernoulli_nll_loss", "bernoulli_nll_loss_backward")),
    Op("scale_channels", "scale_channels", ("scale_channels", "scale_channels_backward")),
    Op("dropout", "dropout", ("dropout",)),
    Op("gather2d", "gather2d", ("gather2d",), differentiable=False),
    Op("affine2d", "affine2d", ("affine2d",), differentiable=False),
    Op("blur2d", "blur2d", ("blur2d",), differentiable=False),
    Op("scale_shift", "scale_shift", ("scale_shift",), differentiable=False),
    Op("image_noise", "image_noise", ("image_noise",), differentiable=False),
    Op("paste2d", "paste2d", ("paste2d",), differentiable=False),
    Op("mix", "mix", ("mix",), differentiable=False),
    Op("total_norm", "clip", ("total_norm",), differentiable=False),
    Op("clipped", "clip", ("clipped",), differentiable=False),
    Op("max_norm", "max_norm", ("max_norm",), mutates={"max_norm": ("params",)}),
    Op("sgd", "sgd", ("sgd",), mutates={"sgd": ("params", "buffers")}),
    Op("adam", "adam", ("adam",), mutates={"adam": ("params", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")}),
    Op("adamw", "adam", ("adamw",), mutates={"adamw": ("params", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")}),
    Op("adagrad", "adagrad", ("adagrad",), mutates={"adagrad": ("params", "state_sums")}),
    Op("adadelta", "adadelta", ("adadelta",), mutates={"adadelta": ("params", "square_avgs", "acc_deltas")}),
    Op("rmsprop", "rmsprop", ("rmsprop",), mutates={"rmsprop": ("params", "square_avgs", "buffers", "grad_avgs")}),
)

FILES = {function: op.file for op in OPS for function in op.functions + op.reference_only}


class Backend(ModuleType):
    """A package of kernels that loads the file of a function when the function is first asked for."""

    def __getattr__(self, name):
        if name not in FILES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        function = getattr(import_module(f"{self.__name__}.{FILES[name]}"), name)
        setattr(self, name, function)
        return function

    def __setattr__(self, name, value):
        # Importing conv2d.py binds its module to the package's name "conv2d", which belongs to the function.
        if name in FILES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self):
        return sorted({*super().__dir__(), *FILES})


def expose(package: str) -> None:
    """Let the package offer every op function as an attribute, loaded at first use."""
    sys.modules[package].__class__ = Backend
