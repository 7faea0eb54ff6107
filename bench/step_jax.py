"""A training step in JAX, compiled as a whole, on channels-last images.

The number of XLA's threads on a CPU is fixed when the process starts: JAX takes part with all cores only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from workload import Workload

from nnk import nn

Arrays = dict[str, jax.Array]


def start(workload: Workload) -> Callable[[], float]:
    """A function that trains one step and returns the loss before it."""
    model = workload.model()
    arrays = {name: _converted(value) for name, value in model.state_dict().items()}
    weights = {name: arrays.pop(name) for name, _ in model.named_parameters()}
    zeros, update = OPTIMIZERS[workload.optimizer]
    state = weights, zeros(weights), arrays
    x, labels = map(jnp.asarray, workload.data())
    x = x.transpose(0, 2, 3, 1)

    @jax.jit(donate_argnums=0)
    def train(state: tuple) -> tuple:
        weights, memory, buffers = state
        (loss, buffers), grads = jax.value_and_grad(loss_of, has_aux=True)(weights, buffers)
        return (*update(weights, grads, memory, **workload.options), buffers), loss

    def loss_of(weights: Arrays, buffers: Arrays) -> tuple[jax.Array, Arrays]:
        moved = {}
        log_p = jax.nn.log_softmax(_forward(model, "", weights | buffers, moved, x))
        return -jnp.take_along_axis(log_p, labels[:, None], 1).mean(), buffers | moved

    def step() -> float:
        nonlocal state
        state, loss = train(state)
        return float(loss)

    return step


def _converted(value: np.ndarray) -> jax.Array:
    return jnp.array(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)  # filters as (R, S, C, K)


# ---------------------------------------------------------------- modules
def _forward(module: nn.Module, name: str, arrays: Arrays, moved: Arrays, x: jax.Array) -> jax.Array:
    """The module's output; the running statistics that it moved go into `moved`."""
    if isinstance(module, nn.Sequential):
        for key, child in module.named_children():
            x = _forward(child, f"{name}{key}.", arrays, moved, x)
        return x
    if isinstance(module, nn.Residual):
        y = _forward(module.body, f"{name}body.", arrays, moved, x)
        skip = module.shortcut
        return y + (x if skip is None else _forward(skip, f"{name}shortcut.", arrays, moved, x))
    own = {key.removeprefix(name): value for key, value in arrays.items() if key.startswith(name)}
    if isinstance(module, nn.BatchNorm2d):
        x, statistics = _batch_norm(module, own, x)
        moved.update({name + key: value for key, value in statistics.items()})
        return x
    return LAYERS[type(module)](module, own, x)


def _batch_norm(module: nn.BatchNorm2d, own: Arrays, x: jax.Array) -> tuple[jax.Array, Arrays]:
    mean, var, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[3]
    y = (x - mean) * (lax.rsqrt(var + module.eps) * own["weight"]) + own["bias"]
    new = {"running_mean": mean, "running_var": var * count / (count - 1)}
    return y, {key: own[key] + module.momentum * (value - own[key]) for key, value in new.items()}


def _conv2d(module: nn.Conv2d, own: Arrays, x: jax.Array) -> jax.Array:
    y = lax.conv_general_dilated(
        x, own["weight"], module.stride, [(p, p) for p in module.padding], rhs_dilation=module.dilation,
        feature_group_count=module.groups, dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + own["bias"] if "bias" in own else y


def _max_pool2d(module: nn.MaxPool2d, own: Arrays, x: jax.Array) -> jax.Array:
    window, stride = (1, module.kernel_size, module.kernel_size, 1), (1, module.stride, module.stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, stride, "VALID")


LAYERS: dict[type, Callable[[Any, Arrays, jax.Array], jax.Array]] = {
    nn.Conv2d: _conv2d,
    nn.ReLU: lambda module, own, x: jax.nn.relu(x),
    nn.MaxPool2d: _max_pool2d,
    nn.AdaptiveAvgPool2d: lambda module, own, x: x.mean((1, 2), keepdims=True),  # of output size 1
    nn.Flatten: lambda module, own, x: x.transpose(0, 3, 1, 2).reshape(len(x), -1),
    nn.Linear: lambda module, own, x: x @ own["weight"].T + own["bias"],
}


# ---------------------------------------------------------------- optimisers
def _zeros(weights: Arrays) -> Arrays:
    return {name: jnp.zeros_like(weight) for name, weight in weights.items()}


def _sgd(weights, grads, buffers, *, lr, momentum, weight_decay):
    grads = {name: grad + weight_decay * weights[name] for name, grad in grads.items()}
    buffers = {name: momentum * buffers[name] + grad for name, grad in grads.items()}
    return {name: weight - lr * buffers[name] for name, weight in weights.items()}, buffers


def _adam(weights, grads, moments, *, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    step, m, v = moments
    step = step + 1
    m = {name: beta1 * m[name] + (1 - beta1) * grad for name, grad in grads.items()}
    v = {name: beta2 * v[name] + (1 - beta2) * grad**2 for name, grad in grads.items()}
    rate, bias = lr / (1 - beta1**step), jnp.sqrt(1 - beta2**step)
    weights = {name: w - rate * m[name] / (jnp.sqrt(v[name]) / bias + eps) for name, w in weights.items()}
    return weights, (step, m, v)


OPTIMIZERS = {
    "SGD": (_zeros, _sgd),
    "Adam": (lambda weights: (jnp.zeros(()), _zeros(weights), _zeros(weights)), _adam),
}
