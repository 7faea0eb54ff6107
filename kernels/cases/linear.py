"""Fully connected layers: single rows and columns, odd sizes, a long sum."""

from __future__ import annotations

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(name, rows, features_in, features_out, *, bias=True, precision="highest"):
    def make(rng):
        return {
            "x": normal(rng, (rows, features_in)),
            "weight": normal(rng, (features_out, features_in)),
            "bias": normal(rng, features_out) if bias else None,
            "dy": normal(rng, (rows, features_out)),
            "precision": precision,
        }

    return Case(name, make)


def _run(k, *, x, weight, bias, dy, precision):
    return {
        "y": k.linear(x, weight, bias, precision=precision),
        "dx": k.linear_dgrad(dy, weight, precision=precision),
        "dweight": k.linear_wgrad(dy, x, precision=precision),
        "dbias": k.linear_bgrad(dy),
    }


def _terms(*, x, weight, bias, dy, precision):
    rows, features = x.shape
    return {
        "y": Terms(features + 1, max(rms(x) * rms(weight), rms(bias)), precision),
        "dx": Terms(len(weight), rms(dy) * rms(weight), precision),
        "dweight": Terms(rows, rms(dy) * rms(x), precision, wide=True),
        "dbias": Terms(rows, rms(dy), wide=True),
    }


def _cost(*, x, weight, bias, dy, **_):
    product = Cost(x.nbytes + weight.nbytes + dy.nbytes, 2 * x.size * len(weight))
    return {
        "linear": product,
        "linear_dgrad": product,
        "linear_wgrad": product,
        "linear_bgrad": Cost(dy.nbytes, dy.size),
    }


linear = Suite(
    cases=(
        _case("plain", 5, 17, 33),
        _case("no_bias", 5, 17, 33, bias=False),
        _case("one_of_everything", 1, 1, 1),
        _case("one_row", 1, 300, 7),
        _case("one_output", 13, 31, 1),
        _case("one_input", 13, 1, 31),
        _case("empty_batch", 0, 5, 3),
        _case("classifier", 64, 128, 10),
        _case("long_sum", 3, 4099, 5),
        _case("many_rows", 1009, 7, 6),
        _case("plain_high", 5, 17, 33, precision="high"),
        _case("plain_medium", 5, 17, 33, precision="medium"),
        _case("one_of_everything_high", 1, 1, 1, precision="high"),
        _case("empty_batch_high", 0, 5, 3, precision="high"),
        _case("long_sum_high", 3, 259, 5, precision="high"),
    ),
    run=_run,
    terms=_terms,
    gradients=("x", "weight", "bias"),
    bench=(
        _case("512 to 1000", 32, 512, 1000),
        _case("4096 to 4096", 64, 4096, 4096),
    ),
    cost=_cost,
)
