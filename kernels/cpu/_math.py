"""exp, log, tanh, erf and their like on the SIMD type: range reduction and a polynomial, no table, no branch.

Error bounds are in units in the last place (ulp) of the exact result over all float32 arguments, unless a function
names a shorter range; the tests check them. Infinities and NaN behave as in NumPy. Subnormal arguments and results are
kept.
"""

import numpy as np

from ._compile import inner
from .simd import vabs, vbits, vclip, vcopysign, vfma, vfrombits, vfromint, vselect, vsplat

_ROUND = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer and leaves that in the low bits
_ROUND_BITS = 0x4B400000
_ROUND_64, _TO_MINUS_64 = np.float32(12582912.0 + 64), np.float32(2.0**-64)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # k * high is exact for |k| < 2**9
_LOG2E = np.float32(1.4426950408889634)


@inner
def _power_of_two(k):
    """2**k as a float, -126 <= k <= 127."""
    return vfrombits((k + 127) << 23)


@inner
def _reduced(x, to):
    """With x = k ln 2 + r, |r| <= ln 2 / 2: `to` + k, r, and p with e**r = 1 + r + p r**2.

    `to`, _ROUND or _ROUND_64, leaves k or k + 64 in the low bits.
    """
    rounded = vfma(x, vsplat(_LOG2E), vsplat(to))
    k = rounded - to
    r = vfma(k, vsplat(-_LN2_LOW), vfma(k, vsplat(-_LN2_HIGH), x))
    p = vsplat(1.3814599e-3)
    p = vfma(p, r, vsplat(8.3687166e-3))
    p = vfma(p, r, vsplat(4.1668388e-2))
    p = vfma(p, r, vsplat(1.6666521e-1))
    p = vfma(p, r, vsplat(0.49999994))
    return rounded, r, p


@inner
def _halves(rounded):
    """k / 2 and k - k / 2: 2**k itself may be no float, or a subnormal one."""
    k = vbits(rounded) - _ROUND_BITS
    half = ((k + 512) >> 1) - 256
    return half, k - half


@inner
def vexp(x):
    """e**x within 1 ulp: e**r by a polynomial, scaled by 2**(k/2) twice."""
    rounded, r, p = _reduced(vclip(x, -104.0, 89.0), _ROUND)
    half, rest = _halves(rounded)
    return vfma(vfma(p, r, vsplat(1.0)), r, vsplat(1.0)) * _power_of_two(half) * _power_of_two(rest)


@inner
def _raised(rounded, r, p):
    """e**r with the low bits of `rounded` added to its exponent: anything for NaN."""
    return vfrombits(vbits(vfma(vfma(p, r, vsplat(1.0)), r, vsplat(1.0))) + (vbits(rounded) << 23))


@inner
def vexp_low(x):
    """e**x within 1 ulp for x <= 40, in two thirds of the work of `vexp`: 2**(k + 64) is normal, 2**-64 follows."""
    rounded, r, p = _reduced(vselect(x < -104.0, -104.0, x), _ROUND_64)
    return vfma(_raised(rounded, r, p), vsplat(_TO_MINUS_64), 0.0 * r)  # 0 r is for NaN


@inner
def vexpm1(x):
    """e**x - 1 within 1.5 ulp, near 0 too: with p = e**r - 1 it is 2**k (p + (1 - 2**-k))."""
    rounded, r, p = _reduced(vclip(x, -18.0, 89.0), _ROUND)
    half, rest = _halves(rounded)
    offset = 1.0 - _power_of_two(0 - half) * _power_of_two(0 - rest)
    y = (vfma(p * r, r, r) + offset) * _power_of_two(half) * _power_of_two(rest)
    return vcopysign(y, x)  # so that -0 stays what it is


@inner
def vlog(x):
    """Natural logarithm within 1 ulp: x = 2**k m, m in [2/3, 4/3), log m = 2 atanh((m - 1) / (m + 1)) as a series."""
    small = x < np.float32(1.1754944e-38)
    scaled = vselect(small, x * np.float32(8388608.0), x)
    bits = vbits(scaled) - 0x3F2AAAAB
    k = vfromint((bits >> 23) | ((bits >> 31) * -512))
    m = vfrombits((bits & 0x7FFFFF) + 0x3F2AAAAB) - 1.0
    k = k - vselect(small, vsplat(23.0), vsplat(0.0))
    s = m / (m + 2.0)
    z = s * s
    p = vsplat(0.22222222)
    p = vfma(p, z, vsplat(0.28571429))
    p = vfma(p, z, vsplat(0.4))
    p = vfma(p, z, vsplat(0.66666667))
    # log(1 + m) = m - m^2/2 + s (m^2/2 + z p): the leading terms exact, the series only for what is left.
    square = 0.5 * m * m
    tail = s * vfma(z, p, square)
    y = vfma(k, vsplat(_LN2_HIGH), m - (square - vfma(k, vsplat(_LN2_LOW), tail)))
    y = vselect(x == np.float32(np.inf), x, y)
    y = vselect(x == 0.0, np.float32(-np.inf), y)
    return vselect(x >= 0.0, y, np.float32(np.nan))


@inner
def vtanh(x):
    """tanh within 1.5 ulp: an odd polynomial below 0.625, else 1 - 2 q / (1 + q) with q = e**-2|x|."""
    a = vabs(x)
    z = x * x
    p = vsplat(-5.70498872745e-3)
    p = vfma(p, z, vsplat(2.06390887954e-2))
    p = vfma(p, z, vsplat(-5.37397155531e-2))
    p = vfma(p, z, vsplat(1.33314422036e-1))
    p = vfma(p, z, vsplat(-3.33332819422e-1))
    near = vfma(p * z, x, x)
    q = vexp_low(-2.0 * a)
    far = 1.0 - (q + q) / (q + 1.0)
    return vcopysign(vselect(a < 0.625, near, far), x)  # so that -0 stays what it is


@inner
def vsigmoid(x):
    """The logistic function 1 / (1 + e**-x) within 3 ulp; e**-|x| cannot overflow."""
    e = vexp_low(-vabs(x))
    return vselect(x < 0.0, e, 1.0) / (1.0 + e)


@inner
def vlog1p(x):
    """log(1 + x) within 1.5 ulp, for 0 <= x <= 1: 2 atanh(s) = 2 s + s R(s**2) with s = x / (2 + x), 2 s = x - s x."""
    s = x / (x + 2.0)
    z = s * s
    p = vsplat(0.28024459)
    p = vfma(p, z, vsplat(0.27999142))
    p = vfma(p, z, vsplat(0.400217))
    p = vfma(p, z, vsplat(0.66666412))
    return x - s * (x - z * p)


@inner
def verf(x):
    """erf within 2.5 ulp: an odd polynomial below 0.75, else 1 - e**q with a polynomial q(|x|) for log erfc."""
    a = vselect(vabs(x) > 4.0, 4.0, vabs(x))
    z = x * x
    p = vsplat(0.0041588121)
    p = vfma(p, z, vsplat(-0.026360232))
    p = vfma(p, z, vsplat(0.11273735))
    p = vfma(p, z, vsplat(-0.37611929))
    p = vfma(p, z, vsplat(0.12837909))
    near = vfma(p, x, x)
    q = vsplat(-0.0014101936)
    q = vfma(q, a, vsplat(0.016755827))
    q = vfma(q, a, vsplat(-0.094498143))
    q = vfma(q, a, vsplat(-0.64601511))
    q = vfma(q, a, vsplat(-1.1234146))
    q = vfma(q, a, vsplat(-0.0010235335))
    rounded, r, p = _reduced(q, _ROUND)
    return vselect(a >= 0.75, vcopysign(1.0 - _raised(rounded, r, p), x), near)  # near where x is NaN
