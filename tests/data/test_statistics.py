import numpy as np
import pytest

from nnk.data import (
    ArrayDataset,
    DataLoader,
    Normalize,
    PCAColorJitter,
    PCAWhitening,
    ZCAWhitening,
    channel_statistics,
    mean_image,
    statistics,
)
from nnk.data.statistics import Moments, batches_of, principal_axes


@pytest.fixture
def images():
    """Images whose pixels hang together."""
    rng = np.random.default_rng(0)
    mixture = rng.normal(size=(24, 24))
    return (rng.normal(size=(400, 24)) @ mixture + 5 * rng.normal(size=24)).reshape(-1, 3, 2, 4).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_statistics_are_those_of_numpy_however_the_images_come(images, monkeypatch, dtype):
    images = (images * 3 + 100).clip(0, 255).astype(dtype)
    wide = images.astype(np.float64)
    monkeypatch.setattr(statistics, "CHUNK", 24 * 7)
    labels = np.zeros(400)
    data = ArrayDataset(images, labels)
    for form in (images, data, DataLoader(data, 13), [images[:1], images[1:]]):
        mean, std = channel_statistics(form)
        np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(std, wide.std((0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(mean_image(form), wide.mean(0), rtol=1e-12)
        assert mean_image(form).shape == (3, 2, 4)
    np.testing.assert_array_equal(Normalize.fit(images).mean, mean.astype(np.float32))


def test_a_large_mean_with_a_small_deviation():
    rng = np.random.default_rng(1)
    images = 1e6 + rng.normal(size=(2000, 2, 3, 3)) * np.array([1e-3, 1.0])[:, None, None]
    mean, std = channel_statistics([images[i : i + 50] for i in range(0, 2000, 50)])
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(std, images.std((0, 2, 3)), rtol=1e-5)


def test_moments_joined_are_moments_of_all():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(100, 5)) @ rng.normal(size=(5, 5)) + 10
    moments = Moments(covariance=True)
    for part in np.split(rows, [1, 2, 40, 97]):
        moments.add(part)
    assert moments.count == 100
    np.testing.assert_allclose(moments.mean, rows.mean(0))
    np.testing.assert_allclose(moments.variance, np.cov(rows.T, bias=True))
    variances, axes = principal_axes(moments)
    assert (np.diff(variances) <= 0).all()
    np.testing.assert_allclose(axes @ axes.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(axes.T * variances @ axes, moments.variance, atol=1e-12)
    assert (axes[np.arange(5), abs(axes).argmax(1)] > 0).all()


def test_images_of_different_sizes_have_channel_statistics():
    rng = np.random.default_rng(3)
    batches = [rng.normal(size=(2, 3, h, w)) for h, w in ((4, 5), (7, 3))]
    mean, _ = channel_statistics(batches)
    flat = np.concatenate([batch.transpose(1, 0, 2, 3).reshape(3, -1) for batch in batches], axis=1)
    np.testing.assert_allclose(mean, flat.mean(1))
    with pytest.raises(ValueError, match=r"images have shapes \(3, 4, 5\) and \(3, 7, 3\), expected one"):
        mean_image(batches)


@pytest.mark.parametrize("nothing", [np.zeros((0, 1, 2, 2)), [], [np.zeros((0, 1, 2, 2))], np.zeros((3, 4))])
def test_no_images(nothing):
    with pytest.raises(ValueError, match=r"expected \(N, C, H, W\) and not empty"):
        list(batches_of(nothing))


# ---------------------------------------------------------------- whitening
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", [PCAWhitening, ZCAWhitening])
def test_white_images_are_uncorrelated_and_have_variance_1(images, kind, batched):
    whitening = kind.fit([images[i : i + 32] for i in range(0, 400, 32)] if batched else images, eps=1e-9)
    white = whitening(images)
    assert white.dtype == np.float32
    assert white.shape == ((400, 24) if kind is PCAWhitening else images.shape)
    flat = white.reshape(400, 24).astype(float)
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(flat.T, bias=True), np.eye(24), atol=1e-2)
    np.testing.assert_allclose(whitening.inverse(white), images, atol=2e-3)


def test_zca_stays_nearest_to_the_images(images):
    """Any other whitening is a rotation of it, and further away."""
    centred = (images - images.mean(0)).reshape(400, -1)
    pca, zca = (kind.fit(images)(images).reshape(400, -1) for kind in (PCAWhitening, ZCAWhitening))
    assert np.square(zca - centred).sum() < np.square(pca - centred).sum()
    rotation = np.linalg.lstsq(pca, zca, rcond=None)[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(24), atol=1e-3)


def test_pca_keeps_the_axes_of_largest_variance(images):
    whitening = PCAWhitening.fit(images, 10)
    white = whitening(images)
    assert white.shape == (400, 10)
    np.testing.assert_allclose(white, PCAWhitening.fit(images)(images)[:, :10], atol=1e-4)
    lost = np.square(whitening.inverse(white) - images).sum() / 400
    variances = np.linalg.eigvalsh(np.cov(images.reshape(400, -1).T.astype(float), bias=True))
    assert lost == pytest.approx(variances[:-10].sum(), rel=1e-3)


def test_directions_without_variance_are_not_blown_up():
    images = np.random.default_rng(0).normal(size=(50, 1, 4, 4)).astype(np.float32)
    images[:, :, 0] = images[:, :, 1]
    assert np.abs(ZCAWhitening.fit(images, eps=1e-2)(images)).max() < 10
    assert np.isfinite(PCAWhitening.fit(images[:5])(images)).all()


def test_whitening_rejects_what_does_not_fit(images):
    whitening = ZCAWhitening.fit(images)
    with pytest.raises(ValueError, match=r"images have shape \(400, 3, 4, 2\), expected \(N, \*\(3, 2, 4\)\)"):
        whitening(images.transpose(0, 1, 3, 2))
    with pytest.raises(ValueError, match="components is 25, expected at most 24"):
        PCAWhitening.fit(images, 25)
    with pytest.raises(ValueError, match="eps is 0, expected a positive number"):
        PCAWhitening.fit(images, eps=0)


def test_colours_from_the_data(images):
    jitter = PCAColorJitter.fit(images, std=0.3)
    flat = images.transpose(1, 0, 2, 3).reshape(3, -1).astype(float)
    covariance = jitter.directions.T * jitter.deviations**2 @ jitter.directions
    np.testing.assert_allclose(covariance, np.cov(flat, bias=True), rtol=1e-6)
    assert jitter.std == 0.3
