"""The losses in PyTorch, for `peers.py`."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

aten = torch.ops.aten
REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def cross_entropy(x, target, weight=None, *, ignore_index, label_smoothing, reduction):
    _no_smoothing(label_smoothing)
    log_p = aten._log_softmax(x, 1, False)
    loss, total = aten.nll_loss_forward(log_p, target, weight, REDUCTIONS[reduction], ignore_index)
    return loss, (log_p, total)


def cross_entropy_backward(dy, x, target, weight, lse, *, ignore_index, label_smoothing, reduction):
    _no_smoothing(label_smoothing)
    log_p, total = lse
    dlog_p = aten.nll_loss_backward(dy, log_p, target, weight, REDUCTIONS[reduction], ignore_index, total)
    return aten._log_softmax_backward_data(dlog_p, log_p, 1, log_p.dtype)


def _no_smoothing(label_smoothing):
    if label_smoothing:
        raise NotImplementedError("the peer of cross_entropy knows no label smoothing")


def soft_cross_entropy(x, target, weight=None, *, label_smoothing, reduction):
    return aten.cross_entropy_loss(x, target, weight, REDUCTIONS[reduction], -100, label_smoothing)


def soft_cross_entropy_backward(dy, x, target, weight=None, *, label_smoothing, reduction):
    loss = functools.partial(F.cross_entropy, weight=weight, reduction=reduction, label_smoothing=label_smoothing)
    return _gradients(dy, lambda x: loss(x, target), x)[0]


def nll_loss(x, target, weight=None, *, ignore_index, reduction):
    return aten.nll_loss_forward(x, target, weight, REDUCTIONS[reduction], ignore_index)


def nll_loss_backward(dy, x, target, weight, total, *, ignore_index, reduction):
    return aten.nll_loss_backward(dy, x, target, weight, REDUCTIONS[reduction], ignore_index, total)


def mse_loss(x, target, *, reduction):
    return aten.mse_loss(x, target, REDUCTIONS[reduction])


def mse_loss_backward(dy, x, target, *, reduction):
    return aten.mse_loss_backward(dy, x, target, REDUCTIONS[reduction])


def l1_loss(x, target, *, reduction):
    return F.l1_loss(x, target, reduction=reduction)


def l1_loss_backward(dy, x, target, *, reduction):
    return _gradients(dy, lambda x: F.l1_loss(x, target, reduction=reduction), x)[0]


def smooth_l1_loss(x, target, *, beta, reduction):
    return aten.smooth_l1_loss(x, target, REDUCTIONS[reduction], beta)


def smooth_l1_loss_backward(dy, x, target, *, beta, reduction):
    return aten.smooth_l1_loss_backward(dy, x, target, REDUCTIONS[reduction], beta)


def huber_loss(x, target, *, delta, reduction):
    return aten.huber_loss(x, target, REDUCTIONS[reduction], delta)


def huber_loss_backward(dy, x, target, *, delta, reduction):
    return aten.huber_loss_backward(dy, x, target, REDUCTIONS[reduction], delta)


def binary_cross_entropy(x, target, weight=None, *, reduction):
    return aten.binary_cross_entropy(x, target, weight, REDUCTIONS[reduction])


def binary_cross_entropy_backward(dy, x, target, weight=None, *, reduction):
    return aten.binary_cross_entropy_backward(dy, x, target, weight, REDUCTIONS[reduction])


def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, *, reduction):
    return aten.binary_cross_entropy_with_logits(x, target, weight, pos_weight, REDUCTIONS[reduction])


def binary_cross_entropy_with_logits_backward(dy, x, target, weight=None, pos_weight=None, *, reduction):
    loss = functools.partial(binary_cross_entropy_with_logits, reduction=reduction)
    return _gradients(dy, lambda x: loss(x, target, weight, pos_weight), x)[0]


def kl_div(x, target, *, log_target, reduction):
    return aten.kl_div(x, target, REDUCTIONS[reduction], log_target=log_target)


def kl_div_backward(dy, x, target, *, log_target, reduction):
    return _gradients(dy, lambda x: kl_div(x, target, log_target=log_target, reduction=reduction), x)[0]


def gaussian_nll_loss(x, target, var, *, full, eps, reduction):
    return F.gaussian_nll_loss(x, target, var, full=full, eps=eps, reduction=reduction)


def gaussian_nll_loss_backward(dy, x, target, var, *, eps, reduction):
    loss = functools.partial(F.gaussian_nll_loss, eps=eps, reduction=reduction)
    return _gradients(dy, lambda x, var: loss(x, target, var), x, var)


def laplace_nll_loss(x, target, scale, *, full, eps, reduction):
    b = scale.clamp(min=eps)
    return _reduced(b.log() + (x - target).abs() / b + (math.log(2) if full else 0), reduction)


def laplace_nll_loss_backward(dy, x, target, scale, **options):
    loss = functools.partial(laplace_nll_loss, full=False, **options)
    return _gradients(dy, lambda x, scale: loss(x, target, scale), x, scale)


def bernoulli_nll_loss(x, target, *, eps, reduction):
    return F.binary_cross_entropy(x.clamp(eps, 1 - eps), target, reduction=reduction)


def bernoulli_nll_loss_backward(dy, x, target, **options):
    return _gradients(dy, lambda x: bernoulli_nll_loss(x, target, **options), x)[0]


def margin_ranking_loss(x1, x2, target, *, margin, reduction):
    return aten.margin_ranking_loss(x1, x2, target, margin, REDUCTIONS[reduction])


def margin_ranking_loss_backward(dy, x1, x2, target, **options):
    return _gradients(dy, lambda x1, x2: margin_ranking_loss(x1, x2, target, **options), x1, x2)


def sigmoid_focal_loss(x, target, *, gamma, alpha, reduction):
    """As torchvision writes it."""
    loss = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    loss = loss * (1 - torch.exp(-loss)) ** gamma
    return _reduced(loss if alpha is None else loss * (alpha * target + (1 - alpha) * (1 - target)), reduction)


def sigmoid_focal_loss_backward(dy, x, target, **options):
    return _gradients(dy, lambda x: sigmoid_focal_loss(x, target, **options), x)[0]


def softmax_focal_loss(x, target, alpha=None, *, gamma, reduction):
    loss = F.cross_entropy(x, target, reduction="none")
    loss = loss * (1 - torch.exp(-loss)) ** gamma
    return _reduced(loss if alpha is None else loss * alpha[target], reduction)


def softmax_focal_loss_backward(dy, x, target, alpha=None, **options):
    return _gradients(dy, lambda x: softmax_focal_loss(x, target, alpha, **options), x)[0]


def _reduced(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()


def _gradients(dy, function, *inputs):
    """What autograd gives where PyTorch has no backward to call: the forward is part of it."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*inputs), inputs, dy)
