"""An explicit SIMD vector for Numba code: `f32v` is L float32 lanes in one register (LLVM `<L x float>`).

Plain njit code holds vectors in variables, combines them with `+ - * / < ...` (a Python number is broadcast) and
passes them to functions, so a kernel reads like its formula:

    x = vload(a.x, i)
    vstore(a.y, i, vselect(x > 0, x, a.slope * x))

Memory is addressed by an int64 byte address and an offset counted in elements. `vload_n(p, i, n)` and
`vstore_n(p, i, v, n)` touch only the first n lanes (the others read as 0), which is how tails are written; with n
known to be L when compiled they cost nothing extra.

L is 16, 8 or 4, as wide as the registers of the CPU that Numba compiles for (`_ir.py`).

`i32v` holds L int32 lanes (indices, random words), `mask` L truth values.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from ._ir import (
    F32,
    F64,
    I8,
    I32,
    I64,
    MASK,
    VI,
    VM,
    L,
    V,
    at,
    call,
    first_lanes,
    fma,
    i64,
    load,
    masked_load,
    masked_store,
    prefetch,
    splat,
    store,
)


class _Vector(types.Type):
    """A Numba type whose value is one LLVM vector."""


f32v, i32v, mask = _Vector(f"f32x{L}"), _Vector(f"i32x{L}"), _Vector(f"bool x{L}")
_LLVM = {f32v: V, i32v: VI, mask: VM}


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _LLVM[vector])


# ---------------------------------------------------------------- functions for njit code
def emits(returns: types.Type, *takes: types.Type) -> Callable:
    """Decorator: the IR that `emit(builder, *values)` builds becomes a function of njit code with these types."""
    kind = returns(*takes)

    def wrap(emit):
        def lower(context, builder, sig, values):
            result = emit(builder, *values)
            return context.get_dummy_value() if result is None else result

        def typing(typing_context, *args):
            return (kind, lower) if len(args) == len(takes) else None
        functools.update_wrapper(typing, emit)
        # Numba folds arguments by the signature: emit's own, its builder standing for the typing context.
        typing.__signature__ = inspect.signature(emit)
        return intrinsic(typing)
    return wrap


_int, _float, _address = types.int64, types.float32, types.int64


@emits(f32v, _address, _int)
def vload(b, p, i):
    """L floats from p[i]."""
    return load(b, at(b, p, i))


@emits(f32v, _address, _int, _int)
def vload_n(b, p, i, n):
    """The first n lanes from p[i], 0 in the others."""
    return masked_load(b, at(b, p, i), first_lanes(b, n))


@emits(types.void, _address, _int, f32v)
def vstore(b, p, i, v):
    """L floats to p[i]."""
    store(b, v, at(b, p, i))


@emits(types.void, _address, _int, f32v, _int)
def vstore_n(b, p, i, v, n):
    """The first n lanes to p[i]."""
    masked_store(b, v, at(b, p, i), first_lanes(b, n))


@emits(f32v, _address, _int, _int)
def vconst_n(b, p, i, n):
    """As `vload_n`, of memory that nobody writes to meanwhile: a loop that does not move i loads it once."""
    value = masked_load(b, at(b, p, i), first_lanes(b, n))
    value.set_metadata("invariant.load", b.module.add_metadata([]))
    return value


@emits(types.void, _address, _int, f32v)
def vstream(b, p, i, v):
    """L floats to p[i], aligned to the vector, past the caches. A kernel that does so ends with `vstreamed`."""
    stored = b.store(v, b.bitcast(at(b, p, i), V.as_pointer()), align=4 * L)
    stored.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(I32, 1)]))


@emits(types.void)
def vstreamed(b):
    """All that `vstream` has stored is in its place before what follows."""
    b.fence("seq_cst")


@emits(types.void, _address, _int)
def vprefetch(b, p, i):
    """Ask for the cache line of p[i], which need not exist, to come into L2."""
    prefetch(b, at(b, p, i))


@emits(types.void, _address, _int, mask)
def mstore(b, p, k, m):
    """A mask as the k-th of those that p holds, of MASK bytes each."""
    bits = b.bitcast(m, ir.IntType(L))
    kind = ir.IntType(8 * MASK)
    b.store(bits if L == 8 * MASK else b.zext(bits, kind), at(b, p, k, kind), align=MASK)


@emits(mask, _address, _int)
def mload(b, p, k):
    """The k-th mask of those that `mstore` left."""
    kind = ir.IntType(8 * MASK)
    bits = b.load(at(b, p, k, kind), align=MASK, typ=kind)
    return b.bitcast(bits if L == 8 * MASK else b.trunc(bits, ir.IntType(L)), VM)


@emits(f32v, _float)
def vsplat(b, x):
    """x in every lane."""
    return splat(b, x)


@emits(_float, _address, _int)
def fload(b, p, i):
    """One float, p[i]."""
    return load(b, at(b, p, i), F32)


@emits(types.void, _address, _int, _float)
def fstore(b, p, i, x):
    """One float to p[i]."""
    store(b, x, at(b, p, i))


@emits(types.float64, _address, _int)
def dload(b, p, i):
    """One double, p[i]."""
    return load(b, at(b, p, i, F64), F64)


@emits(types.void, _address, _int, types.float64)
def dstore(b, p, i, x):
    """One double to p[i]."""
    store(b, x, at(b, p, i, F64))


@emits(_int, _address, _int)
def iload(b, p, i):
    """One entry of an int32 table."""
    return b.sext(load(b, at(b, p, i, I32), I32), I64)


@emits(_int, _address, _int)
def lload(b, p, i):
    """One entry of an int64 table."""
    return load(b, at(b, p, i, I64), I64)


@emits(types.void, _address, _int, _int)
def lstore(b, p, i, x):
    """One entry of an int64 table."""
    store(b, x, at(b, p, i, I64))


@emits(i32v, _address, _int, _int)
def bload_n(b, p, i, n):
    """n bytes from p[i] as int32 lanes (unsigned), 0 in the others."""
    return b.zext(masked_load(b, at(b, p, i, I8), first_lanes(b, n), ir.VectorType(I8, L)), VI)


@emits(types.void, _address, _int, i32v, _int)
def bstore_n(b, p, i, v, n):
    """The low bytes of the first n lanes to p[i]."""
    masked_store(b, b.trunc(v, ir.VectorType(I8, L)), at(b, p, i, I8), first_lanes(b, n))


@emits(i32v, _address, _int, _int)
def iload_n(b, p, i, n):
    """n int32 from p[i], 0 in the other lanes."""
    return masked_load(b, at(b, p, i, I32), first_lanes(b, n), VI)


@emits(types.void, _address, _int, i32v, _int)
def istore_n(b, p, i, v, n):
    """The first n int32 lanes to p[i]."""
    masked_store(b, v, at(b, p, i, I32), first_lanes(b, n))


@emits(i32v, _int)
def isplat(b, x):
    """The low 32 bits of x in every lane."""
    return splat(b, b.trunc(x, I32))


@emits(i32v)
def lane_index(b):
    """0, 1, ..., L - 1."""
    return ir.Constant(VI, list(range(L)))


@emits(f32v, f32v, f32v, f32v)
def vfma(b, x, y, z):
    """x * y + z, rounded once."""
    return fma(b, x, y, z)


@emits(f32v, f32v, f32v)
def vmax(b, x, y):
    """The larger lane; a NaN in either operand stays."""
    return b.select(b.fcmp_ordered(">", y, x), y, b.select(b.fcmp_unordered("uno", y, y), y, x))


@emits(f32v, f32v, f32v)
def vmin(b, x, y):
    """The smaller lane; a NaN in either operand stays."""
    return b.select(b.fcmp_ordered("<", y, x), y, b.select(b.fcmp_unordered("uno", y, y), y, x))


@emits(f32v, f32v, _float, _float)
def vclip(b, x, low, high):
    """x between two bounds, beyond them the nearer one; NaN stays. Cheaper than `vmax` and `vmin`."""
    low, high = splat(b, low), splat(b, high)
    x = b.select(b.fcmp_ordered("<", x, low), low, x)
    return b.select(b.fcmp_ordered(">", x, high), high, x)


@emits(f32v, f32v)
def vsqrt(b, x):
    """Square root, correctly rounded."""
    return call(b, f"sqrt.v{L}f32", x)


@emits(f32v, f32v)
def vabs(b, x):
    """Absolute value."""
    return call(b, f"fabs.v{L}f32", x)


@emits(f32v, f32v, f32v)
def vcopysign(b, x, y):
    """|x| with y's sign."""
    return call(b, f"copysign.v{L}f32", x, y)


@emits(mask, f32v)
def visnan(b, x):
    """Lanes that are NaN."""
    return b.fcmp_unordered("uno", x, x)


@emits(i32v, f32v)
def vbits(b, x):
    """The lanes' bit patterns."""
    return b.bitcast(x, VI)


@emits(f32v, i32v)
def vfrombits(b, x):
    """The floats with these bit patterns."""
    return b.bitcast(x, V)


@emits(f32v, i32v)
def vfromint(b, x):
    """int32 lanes as floats."""
    return b.sitofp(x, V)


@emits(i32v, i32v, i32v)
def vmulhi(b, x, y):
    """High 32 bits of the unsigned products."""
    wide = ir.VectorType(I64, L)
    product = b.mul(b.zext(x, wide), b.zext(y, wide))
    return b.trunc(b.lshr(product, ir.Constant(wide, [32] * L)), VI)


@emits(mask, i32v, i32v)
def vbelow(b, x, y):
    """x < y as unsigned numbers."""
    return b.icmp_unsigned("<", x, y)


@intrinsic
def vselect(typing_context, condition, x, y):
    """Lanes of x where the mask is true, else of y; a number in place of a vector is broadcast."""
    kind = i32v if i32v in (x, y) else f32v
    if condition != mask or any(t != kind and not isinstance(t, types.Number) for t in (x, y)):
        return None
    scalar = types.int32 if kind == i32v else types.float32

    def lower(context, b, sig, values):
        c, x, y = values
        x, y = (splat(b, v) if v.type != _LLVM[kind] else v for v in (x, y))
        return b.select(c, x, y)
    return kind(mask, *(kind if t == kind else scalar for t in (x, y))), lower


def _fold(b, v, combine):
    """Combine the lanes of v pairwise, halving it: a fixed order, so results repeat."""
    n = L
    while n > 1:
        low, high = (ir.Constant(ir.VectorType(I32, n // 2), list(range(k, k + n // 2))) for k in (0, n // 2))
        v, n = combine(b.shuffle_vector(v, v, low), b.shuffle_vector(v, v, high)), n // 2
    return b.extract_element(v, ir.Constant(I32, 0))


@emits(_float, f32v)
def vsum(b, x):
    """Sum of the lanes, pairwise."""
    return _fold(b, x, b.fadd)


@emits(_float, f32v)
def vlargest(b, x):
    """Largest lane; unspecified if a lane is NaN."""
    return _fold(b, x, lambda p, q: b.select(b.fcmp_ordered(">", q, p), q, p))


@emits(_float, f32v)
def vfirst(b, x):
    """Lane 0."""
    return b.extract_element(x, ir.Constant(I32, 0))


@emits(types.boolean, mask)
def vany(b, m):
    """Whether any lane is true."""
    return b.icmp_unsigned("!=", b.bitcast(m, ir.IntType(L)), ir.Constant(ir.IntType(L), 0))


@emits(types.void, _address, _int, _address, _int)
def vtranspose(b, source, source_pitch, target, target_pitch):
    """target[i * target_pitch + j] = source[j * source_pitch + i] for an L x L block: log2(L) rounds of shuffles."""
    rows = [load(b, at(b, source, b.mul(source_pitch, i64(i)))) for i in range(L)]
    step = L // 2
    while step:
        low = [L + i - step if i & step else i for i in range(L)]
        high = [L + i if i & step else i + step for i in range(L)]
        for i in range(L):
            if not i & step:
                x, y = rows[i], rows[i + step]
                rows[i], rows[i + step] = (b.shuffle_vector(x, y, ir.Constant(VI, k)) for k in (low, high))
        step //= 2
    for i in range(L):
        store(b, rows[i], at(b, target, b.mul(target_pitch, i64(i))))


# ---------------------------------------------------------------- operators
def _operator(op, kinds, returns, emit):
    """Give Python's `op` a meaning for these vector types; where one operand is a number it is broadcast."""
    @infer_global(op)
    class Typing(AbstractTemplate):
        def generic(self, args, kws):
            kind = next((t for t in args if t in kinds), None)
            if kind is None or any(t != kind and not isinstance(t, types.Number) for t in args):
                return None
            scalar = types.int32 if kind == i32v else types.float32
            return signature(returns or kind, *(kind if t == kind else scalar for t in args))

    def lower(context, b, sig, values):
        return emit(b, *(v if isinstance(v.type, ir.VectorType) else splat(b, v) for v in values))
    for kind in kinds:
        number = types.int32 if kind == i32v else types.float32
        for args in ((kind,), (kind, kind), (kind, number), (number, kind)):
            lower_builtin(op, *args)(lower)


def _both(on_floats, on_ints):
    return lambda b, x, *y: (on_floats if x.type == V else on_ints)(b, x, *y)


for _op, _f, _i in ((operator.add, "fadd", "add"), (operator.sub, "fsub", "sub"), (operator.mul, "fmul", "mul")):
    _operator(_op, (f32v, i32v), None, _both(lambda b, x, y, f=_f: getattr(b, f)(x, y),
                                             lambda b, x, y, i=_i: getattr(b, i)(x, y)))
_operator(operator.truediv, (f32v,), None, lambda b, x, y: b.fdiv(x, y))
_operator(operator.neg, (f32v,), None, lambda b, x: b.fneg(x))
for _op, _sign in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="),
                   (operator.eq, "==")):
    _operator(_op, (f32v, i32v), mask, _both(lambda b, x, y, s=_sign: b.fcmp_ordered(s, x, y),
                                             lambda b, x, y, s=_sign: b.icmp_signed(s, x, y)))
_operator(operator.ne, (f32v, i32v), mask, _both(lambda b, x, y: b.fcmp_unordered("!=", x, y),
                                                 lambda b, x, y: b.icmp_signed("!=", x, y)))
_operator(operator.and_, (i32v, mask), None, lambda b, x, y: b.and_(x, y))
_operator(operator.or_, (i32v, mask), None, lambda b, x, y: b.or_(x, y))
_operator(operator.xor, (i32v, mask), None, lambda b, x, y: b.xor(x, y))
_operator(operator.invert, (i32v, mask), None, lambda b, x: b.not_(x))
_operator(operator.lshift, (i32v,), None, lambda b, x, y: b.shl(x, y))
_operator(operator.rshift, (i32v,), None, lambda b, x, y: b.lshr(x, y))
