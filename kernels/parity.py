"""How close a backend must come to the reference, and the comparison itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import reference
from .cases._layout import place
from .cases._suite import Case, Inputs, Results, Suite, Terms, rms


def tolerance(want: np.ndarray, terms: Terms, dtype: DTypeLike, roundoffs: Mapping[str, float] = {}) -> np.ndarray:
    """The error allowed in each element of a result computed in `dtype`.

        64 ε |want|  +  2 ε · count · size

    with ε the spacing of numbers beside 1 (1.2e-7 in float32, where the first part is 7.6e-6 of the result).
    The first part covers functions of many roundings, like exponentials and square roots. The second covers
    cancellation: a sum of n terms of random signs and size s is about √n s, but its partial sums reach that
    size too and each is rounded, which leaves an error of about ε n s / 2 after n additions in a row. Numbers
    below the smallest normal one may be flushed to zero.

    In 16 bits arithmetic is that of float32, and what is stored is rounded: the result itself, and results of the
    forward function from which a gradient is made. To the above, with float32's ε, comes

        δ (|want| + size)

    with δ the spacing of the stored type beside 1.

    A backend that rounds the factors of float32 products says so: `roundoffs` has the relative error u of a factor by
    precision. The errors of n products have random signs; to the above comes

        4 u √(count + 16) · size

    which five standard deviations of errors between -u and u in both factors do not exceed; the 16 are for short sums,
    where single products of normal factors, some nine times the usual size, make the error.
    """
    stored, info = _finfo(dtype), _finfo(_widened(dtype))
    allowed = 64 * info.eps * np.abs(want) + 2 * info.eps * terms.count * terms.size + info.tiny
    if stored.bits == 16:
        allowed += float(stored.eps) * (np.abs(want) + terms.size) + float(stored.smallest_subnormal)
    elif terms.precision in roundoffs:
        allowed += 4 * roundoffs[terms.precision] * np.sqrt(terms.count + 16) * terms.size
    return allowed


def _widened(dtype: DTypeLike) -> np.dtype:
    """The dtype that arithmetic has: float32 at least."""
    return max(np.dtype(dtype), np.dtype(np.float32), key=lambda d: d.itemsize)


def _finfo(dtype: DTypeLike) -> Any:
    return np.finfo(dtype) if np.dtype(dtype).kind == "f" else import_module("ml_dtypes").finfo(dtype)


def _is_float(dtype: np.dtype) -> bool:
    """Whether a dtype is a float, bfloat16 included, which NumPy has from ml_dtypes."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def make_inputs(case: Case, dtype: DTypeLike, layout: str = "native") -> Inputs:
    """The inputs of a case, the same at every call, floats rounded to `dtype`."""
    rng = np.random.default_rng(list(case.name.encode()))

    def settle(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [settle(name, item) for item in value]
        if not isinstance(value, np.ndarray):
            return value
        target = dtype if value.dtype.kind == "f" else value.dtype
        return place(value, target, layout, rng, image=name != "weight")

    return {name: settle(name, value) for name, value in case.make(rng).items()}


def expected(suite: Suite, case: Case, dtype: DTypeLike) -> tuple[Results, dict[str, Terms]]:
    """The reference's results in float64 on inputs rounded to `dtype`, and the terms of each."""

    def widen(value: Any) -> Any:
        if isinstance(value, list):
            return [widen(item) for item in value]
        return value.astype(np.float64) if isinstance(value, np.ndarray) and _is_float(value.dtype) else value

    inputs = {name: widen(value) for name, value in make_inputs(case, dtype, "contiguous").items()}
    terms = suite.terms(**inputs)
    results = suite.run(reference, **inputs)
    return results, {name: terms.get(name, Terms(1, rms(want))) for name, want in results.items()}


def excess(
    got: Any, want: np.ndarray, terms: Terms, dtype: DTypeLike, roundoffs: Mapping[str, float] = {}
) -> float:
    """The worst error of a result over its tolerance: at most 1 is right, infinity is beyond discussion.

    Integers must be equal, NaN and infinities must stand in the same places, and the result must be an array of
    the reference's shape and of `dtype`, or float32 where `terms` say so.
    """
    dtype = _widened(dtype) if terms.wide else dtype
    target = np.dtype(dtype) if want.dtype.kind == "f" else want.dtype
    if not isinstance(got, np.ndarray) or got.shape != want.shape or got.dtype != target:
        return np.inf
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - want)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        if want.dtype.kind != "f":
            return 0.0 if same.all() else np.inf
        ratio = np.where(same, 0, error / tolerance(want, terms, dtype, roundoffs))
    return float(np.nan_to_num(ratio, nan=np.inf).max(initial=0))


def compare(
    suite: Suite, case: Case, backend: ModuleType, dtype: DTypeLike = np.float32, layout: str = "native",
    send: Callable[[np.ndarray], Any] = lambda x: x, fetch: Callable[[Any], np.ndarray] = lambda x: x,
) -> dict[str, float]:
    """Run a case on a backend: the `excess` of every result over its tolerance, by name.

    Where the backend's arrays are not NumPy's, `send` and `fetch` bring them there and back.
    """

    def sent(value: Any) -> Any:
        if isinstance(value, list):
            return [sent(item) for item in value]
        return send(value) if isinstance(value, np.ndarray) else value

    want, terms = expected(suite, case, dtype)
    inputs = {name: sent(value) for name, value in make_inputs(case, dtype, layout).items()}
    got = suite.run(backend, **inputs)
    got = {name: fetch(value) for name, value in got.items()}
    roundoffs = getattr(backend, "ROUNDOFFS", {})
    return {name: excess(got.get(name), want[name], terms[name], dtype, roundoffs) for name in want}
