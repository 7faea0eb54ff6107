"""Padding with the image's own pixels: every mode, ends that differ, the most that a mode allows."""

from __future__ import annotations

from ._suite import Case, Cost, Suite, Terms, normal, rms


def _case(name, shape, padding, mode):
    def make(rng):
        (top, bottom), (left, right) = padding
        n, c, h, w = shape
        dy = normal(rng, (n, c, top + h + bottom, left + w + right))
        return {"x": normal(rng, shape), "dy": dy, "padding": padding, "mode": mode}

    return Case(name, make)


def _run(k, *, x, dy, **options):
    return {"y": k.pad2d(x, **options), "dx": k.pad2d_backward(dy, x.shape, **options)}


def _cost(*, x, dy, **_):
    cost = Cost(x.nbytes + dy.nbytes, dy.size)
    return {"pad2d": cost, "pad2d_backward": cost}


pad2d = Suite(
    cases=(
        _case("reflect", (2, 3, 5, 7), ((1, 1), (1, 1)), "reflect"),
        _case("reflect_most", (2, 17, 4, 3), ((3, 3), (2, 2)), "reflect"),
        _case("reflect_one_end", (1, 5, 6, 5), ((0, 2), (3, 0)), "reflect"),
        _case("replicate", (2, 33, 5, 4), ((2, 2), (2, 2)), "replicate"),
        _case("replicate_far", (1, 2, 1, 2), ((5, 4), (3, 7)), "replicate"),
        _case("circular", (2, 16, 5, 4), ((1, 2), (2, 1)), "circular"),
        _case("circular_most", (1, 1, 3, 2), ((3, 3), (2, 2)), "circular"),
        _case("none", (2, 3, 4, 5), ((0, 0), (0, 0)), "reflect"),
        _case("empty_batch", (0, 3, 4, 5), ((1, 1), (1, 1)), "replicate"),
        _case("large", (2, 19, 23, 29), ((3, 3), (3, 3)), "reflect"),
    ),
    run=_run,
    terms=lambda *, dy, **_: {"dx": Terms(9, rms(dy))},
    gradients=("x",),
    bench=(_case("64 of 56², 1 around", (32, 64, 56, 56), ((1, 1), (1, 1)), "reflect"),),
    cost=_cost,
)
