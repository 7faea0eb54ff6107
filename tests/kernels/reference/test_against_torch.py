"""The reference against PyTorch in float64, over all cases of the registry."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nnk.kernels import reference  # noqa: E402
from nnk.kernels.ops import OPS  # noqa: E402

F = torch.nn.functional

MISSING = {
    ("max_pool2d", "missed"),  # PyTorch's backward writes outside the image where a window misses it
    *((name, "empty") for name in ("affine2d", "blur2d")),  # PyTorch wants an image
    ("group_norm", "bias_only"),  # PyTorch's backward fails without a weight
}
OTHERWISE = {
    ("max_pool2d", "nan"): {"y"},  # PyTorch sends the gradient to the last NaN of a window
    ("adaptive_max_pool2d", "nan"): {"y"},  # the same
    ("group_norm", "empty_image"): {"y", "dx"},  # PyTorch's sums over no positions are NaN, not 0
    ("batch_norm_relu", "constant"): {"y"},  # PyTorch's mean of equal values is not quite theirs
    # PyTorch's gradient at NaN depends on the element's place in memory.
    **{(name, "special"): {"y"} for name in ("relu6", "hardswish", "elu")},
    ("elu", "special_selu"): {"y"},
    ("cross_entropy", "not_finite"): {"y"},  # PyTorch's gradient of an ignored row of NaN is NaN, not 0
    ("l1_loss", "kinks"): {"y"},  # PyTorch's sign of NaN is 0; the kinks themselves are tested value by value
    ("smooth_l1_loss", "beta_0"): {"y"},  # the same
    ("soft_cross_entropy", "not_finite"): {"y"},  # PyTorch's gradient of NaN is 0 in classes of probability 0
    ("softmax_focal_loss", "not_finite"): {"y"},
}
NOT_IN_TORCH = {"indices", "mean", "invstd", "var", "scale", "lse", "total"}


def leaf(array):
    return None if array is None else torch.tensor(array).requires_grad_()


def gradients(y, dy, **leaves):
    y.backward(torch.tensor(dy))
    return {"y": y, **{f"d{name}": x.grad for name, x in leaves.items() if x is not None}}


def conv2d(*, x, weight, bias, dy, stride, padding, dilation, groups, scale, residual, eps, **_):
    leaves = {"x": leaf(x), "weight": leaf(weight), "bias": leaf(bias)}
    (top, bottom), (left, right) = (p if isinstance(p, tuple) else (p, p) for p in padding)
    framed = F.pad(leaves["x"], (left, right, top, bottom))
    y = F.conv2d(framed, leaves["weight"], leaves["bias"], stride, 0, dilation, groups)
    results = gradients(y, dy, **leaves)
    if scale is not None:
        scaled = leaves["weight"] * torch.tensor(scale)[:, None, None, None]
        inferred = F.conv2d(framed, scaled, leaves["bias"], stride, 0, dilation, groups)
        results["inferred"] = inferred.relu()
    if residual is not None:
        residual = torch.tensor(residual)
        results["sum"] = y + residual
        results["rectified_sum"] = ((y if scale is None else inferred) + residual).relu()
    if eps is not None:
        normalised = F.batch_norm(y, None, None, training=True, eps=eps) if y.numel() else y
        results["normalised"] = normalised
        results["activated"] = (normalised if residual is None else normalised + residual).relu()
    return results


def scale_channels(*, x, scale, dy):
    x, scale = leaf(x), leaf(scale)
    return gradients(x * scale[:, :, None, None], dy, x=x, scale=scale)


def pad2d(*, x, dy, padding, mode):
    (top, bottom), (left, right) = padding
    x = leaf(x)
    return gradients(F.pad(x, (left, right, top, bottom), mode), dy, x=x)


def max_pool2d(*, x, dy, **window):
    x = leaf(x)
    return gradients(F.max_pool2d(x, **window), dy, x=x)


def avg_pool2d(*, x, dy, **window):
    x = leaf(x)
    return gradients(F.avg_pool2d(x, **window), dy, x=x)


def adaptive_max_pool2d(*, x, dy, output_size):
    x = leaf(x)
    y, indices = F.adaptive_max_pool2d(x, output_size, return_indices=True)
    return {**gradients(y, dy, x=x), "indices": indices}


def adaptive_avg_pool2d(*, x, dy, output_size):
    x = leaf(x)
    return gradients(F.adaptive_avg_pool2d(x, output_size), dy, x=x)


def batch_norm(x, weight, bias, running_mean, running_var, dy, momentum, eps, training):
    leaves = {"x": leaf(x), "weight": leaf(weight), "bias": leaf(bias)}
    running = {"running_mean": running_mean, "running_var": running_var}
    running = {name: None if v is None else torch.tensor(v) for name, v in running.items()}
    y = F.batch_norm(
        leaves["x"],
        *running.values(),
        leaves["weight"],
        leaves["bias"],
        training=training,
        momentum=momentum,
        eps=eps,
    )
    results = gradients(y, dy, **leaves)
    return results | {name: v for name, v in running.items() if v is not None and training}


def batch_norm_train(**inputs):
    return batch_norm(**inputs, training=True)


def batch_norm_eval(**inputs):
    return batch_norm(**inputs, training=False)


def batch_norm_relu(*, x, weight, bias, running_mean, running_var, residual, dy, momentum, eps):
    leaves = {name: leaf(v) for name, v in [("x", x), ("weight", weight), ("bias", bias), ("residual", residual)]}
    running = [None if v is None else torch.tensor(v) for v in (running_mean, running_var)]

    def run(training):
        y = F.batch_norm(leaves["x"], *running, leaves["weight"], leaves["bias"], training, momentum, eps)
        return F.relu(y if residual is None else y + leaves["residual"])

    results = {"eval": run(training=False)} if running_mean is not None else {}
    results |= gradients(run(training=True), dy, **leaves)
    return results | ({"running_mean": running[0], "running_var": running[1]} if running_mean is not None else {})


def group_norm(*, x, weight, bias, dy, num_groups, eps):
    leaves = {"x": leaf(x), "weight": leaf(weight), "bias": leaf(bias)}
    return gradients(F.group_norm(leaves["x"], num_groups, leaves["weight"], leaves["bias"], eps), dy, **leaves)


def layer_norm(*, x, weight, bias, dy, normalized_shape, eps):
    leaves = {"x": leaf(x), "weight": leaf(weight), "bias": leaf(bias)}
    return gradients(F.layer_norm(leaves["x"], normalized_shape, leaves["weight"], leaves["bias"], eps), dy, **leaves)


def linear(*, x, weight, bias, dy, precision):
    leaves = {"x": leaf(x), "weight": leaf(weight), "bias": leaf(bias)}
    return gradients(F.linear(leaves["x"], leaves["weight"], leaves["bias"]), dy, **leaves)


def pointwise(function):
    def run(*, x, dy, **options):
        x = leaf(x)
        return gradients(function(x, **options), dy, x=x)

    return run


relu, leaky_relu, relu6 = map(pointwise, (F.relu, F.leaky_relu, F.relu6))
hardsigmoid, hardswish = map(pointwise, (F.hardsigmoid, F.hardswish))
elu, softplus = map(pointwise, (torch.ops.aten.elu, F.softplus))
gelu, mish = map(pointwise, (F.gelu, F.mish))
softmax = pointwise(lambda x, dim, temperature=1.0: F.softmax(x / temperature, dim))
log_softmax = pointwise(F.log_softmax)
silu = pointwise(lambda x, beta=1.0: x * torch.sigmoid(beta * x))
sigmoid, tanh = pointwise(torch.sigmoid), pointwise(torch.tanh)


def swish(*, x, beta, dy):
    leaves = {"x": leaf(x), "beta": leaf(beta)}
    return gradients(leaves["x"] * torch.sigmoid(leaves["beta"][0] * leaves["x"]), dy, **leaves)


def prelu(*, x, weight, dy):
    leaves = {"x": leaf(x), "weight": leaf(weight)}
    return gradients(F.prelu(leaves["x"], leaves["weight"]), dy, **leaves)


def maxout(*, x, dy, pieces, groups=1):
    x = leaf(x)
    return gradients(x.unflatten(1, (groups, pieces, -1)).max(2).values.flatten(1, 2), dy, x=x)


def add(*, a, b, dy):
    leaves = {"a": leaf(a), "b": leaf(b)}
    return gradients(leaves["a"] + leaves["b"], dy, **leaves)


def cross_entropy(*, x, target, weight, dy, **options):
    x = leaf(x)
    weight = None if weight is None else torch.tensor(weight)
    return gradients(F.cross_entropy(x, torch.tensor(target), weight, **options), dy, x=x)


def soft_cross_entropy(*, x, target, weight, dy, **options):
    x = leaf(x)
    weight = None if weight is None else torch.tensor(weight)
    return gradients(F.cross_entropy(x, torch.tensor(target), weight, **options), dy, x=x)


def nll_loss(*, x, target, weight, dy, **options):
    x = leaf(x)
    weight = None if weight is None else torch.tensor(weight)
    return gradients(F.nll_loss(x, torch.tensor(target), weight, **options), dy, x=x)


def regression(function):
    def run(*, x, target, dy, **options):
        x = leaf(x)
        pair = torch.broadcast_tensors(x, torch.tensor(target))
        return gradients(function(*pair, **options), dy, x=x)

    return run


mse_loss, l1_loss, smooth_l1_loss = regression(F.mse_loss), regression(F.l1_loss), regression(F.smooth_l1_loss)
huber_loss = regression(F.huber_loss)


def kl_div(*, x, target, dy, **options):
    x = leaf(x)
    return gradients(F.kl_div(x, torch.tensor(target), **options), dy, x=x)


def binary(function):
    def run(*, x, target, dy, reduction, **weights):
        x = leaf(x)
        weights = {name: None if w is None else torch.tensor(w) for name, w in weights.items()}
        return gradients(function(x, torch.tensor(target), reduction=reduction, **weights), dy, x=x)

    return run


binary_cross_entropy = binary(F.binary_cross_entropy)
binary_cross_entropy_with_logits = binary(F.binary_cross_entropy_with_logits)


def reduced(losses, reduction):
    return losses if reduction == "none" else getattr(losses, reduction)()


def gaussian_nll_loss(*, x, target, var, dy, reduction, **options):
    leaves = {"x": leaf(x), "var": leaf(var)}
    full = torch.broadcast_tensors(leaves["x"], torch.tensor(target), leaves["var"])
    return gradients(F.gaussian_nll_loss(*full, reduction=reduction, **options), dy, **leaves)


class Floor(torch.autograd.Function):
    """max(x, least), with a gradient as if nothing had been held."""

    @staticmethod
    def forward(ctx, x, least):
        return x.clamp(min=least)

    @staticmethod
    def backward(ctx, dy):
        return dy, None


def laplace_nll_loss(*, x, target, scale, dy, reduction, eps, full=False):
    leaves = {"x": leaf(x), "scale": leaf(scale)}
    law = torch.distributions.Laplace(leaves["x"], Floor.apply(leaves["scale"], eps), validate_args=False)
    losses = -law.log_prob(torch.tensor(target)) - (0 if full else np.log(2))
    return gradients(reduced(losses, reduction), dy, **leaves)


def bernoulli_nll_loss(*, x, target, dy, reduction, eps):
    x, t = leaf(x), torch.tensor(target)
    losses = -t * Floor.apply(x, eps).log() - (1 - t) * Floor.apply(1 - x, eps).log()
    return gradients(reduced(losses, reduction), dy, x=x)


def margin_ranking_loss(*, x1, x2, target, dy, **options):
    leaves = {"x1": leaf(x1), "x2": leaf(x2)}
    return gradients(F.margin_ranking_loss(*leaves.values(), torch.tensor(target), **options), dy, **leaves)


def sigmoid_focal_loss(*, x, target, dy, gamma, alpha, reduction):
    x, truth = leaf(x), torch.tensor(target) == 1
    z = torch.where(truth, x, -x)
    losses = -torch.exp(gamma * F.logsigmoid(-z)) * F.logsigmoid(z)
    if alpha is not None:
        losses = losses * torch.where(truth, alpha, 1 - alpha)
    return gradients(reduced(losses, reduction), dy, x=x)


def softmax_focal_loss(*, x, target, alpha, dy, gamma, reduction):
    x, target = leaf(x), torch.tensor(target)
    log_p = F.log_softmax(x, 1)
    truth = F.one_hot(target, x.shape[1]) == 1
    log_q = torch.where(truth, -torch.inf, log_p).logsumexp(1)
    log_p = log_p.gather(1, target[:, None])[:, 0]
    losses = -torch.exp(gamma * log_q) * log_p if gamma else -log_p
    return gradients(reduced(losses if alpha is None else torch.tensor(alpha)[target] * losses, reduction), dy, x=x)


def total_norm(*, xs, norm_type):
    # PyTorch takes no largest or smallest element of an empty array.
    return {"y": torch.nn.utils.get_total_norm([torch.tensor(x) for x in xs if x.size or norm_type == 2], norm_type)}


def clipped(*, xs, scale=1.0, clip_value=None):
    bounded = [torch.tensor(x) if clip_value is None else torch.tensor(x).clamp(-clip_value, clip_value) for x in xs]
    return {f"y[{i}]": scale * x for i, x in enumerate(bounded)}


def max_norm(*, params, limit):
    # PyTorch renormalises no rows of no elements.
    bounded = [torch.renorm(torch.tensor(x), 2, 0, limit) if x.size else torch.tensor(x) for x in params]
    return {f"params[{i}]": x for i, x in enumerate(bounded)}


def stepped(optimizer, params, grads, l1=0.0, grad_scale=1.0, clip_value=None, skip=0):
    sign = -1 if optimizer.defaults["maximize"] else 1
    for step in [] if skip else grads:
        for param, g in zip(params, step):
            param.grad = grad_scale * torch.tensor(g)
            if clip_value is not None:
                torch.nn.utils.clip_grad_value_(param, clip_value)
            param.grad = param.grad + sign * l1 * param.detach().sign()
        optimizer.step()


def without_ours(options):
    """The options that PyTorch's optimisers lack, taken out."""
    return {name: options.pop(name) for name in ("l1", "grad_scale", "clip_value", "skip") if name in options}


def sgd(*, params, grads, buffers, **options):
    ours = without_ours(options)
    params = [leaf(p) for p in params]
    optimizer = torch.optim.SGD(params, **options)
    stepped(optimizer, params, grads, **ours)
    results = {f"params[{i}]": p for i, p in enumerate(params)}
    if buffers:
        results |= {f"buffers[{i}]": optimizer.state[p]["momentum_buffer"] for i, p in enumerate(params)}
    return results


def adaptive_moments(optimizer_type):
    def run(
        *, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, first_step, beta1, beta2, weight_decay=0.0, **options
    ):
        ours = without_ours(options)
        params = [leaf(p) for p in params]
        optimizer = optimizer_type(params, betas=(beta1, beta2), weight_decay=weight_decay, **options)
        moments = {"exp_avg": exp_avgs, "exp_avg_sq": exp_avg_sqs}
        if max_exp_avg_sqs:
            moments["max_exp_avg_sq"] = max_exp_avg_sqs
            optimizer.param_groups[0]["amsgrad"] = True
        for i, p in enumerate(params):
            state = {name: torch.tensor(arrays[i]) for name, arrays in moments.items()}
            optimizer.state[p] = {"step": torch.tensor(float(first_step - 1)), **state}
        stepped(optimizer, params, grads, **ours)
        return with_states(optimizer, params, {f"{name}s": name for name in moments})

    return run


def with_states(optimizer, params, names):
    states = {name: [optimizer.state[p][theirs] for p in params] for name, theirs in names.items()}
    return {f"{name}[{i}]": x for name, xs in {"params": params, **states}.items() for i, x in enumerate(xs)}


adam, adamw = adaptive_moments(torch.optim.Adam), adaptive_moments(torch.optim.AdamW)


def with_torchs_names(optimizer_type, **names):
    """An optimiser whose states PyTorch has under these names."""

    def run(*, params, grads, first_step=1, **options):
        ours, params = without_ours(options), [leaf(p) for p in params]
        states = {name: arrays for name in names if (arrays := options.pop(name)) is not None}
        if "grad_avgs" in states:
            options["centered"] = True
        optimizer = optimizer_type(params, **options)
        for i, p in enumerate(params):
            before = {names[name]: torch.tensor(arrays[i]) for name, arrays in states.items()}
            optimizer.state[p] = {"step": torch.tensor(float(first_step - 1)), **before}
        stepped(optimizer, params, grads, **ours)
        return with_states(optimizer, params, {name: names[name] for name in states})

    return run


adagrad = with_torchs_names(torch.optim.Adagrad, state_sums="sum")
adadelta = with_torchs_names(torch.optim.Adadelta, square_avgs="square_avg", acc_deltas="acc_delta")
rmsprop = with_torchs_names(
    torch.optim.RMSprop, square_avgs="square_avg", buffers="momentum_buffer", grad_avgs="grad_avg"
)

# ---------------------------------------------------------------- augmentation
def gather2d(*, x, rows, columns, fill):
    framed = F.pad(torch.tensor(x), (0, 1, 0, 1), value=fill)  # so that -1 is a place with this value
    rows, columns = torch.tensor(rows) % framed.shape[2], torch.tensor(columns) % framed.shape[3]
    y = [image[:, r][:, :, c] for image, r, c in zip(framed, rows, columns)]
    return {"y": torch.stack(y) if y else framed[:, :, : rows.shape[1], : columns.shape[1]]}


def affine2d(*, x, matrices, fill):
    x, (height, width) = torch.tensor(x), x.shape[2:]
    unit = torch.tensor([width / 2, height / 2, 1], dtype=x.dtype)  # PyTorch counts in halves of the image
    theta = torch.tensor(matrices) * unit / unit[:2, None]
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    return {"y": F.grid_sample(x - fill, grid, "bilinear", "zeros", align_corners=False) + fill}


def blur2d(*, x, weights):
    n, channels, *sizes = x.shape
    half = weights.shape[1] // 2
    places = [torch.arange(-half, size + half).abs() % max(1, 2 * size - 2) for size in sizes]
    rows, columns = (torch.minimum(i, 2 * size - 2 - i).clamp(min=0) for i, size in zip(places, sizes))
    framed = torch.tensor(x)[:, :, rows][:, :, :, columns]
    filters = torch.tensor(weights[:, :, None] * weights[:, None, :]).repeat_interleave(channels, 0)[:, None]
    y = F.conv2d(framed.reshape(1, n * channels, *framed.shape[2:]), filters, groups=n * channels)
    return {"y": y.reshape(x.shape)}


def scale_shift(*, x, scale, shift):
    scale, shift = (torch.tensor(v)[:, :, None, None] for v in (scale, shift))
    return {"y": torch.addcmul(shift, scale, torch.tensor(x))}


def paste2d(*, x, boxes, partners, fill):
    x = torch.tensor(x)
    y = x.clone()
    for image, (top, left, bottom, right), partner in zip(y, boxes, partners):
        theirs = torch.full_like(image, fill) if partner < 0 else x[partner]
        image[:, top:bottom, left:right] = theirs[:, top:bottom, left:right]
    return {"y": y}


def mix(*, x, partners, shares):
    x = torch.tensor(x)
    return {"y": torch.lerp(x[torch.tensor(partners)], x, torch.tensor(shares)[:, None, None, None])}


RUNS = [
    pytest.param(op, case, id=f"{op.name}-{case.name}")
    for op in OPS
    if op.name not in ("dropout", "image_noise")  # their random numbers are our own
    for case in op.suite.cases
    if (op.name, case.name) not in MISSING
]


@pytest.mark.parametrize(("op", "case"), RUNS)
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_same_numbers(op, case):
    got = op.suite.run(reference, **case.make(np.random.default_rng(0)))
    want = globals()[op.name](**case.make(np.random.default_rng(0)))
    names = OTHERWISE.get((op.name, case.name), set(got) - NOT_IN_TORCH)
    absent = {f"d{name}" for name in op.suite.gradients} - set(want)  # of inputs that are None
    for name in names - absent:
        # Deviations from a mean of 1e3 keep 11 digits in float64 too; PyTorch's gradient of hardsigmoid takes the
        # sixth of dy in float32.
        loose = "large_mean" in case.name or op.name == "hardsigmoid"
        np.testing.assert_allclose(
            got[name],
            want[name].detach().numpy(),
            rtol=1e-7 if loose else 1e-11,
            atol=1e-6 if loose else 1e-11,
            err_msg=name,
        )


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [(2, 2), (4, 3), (1, 5), (3, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_same_padding_puts_the_odd_pixel_behind(kernel, dilation):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 9, 8)), rng.standard_normal((4, 3, *kernel))
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    padding = tuple((t // 2, t - t // 2) for t in total)
    got = reference.conv2d(x, weight, padding=padding, dilation=dilation)
    want = F.conv2d(torch.tensor(x), torch.tensor(weight), padding="same", dilation=dilation)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-12)


def test_indices_name_the_pixels_that_torch_names():
    x = np.random.default_rng(0).standard_normal((2, 3, 11, 9))
    window = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1), "dilation": (2, 1)}
    _, indices = reference.max_pool2d(x, **window)
    _, flat = F.max_pool2d(torch.tensor(x), **window, return_indices=True)
    p, q = np.indices(indices.shape[2:])
    row = p * 2 - 1 + indices // 2 * 2
    column = q - 1 + indices % 2
    np.testing.assert_array_equal(row * 9 + column, flat.numpy())
