"""The ops in PyTorch: functions with the names and arguments of ours, on tensors.

What forward passes on to backward (indices, statistics) is what PyTorch itself saves. Each backward asks for the one
gradient that ours computes.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from peer_losses import *  # noqa: F403
from torch.optim.adadelta import adadelta as _adadelta
from torch.optim.rmsprop import rmsprop as _rmsprop

aten = torch.ops.aten
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def use_threads(n: int) -> None:
    """Let PyTorch use n threads."""
    torch.set_num_threads(n)


def tensors(value: Any, layout: str) -> Any:
    """Arrays, also in lists, as tensors of their own; those with four axes in the given memory format."""
    if isinstance(value, list):
        return [tensors(item, layout) for item in value]
    if not hasattr(value, "__array_interface__"):
        return value
    tensor = torch.tensor(value)
    return tensor.contiguous(memory_format=FORMATS[layout]) if tensor.ndim == 4 else tensor


def shared(value: Any, layout: str) -> Any:
    """Arrays, also in lists, as tensors of their own on the arrays' device; as `tensors`, for CuPy's too."""
    if isinstance(value, list):
        return [shared(item, layout) for item in value]
    if not hasattr(value, "__dlpack__"):
        return value
    if value.dtype.name == "bfloat16":  # which DLPack carries between few versions
        tensor = torch.from_dlpack(value.view("int16")).view(torch.bfloat16)
    else:
        tensor = torch.from_dlpack(value)
    return tensor.clone(memory_format=FORMATS[layout] if tensor.ndim == 4 else torch.preserve_format)


def _blank(shape, like):
    """A tensor of which only the shape, the memory format, the dtype and the device matter."""
    form = torch.channels_last if _is_channels_last(like) else torch.contiguous_format
    return torch.empty(shape, memory_format=form, dtype=like.dtype, device=like.device)


def _is_channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


# ---------------------------------------------------------------- convolution, linear
def conv2d(x, weight, bias=None, *, stride, padding, dilation, groups, precision):
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def _conv2d_gradient(which, dy, x, weight, stride, padding, dilation, groups):
    mask = [which == "x", which == "weight", False]
    gradients = aten.convolution_backward(
        dy, x, weight, None, stride, padding, dilation, False, [0, 0], groups, mask
    )
    return gradients[mask.index(True)]


def conv2d_dgrad(dy, weight, x_shape, *, stride, padding, dilation, groups, precision):
    return _conv2d_gradient("x", dy, _blank(x_shape, dy), weight, stride, padding, dilation, groups)


def conv2d_wgrad(dy, x, weight_shape, *, stride, padding, dilation, groups, precision):
    return _conv2d_gradient("weight", dy, x, _blank(weight_shape, dy), stride, padding, dilation, groups)


def conv2d_bgrad(dy):
    return dy.sum((0, 2, 3))


def linear(x, weight, bias=None, *, precision):
    return F.linear(x, weight, bias)


def linear_dgrad(dy, weight, *, precision):
    return dy @ weight


def linear_wgrad(dy, x, *, precision):
    return dy.T @ x


def linear_bgrad(dy):
    return dy.sum(0)


# ---------------------------------------------------------------- pooling
def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    y, indices = aten.max_pool2d_with_indices(x, kernel_size, stride, padding, dilation, ceil_mode)
    return y, (indices, ceil_mode)


def max_pool2d_backward(dy, indices, x_shape, *, kernel_size, stride, padding, dilation):
    indices, ceil_mode = indices
    return aten.max_pool2d_with_indices_backward(
        dy, _blank(x_shape, dy), kernel_size, stride, padding, dilation, ceil_mode, indices
    )


def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    return aten.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool2d_backward(
    dy, x_shape, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
):
    x = _blank(x_shape, dy)
    return aten.avg_pool2d_backward(
        dy, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def scale_channels(x, scale):
    return x * scale[:, :, None, None]


def scale_channels_backward(dy, x, scale):
    return dy * scale[:, :, None, None], (dy * x).sum((2, 3))


def pad2d(x, *, padding, mode):
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), mode)


def pad2d_backward(dy, x_shape, *, padding, mode):
    (top, bottom), (left, right) = padding
    backward = {"reflect": aten.reflection_pad2d_backward, "replicate": aten.replication_pad2d_backward}[mode]
    return backward(dy, _blank(x_shape, dy), [left, right, top, bottom])


def adaptive_max_pool2d(x, *, output_size):
    return aten.adaptive_max_pool2d(x, output_size)


def adaptive_max_pool2d_backward(dy, indices, x_shape):
    return aten.adaptive_max_pool2d_backward(dy, _blank(x_shape, dy), indices)


def adaptive_avg_pool2d(x, *, output_size):
    return F.adaptive_avg_pool2d(x, output_size)


def adaptive_avg_pool2d_backward(dy, x_shape):
    if dy.shape[2:] == (1, 1):  # the forward is a mean, whose gradient is an expanded quotient
        return dy.expand(x_shape) / (x_shape[2] * x_shape[3])
    return aten._adaptive_avg_pool2d_backward(dy, _blank(x_shape, dy))


# ---------------------------------------------------------------- batch norm
class Chosen(NamedTuple):
    """What PyTorch's choice of an implementation saves, in place of the mean: on a GPU it may be cuDNN's."""

    mean: Any
    running: tuple
    eps: float
    reserve: Any
    implementation: int


def batch_norm_train(x, weight, bias, running_mean, running_var, *, momentum, eps):
    if not x.is_cuda:
        return aten.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
    return _chosen_batch_norm(x, weight, bias, running_mean, running_var, momentum, eps)


def _chosen_batch_norm(x, weight, bias, running_mean, running_var, momentum, eps):
    y, mean, invstd, reserve, implementation = aten._batch_norm_impl_index(
        x, weight, bias, running_mean, running_var, True, momentum, eps, True
    )
    return y, Chosen(mean, (running_mean, running_var), eps, reserve, implementation), invstd


def batch_norm_train_backward(dy, x, weight, mean, invstd):
    if isinstance(mean, Chosen):
        chosen = mean
        return aten._batch_norm_impl_index_backward(
            chosen.implementation, x, dy, weight, *chosen.running, chosen.mean, invstd, True, chosen.eps, [True] * 3,
            chosen.reserve,
        )  # fmt: skip
    return aten.native_batch_norm_backward(dy, x, weight, None, None, mean, invstd, True, 0.0, [True] * 3)


def batch_norm_eval(x, weight, bias, running_mean, running_var, *, eps):
    return aten.native_batch_norm(x, weight, bias, running_mean, running_var, False, 0.0, eps)[0]


def batch_norm_eval_backward(dy, x, weight, running_mean, running_var, *, eps):
    return aten.native_batch_norm_backward(
        dy, x, weight, running_mean, running_var, None, None, False, eps, [True] * 3
    )


def batch_norm_relu_train(x, weight, bias, running_mean, running_var, residual=None, *, momentum, eps):
    y, mean, invstd = batch_norm_train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
    y = torch.relu_(y if residual is None else y.add_(residual))
    return y, mean, invstd, y  # which PyTorch keeps for ReLU's backward, where ours keeps a bit an element


def batch_norm_relu_train_backward(dy, x, weight, mean, invstd, y, *, residual=False):
    passed = relu_backward(dy, y)
    gradients = batch_norm_train_backward(passed, x, weight, mean, invstd)
    return (*gradients, passed if residual else None)


def batch_norm_relu_eval(x, weight, bias, running_mean, running_var, residual=None, *, eps):
    y = batch_norm_eval(x, weight, bias, running_mean, running_var, eps=eps)
    return torch.relu_(y if residual is None else y.add_(residual))


# ---------------------------------------------------------------- norms of single samples
def group_norm(x, weight, bias, *, num_groups, eps):
    n, c, *positions = x.shape
    return aten.native_group_norm(x, weight, bias, n, c, math.prod(positions), num_groups, eps)


def group_norm_backward(dy, x, weight, mean, invstd, *, num_groups, eps):
    n, c, *positions = x.shape
    sizes = n, c, math.prod(positions), num_groups
    return aten.native_group_norm_backward(dy, x, mean, invstd, weight, *sizes, [True] * 3)


def layer_norm(x, weight, bias, *, normalized_shape, eps):
    y, mean, invstd = aten.native_layer_norm(x, normalized_shape, weight, bias, eps)
    return y, mean.view(x.shape[: x.ndim - len(normalized_shape)]), invstd


def layer_norm_backward(dy, x, weight, mean, invstd, *, normalized_shape, eps):
    # Of the bias only its being there counts.
    return aten.native_layer_norm_backward(dy, x, normalized_shape, mean, invstd, weight, weight, [True] * 3)


# ---------------------------------------------------------------- activations, sums, dropout
def relu(x):
    return torch.relu(x)


def relu_backward(dy, y):
    return aten.threshold_backward(dy, y, 0)


def leaky_relu(x, *, negative_slope):
    return F.leaky_relu(x, negative_slope)


def leaky_relu_backward(dy, x, *, negative_slope):
    return aten.leaky_relu_backward(dy, x, negative_slope, False)


def relu6(x):
    return F.relu6(x)


def relu6_backward(dy, y):
    return aten.hardtanh_backward(dy, y, 0, 6)


def hardsigmoid(x):
    return F.hardsigmoid(x)


def hardsigmoid_backward(dy, x):
    return aten.hardsigmoid_backward(dy, x)


def hardswish(x):
    return F.hardswish(x)


def hardswish_backward(dy, x):
    return aten.hardswish_backward(dy, x)


def sigmoid(x):
    return torch.sigmoid(x)


def sigmoid_backward(dy, y):
    return aten.sigmoid_backward(dy, y)


def tanh(x):
    return torch.tanh(x)


def tanh_backward(dy, y):
    return aten.tanh_backward(dy, y)


def elu(x):
    return F.elu(x)


def elu_backward(dy, x):
    return aten.elu_backward(dy, 1.0, 1.0, 1.0, False, x)


def softplus(x):
    return F.softplus(x)


def softplus_backward(dy, x):
    return aten.softplus_backward(dy, x, 1.0, 20.0)


def gelu(x):
    return F.gelu(x)


def gelu_backward(dy, x):
    return aten.gelu_backward(dy, x)


def silu(x):
    return F.silu(x)


def silu_backward(dy, x):
    return aten.silu_backward(dy, x)


def swish(x, beta):
    return x * torch.sigmoid(beta * x)


def swish_backward(dy, x, beta):
    s = torch.sigmoid(beta * x)
    slope = x * s * (1 - s)
    return dy * (s + beta * slope), (dy * x * slope).sum().reshape(1)


def mish(x):
    return F.mish(x)


def mish_backward(dy, x):
    return aten.mish_backward(dy, x)


def softmax(x, *, dim):
    return aten._softmax(x, dim, False)


def softmax_backward(dy, y, *, dim):
    return aten._softmax_backward_data(dy, y, dim, y.dtype)


def log_softmax(x, *, dim):
    return aten._log_softmax(x, dim, False)


def log_softmax_backward(dy, y, *, dim):
    return aten._log_softmax_backward_data(dy, y, dim, y.dtype)


def prelu(x, weight):
    return F.prelu(x, weight)


def prelu_backward(dy, x, weight):
    slopes = weight.reshape(-1, *[1] * (x.ndim - 2))
    dx, terms = aten._prelu_kernel_backward(dy, x, slopes)
    return dx, terms.sum_to_size(slopes.shape).reshape(weight.shape)


def maxout(x, *, pieces, groups=1):
    y, indices = x.unflatten(1, (groups, pieces, -1)).max(2)
    return y.flatten(1, 2), indices


def maxout_backward(dy, indices, *, pieces, groups=1):
    n, groups, c, *rest = indices.shape
    shape = (n, groups, pieces, c, *rest)
    return aten.value_selecting_reduction_backward(dy.reshape(indices.shape), 2, indices, shape, False).flatten(1, 3)


def add(a, b):
    return a + b


def dropout(x, *, p, seed, call):
    return aten.native_dropout(x, p, True)[0]


# ---------------------------------------------------------------- augmentation
def gather2d(x, rows, columns, *, fill):
    images = torch.arange(len(x), device=x.device)[:, None, None]
    pixels = x.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]]
    outside = (rows < 0)[:, :, None] | (columns < 0)[:, None, :]
    return pixels.masked_fill_(outside[..., None], fill).permute(0, 3, 1, 2)


def affine2d(x, matrices, *, fill):
    if fill:
        raise NotImplementedError("the peer of affine2d fills with 0")
    height, width = x.shape[2:]
    # PyTorch counts places in halves of the image.
    half = torch.tensor([width / 2, height / 2, 1], device=x.device)
    grid = F.affine_grid(matrices * half / half[:2, None], x.shape, align_corners=False)
    return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)


def blur2d(x, weights):
    n, c, h, w = x.shape
    half, filters = weights.shape[1] // 2, weights.repeat_interleave(c, 0)[:, None]
    y = F.pad(x, (half,) * 4, mode="reflect").reshape(1, n * c, h + 2 * half, w + 2 * half)
    y = F.conv2d(y, filters[..., None], groups=n * c)
    return F.conv2d(y, filters[:, :, None], groups=n * c).reshape(n, c, h, w)


def scale_shift(x, scale, shift):
    return torch.addcmul(shift[:, :, None, None], scale[:, :, None, None], x)


def image_noise(x, std, samples, *, seed, call, stream):
    return torch.addcmul(x, std[:, None, None, None], torch.randn_like(x))


def paste2d(x, boxes, partners, *, fill):
    top, left, bottom, right = boxes.T[:, :, None]
    i, j = (torch.arange(size, device=x.device) for size in x.shape[2:])
    inside = ((i >= top) & (i < bottom))[:, :, None] & ((j >= left) & (j < right))[:, None, :]
    theirs = x[partners].masked_fill_((partners < 0)[:, None, None, None], fill)
    return torch.where(inside[:, None], theirs, x)


def mix(x, partners, shares):
    return torch.lerp(x[partners], x, shares[:, None, None, None])


# ---------------------------------------------------------------- gradients of many parameters
def total_norm(xs, *, norm_type):
    return torch.nn.utils.get_total_norm(xs, norm_type)


def clipped(xs, *, scale=1.0, clip_value=0.0):
    ys = torch._foreach_mul(xs, scale)
    if clip_value:
        ys = torch._foreach_clamp_max(torch._foreach_clamp_min(xs, -clip_value), clip_value)
    return tuple(ys)


def max_norm(params, *, limit):
    for x in params:
        x.renorm_(2, 0, limit)


# ---------------------------------------------------------------- optimisers: PyTorch's fused kernels where it has them
def sgd(params, grads, buffers, *, first, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, **rates):
    options = {"dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize}
    aten._fused_sgd_(params, grads, buffers or [], is_first_step=first, **rates, **options)


@functools.cache
def _steps(count, step, device):
    return [torch.tensor(float(step), device=device) for _ in range(count)]


def _adam(
    kernel, params, grads, exp_avgs, exp_avg_sqs, maxima=None, *, step, weight_decay=0.0, maximize=False, **options
):
    options |= {"weight_decay": weight_decay, "maximize": maximize, "amsgrad": maxima is not None}
    kernel(params, grads, exp_avgs, exp_avg_sqs, maxima or [], _steps(len(params), step, params[0].device), **options)


adam = functools.partial(_adam, aten._fused_adam_)
adamw = functools.partial(_adam, aten._fused_adamw_)


def adagrad(params, grads, state_sums, *, step, lr_decay=0.0, weight_decay=0.0, maximize=False, **options):
    options |= {"lr_decay": lr_decay, "weight_decay": weight_decay, "maximize": maximize}
    aten._fused_adagrad_(params, grads, state_sums, _steps(len(params), step, params[0].device), **options)


def adadelta(params, grads, square_avgs, acc_deltas, *, weight_decay=0.0, maximize=False, **options):
    options |= {"weight_decay": weight_decay, "maximize": maximize, "foreach": True}
    _adadelta(params, grads, square_avgs, acc_deltas, _steps(len(params), 0, params[0].device), **options)


def rmsprop(params, grads, square_avgs, buffers, grad_avgs, *, momentum=0.0, weight_decay=0.0, **options):
    options |= {"momentum": momentum, "weight_decay": weight_decay, "centered": grad_avgs is not None, "foreach": True}
    steps = _steps(len(params), 0, params[0].device)
    _rmsprop(params, grads, square_avgs, grad_avgs or [], buffers or [], steps, **options)
