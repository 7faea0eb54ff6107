import re

import numpy as np
import pytest

import nnk
from nnk.data import (
    ArrayDataset,
    ColorJitter,
    CutMix,
    Cutout,
    DataLoader,
    Draws,
    GaussianBlur,
    GaussianNoise,
    MixUp,
    Normalize,
    PCAColorJitter,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from nnk.kernels.reference._philox import philox

SHAPE = (3, 10, 12)
STEPS = [
    RandomCrop((10, 12), padding=2),
    RandomHorizontalFlip(),
    RandomVerticalFlip(0.3),
    RandomAffine(15, (0.1, 0.1), (0.8, 1.2)),
    ColorJitter(0.4, 0.4),
    PCAColorJitter(np.eye(3), [1.0, 2.0, 3.0]),
    GaussianBlur(5),
    GaussianNoise(0.3),
    Cutout(4, 0.8),
]
MIXING = [MixUp(alpha=0.4, num_classes=5), CutMix(num_classes=5)]
each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)


def draws(n=8, *, seed=0, epoch=0, stream=0, first=0):
    return Draws(seed, epoch, np.arange(first, first + n), stream)


def images(n=8, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def ramp(n, h, w):
    """Images whose value says where a pixel comes from."""
    return np.broadcast_to(np.arange(h * w, dtype=np.float32).reshape(h, w), (n, 1, h, w)).copy()


# ---------------------------------------------------------------- draws
def test_words_are_those_of_philox_on_sample_epoch_and_stream():
    words = Draws(2**40 + 7, 3, np.array([11, 5]), 2).words(6)
    assert words.shape == (2, 2, 4)
    for row, sample in zip(words, (11, 5)):
        counters = np.array([[2**31 + block, 2, sample, 3] for block in range(2)], np.uint32)
        np.testing.assert_array_equal(row, philox(counters, (7, 2**8)))


def test_draws_fill_their_ranges_evenly():
    many = draws(40_000)
    u = many.uniform(-1, 3, 2)
    assert -1 <= u.min() < -0.999 < 2.999 < u.max() < 3
    assert abs(u.mean() - 1) < 0.02
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.02
    counts = np.bincount(many.integers(5)[:, 0])
    assert len(counts) == 5
    assert abs(counts - 8000).max() < 400
    z = many.normal(3)
    assert z.shape == (40_000, 3)
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=0.03)


# ---------------------------------------------------------------- every augmentation
@each_step
def test_what_happens_to_a_sample_depends_on_seed_epoch_and_sample_alone(step):
    x = images()
    whole = step(x, draws())
    assert whole.dtype == np.float32
    assert not np.shares_memory(whole, x)
    for order in ([5, 2], [0], [7, 6, 5, 4, 3, 2, 1, 0]):
        part = step(x[order], Draws(0, 0, np.array(order), 0))
        np.testing.assert_array_equal(part, whole[order])
    contiguous = step(np.asfortranarray(x), draws())
    np.testing.assert_array_equal(contiguous, whole)
    for other in ({"seed": 1}, {"epoch": 1}, {"stream": 1}, {"first": 8}):
        assert not np.array_equal(step(x, draws(**other)), whole), other


@each_step
def test_all_backends_agree(step):
    x = images()
    with nnk.use_backend("reference"):
        want = step(x, draws())
    np.testing.assert_allclose(step(x, draws()), want, rtol=1e-5, atol=1e-5)


@each_step
def test_any_channels_sizes_and_no_samples(step):
    for shape in ((3, 1, 1), (1, 9, 5), (17, 4, 4)):
        if isinstance(step, PCAColorJitter) and shape[0] != 3:
            continue
        fitting = RandomCrop(shape[1:], 2) if isinstance(step, RandomCrop) else step
        assert fitting(images(2, shape), draws(2)).shape == (2, *shape)
        assert fitting(images(0, shape), draws(0)).shape == (0, *shape)


def test_repr_says_what_was_chosen():
    assert repr(RandomCrop(32, 4)) == "RandomCrop(size=(32, 32), padding=(4, 4), fill=0.0, padding_mode='constant')"
    assert repr(MixUp(alpha=0.2, num_classes=10)) == "MixUp(alpha=0.2, num_classes=10)"
    assert repr(PCAColorJitter([[1.0]], [2.0])) == "PCAColorJitter([[1.0]], [2.0], 0.1)"


# ---------------------------------------------------------------- geometry
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_crops_are_windows_of_the_padded_image(mode):
    x = ramp(300, 5, 6) + 1
    value = {"constant_values": -3} if mode == "constant" else {}
    padded = np.pad(x[0, 0], ((1, 1), (2, 2)), mode=mode, **value)
    windows = {
        padded[i : i + 4, j : j + 5].tobytes(): (i, j) for i in range(4) for j in range(6)
    }
    y = RandomCrop((4, 5), padding=(1, 2), fill=-3, padding_mode=mode)(x, draws(300))
    assert {windows[np.ascontiguousarray(image[0]).tobytes()] for image in y} == set(windows.values())


def test_flips_come_with_their_probability():
    x = ramp(2000, 3, 4)
    for flip, flipped in ((RandomHorizontalFlip, x[..., ::-1]), (RandomVerticalFlip, x[:, :, ::-1])):
        y = flip(0.25)(x, draws(2000))
        swapped = (y == flipped).all(axis=(1, 2, 3))
        assert ((y == x).all(axis=(1, 2, 3)) | swapped).all()
        assert abs(swapped.mean() - 0.25) < 0.04
        np.testing.assert_array_equal(flip(0)(x, draws(2000)), x)
        np.testing.assert_array_equal(flip(1)(x, draws(2000)), flipped)


def test_affine_turns_clockwise():
    x = ramp(1, 5, 5)
    np.testing.assert_allclose(RandomAffine((90, 90))(x, draws(1))[0, 0], np.rot90(x[0, 0], -1), atol=1e-4)
    np.testing.assert_allclose(RandomAffine((180, 180))(x, draws(1))[0, 0], x[0, 0, ::-1, ::-1], atol=1e-4)


def test_affine_moves_points_where_its_parameters_say():
    augmentation = RandomAffine((-40, 70), (0.2, 0.1), (0.5, 2.0))
    back = augmentation.matrices((50, 1, 30, 20), draws(50))
    forth = np.linalg.inv(np.concatenate([back, np.tile([[[0.0, 0, 1]]], (50, 1, 1))], axis=1))
    scale = np.sqrt(np.linalg.det(forth[:, :2, :2]))
    degrees = np.degrees(np.arctan2(forth[:, 1, 0], forth[:, 0, 0]))
    across, down = forth[:, 0, 2], forth[:, 1, 2]
    for values, low, high in ((scale, 0.5, 2), (degrees, -40, 70), (across, -4, 4), (down, -3, 3)):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high


def test_affine_that_does_nothing_changes_nothing():
    x = images()
    np.testing.assert_array_equal(RandomAffine(0)(x, draws()), x)


def test_affine_zooms_about_the_centre():
    x = np.zeros((1, 1, 9, 9), np.float32)
    x[0, 0, 3:6, 3:6] = 1
    y = RandomAffine(0, scale=(3, 3), fill=-1)(x, draws(1))[0, 0]
    assert y[4, 4] == 1
    assert y.sum() == pytest.approx((7 + 2 * 2 / 3) ** 2)  # the outermost pixels lie two thirds inside
    np.testing.assert_allclose(y, y[::-1, ::-1], atol=1e-6)
    assert (RandomAffine(0, scale=(0.5, 0.5), fill=-1)(x, draws(1))[0, 0, 0] == -1).all()


# ---------------------------------------------------------------- photometry
def test_colour_jitter_is_its_formula():
    x = np.abs(images(200))
    brightness = ColorJitter(brightness=(0.5, 2))(x, draws(200)) / x
    assert np.ptp(brightness, axis=(1, 2, 3)).max() < 1e-5
    assert 0.5 <= brightness.min() < 0.55
    assert 1.9 < brightness.max() <= 2
    y = ColorJitter(contrast=(0.25, 0.25))(x, draws(200))
    grey = np.einsum("nchw,c->n", x, [0.299, 0.587, 0.114]) / 120
    np.testing.assert_allclose(y, 0.25 * x + 0.75 * grey[:, None, None, None], rtol=1e-4, atol=1e-5)
    flat = ColorJitter(contrast=(0, 0))(x[:, :2], draws(200))
    np.testing.assert_allclose(flat, np.broadcast_to(x[:, :2].mean((1, 2, 3), keepdims=True), flat.shape), rtol=1e-4)
    assert ColorJitter(3, 0).brightness == (0, 4)


def test_pca_colour_jitter_moves_along_its_directions():
    directions = np.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 1]])
    x = images(3000, (3, 2, 2))
    shift = PCAColorJitter(directions, [3.0, 0.5, 0.0], std=0.2)(x, draws(3000)) - x
    assert np.ptp(shift, axis=(2, 3)).max() < 1e-5
    along = shift[:, :, 0, 0] @ directions.T
    np.testing.assert_allclose(along.std(axis=0), [0.6, 0.1, 0], rtol=0.05, atol=1e-5)
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=0.05)


def test_blur_keeps_the_sum_and_has_the_width_asked_for():
    x = np.zeros((3, 1, 31, 31), np.float32)
    x[:, :, 15, 15] = 1
    y = GaussianBlur(21, (1.5, 1.5))(x, draws(3)).astype(float)
    np.testing.assert_allclose(y.sum((1, 2, 3)), 1, rtol=1e-5)
    place = np.arange(31) - 15
    for axis in (1, 2):
        np.testing.assert_allclose((y[:, 0].sum(axis) * place**2).sum(1), 1.5**2, rtol=1e-3)
    np.testing.assert_array_equal(GaussianBlur(1)(x, draws(3)), x)
    widths = GaussianBlur(21, (0.5, 2))(x, draws(3))[:, 0, 15, 15]
    assert len(np.unique(widths)) == 3


def test_noise_has_the_deviation_asked_for():
    x = images(50, (3, 40, 40))
    noise = GaussianNoise((0.5, 1.5))(x, draws(50)) - x
    deviations = noise.std(axis=(1, 2, 3))
    assert 0.5 < deviations.min() < 0.65
    assert 1.35 < deviations.max() < 1.55
    np.testing.assert_array_equal(GaussianNoise(0)(x, draws(50)), x)


def test_cutout_cuts_boxes_around_any_pixel():
    x = np.ones((2000, 2, 6, 7), np.float32)
    y = Cutout((3, 2), 0.5, fill=-1)(x, draws(2000))
    cut = y == -1
    assert (cut[:, 0] == cut[:, 1]).all()
    assert (cut | (y == 1)).all()
    assert abs(cut.any(axis=(1, 2, 3)).mean() - 0.5) < 0.05
    down, across = cut[:, 0].any(2).sum(1), cut[:, 0].any(1).sum(1)
    np.testing.assert_array_equal(cut[:, 0].sum((1, 2)), down * across)  # a box
    assert set(down[down > 0]) == {2, 3}
    assert set(across[across > 0]) == {1, 2}
    assert cut[:, 0].any(0).all()


# ---------------------------------------------------------------- mixing
def test_mixup_mixes_images_and_targets_alike():
    x, labels = images(64), np.arange(64) % 5
    y, targets = MixUp(alpha=1.0, num_classes=5)(x, labels, draws(64))
    partners, shares = MixUp(num_classes=5).draw(64, draws(64))
    assert sorted(partners) == list(range(64))
    assert shares.min() < 0.1
    assert shares.max() > 0.9
    share = shares[:, None, None, None]
    np.testing.assert_allclose(y, share * x + (1 - share) * x[partners], rtol=1e-4, atol=1e-5)
    one_hot, share = np.eye(5)[labels], shares[:, None]
    np.testing.assert_allclose(targets, share * one_hot + (1 - share) * one_hot[partners], atol=1e-6)
    assert targets.dtype == np.float32


def test_cutmix_counts_the_pixels_of_each():
    labels = np.arange(40) % 5
    x = np.broadcast_to(labels[:, None, None, None], (40, 2, 8, 9)).astype(np.float32)
    y, targets = CutMix(num_classes=5)(x, labels, draws(40))
    for image, target in zip(y, targets):
        shares = np.bincount(image.astype(int).ravel(), minlength=5) / image.size
        np.testing.assert_allclose(target, shares, atol=1e-6)
    assert (targets.max(axis=1) < 1).mean() > 0.5


def test_mixing_again_takes_probabilities():
    x, labels = images(16), np.arange(16) % 5
    y, targets = MixUp(num_classes=5)(x, labels, draws(16))
    _, again = CutMix()(y, targets, draws(16, stream=1))
    np.testing.assert_allclose(again.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("targets", "classes", "message"),
    [
        (np.arange(4), None, "num_classes is None, but the targets are labels"),
        (np.arange(4), 3, "targets are from 0 to 3, expected 0 to 2"),
        (np.zeros(4), 3, r"targets have shape \(4,\) and dtype float64, expected labels"),
    ],
)
def test_mixing_rejects_targets_that_do_not_fit(targets, classes, message):
    with pytest.raises(ValueError, match=message):
        MixUp(num_classes=classes)(images(4), targets, draws(4))


# ---------------------------------------------------------------- in the loader
def loader(batch_size=8, **options):
    x = np.random.default_rng(1).integers(0, 255, (30, *SHAPE), np.uint8)
    options = {"shuffle": True, "seed": 4, "augment": [*STEPS, Normalize([1] * 3, [2] * 3), *MIXING]} | options
    return DataLoader(ArrayDataset(x, np.arange(30) % 5), batch_size, **options)


def same(one, other):
    return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_epoch_entered_in_the_middle_goes_on_with_the_same_images(prefetch):
    whole = list(loader().batches(2))
    assert whole[0][0].dtype == np.float32
    assert whole[0][1].shape == (8, 5)
    assert same(loader(prefetch=prefetch).batches(2, 2), whole[2:])
    assert not same(loader().batches(3), whole)
    assert not same(loader(seed=5).batches(2), whole)


def test_a_sample_looks_the_same_in_batches_of_any_size():
    def by_sample(batch_size):
        source = loader(batch_size, augment=STEPS)
        pictures = np.concatenate([x for x, _ in source.batches(1)])
        return pictures[np.argsort(source.order(1))]

    np.testing.assert_array_equal(by_sample(30), by_sample(7))


def test_threads_do_not_matter():
    before = nnk.get_num_threads()
    try:
        nnk.set_num_threads(1)
        alone = list(loader(30).batches(0))
    finally:
        nnk.set_num_threads(before)
    assert same(loader(30).batches(0), alone)


def test_an_augmenting_loader_needs_a_seed_even_in_order():
    seeds = []
    for seed in (5, 5, 6):
        nnk.manual_seed(seed)
        seeds.append(loader(shuffle=False, seed=None).seed)
    assert seeds[0] == seeds[1] != seeds[2]


def test_functions_of_images_are_steps():
    (x, _), *_ = loader(augment=[lambda x: x[:, :1] * 2])
    assert x.shape == (8, 1, 10, 12)
    with pytest.raises(TypeError, match="augment holds a str, expected augmentations"):
        loader(augment=["flip"])
    with pytest.raises(TypeError, match="augment is a RandomVerticalFlip, expected a sequence of steps"):
        loader(augment=RandomVerticalFlip())
    with pytest.raises(ValueError, match=re.escape("images have shape (8,), expected (N, C, H, W) to augment")):
        next(iter(DataLoader(np.arange(30.0), 8, augment=STEPS)))
    with pytest.raises(ValueError, match="mixes targets too, but the data set has images alone"):
        next(iter(DataLoader(images(), 8, augment=MIXING)))


# ---------------------------------------------------------------- bad arguments
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(0), "size is 0, expected at least 1"),
        (lambda: RandomCrop(8, -1), "padding is -1, expected at least 0"),
        (lambda: RandomCrop(8, padding_mode="mirror"), "padding_mode is 'mirror', expected one of"),
        (lambda: RandomCrop(13)(images(), draws()), "images are 10 × 12 with their padding, expected at least size"),
        (lambda: RandomHorizontalFlip(1.5), "p is 1.5, expected 0 <= p <= 1"),
        (lambda: RandomAffine((10, -10)), "degrees is (10, -10), expected a number or (low, high)"),
        (lambda: RandomAffine(0, (2, 0)), "translate is (2, 0), expected two shares from 0 to 1"),
        (lambda: RandomAffine(0, scale=(0, 1)), "scale is (0, 1), expected positive factors"),
        (lambda: ColorJitter((-1, 1)), "brightness is (-1, 1), expected a number or (low, high) of at least 0"),
        (lambda: GaussianBlur(4), "kernel_size is 4, expected an odd number"),
        (lambda: GaussianBlur(3, 0), "sigma is 0, expected positive deviations"),
        (lambda: GaussianNoise(-1), "sigma is -1, expected a number or (low, high) of at least 0"),
        (lambda: Cutout(0), "size is 0, expected at least 1"),
        (lambda: MixUp(alpha=0), "alpha is 0, expected a positive number"),
        (lambda: MixUp(num_classes=0), "num_classes is 0, expected at least 1"),
        (lambda: PCAColorJitter(np.eye(2), [1, 2, 3]), "directions have shape (2, 2) and deviations (3,), expected"),
        (lambda: PCAColorJitter(np.eye(2), [1, 2])(images(), draws()), "expected 2 channels as the directions have"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomAffine("10"), "degrees is '10', expected a number"),
        (lambda: RandomAffine(None), "degrees is None, expected a number"),
        (lambda: GaussianNoise((0.1, "a")), "sigma is 'a', expected a number"),
        (lambda: RandomHorizontalFlip("0.5"), "p is '0.5', expected a number"),
    ],
)
def test_what_is_no_number(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_single_share_to_translate_by():
    with pytest.raises(ValueError, match=r"translate is 0\.1, expected two shares from 0 to 1"):
        RandomAffine(10, translate=0.1)
