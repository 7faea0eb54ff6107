"""The machine's own instructions as functions for kernels, each with its emulation for the simulator beside it.

A pointer's elements are float32, float16 or bfloat16 in memory and float32 in registers: `load` and `store` convert.
`load_vector` and `store_vector` move 16 bytes at once between memory and a `cuda.local.array` of float32, which the
compiler keeps in registers; `lanes(p)` elements make such a vector. `load_four` and `store_four` move four elements, of
whatever size, at an offset of two summands: where the second has 32 bits, their sum is one instruction. Offsets count
elements and may have 32 or 64 bits; there is no wrap-around for negative ones, and vectors must be aligned to their
size.

Warp collectives take part with all 32 lanes: every thread of the warp must reach the call.

Source: Parallel Thread Execution ISA, NVIDIA.
"""

from __future__ import annotations

import numpy as np

from ._numba import SIMULATED, cuda, device

FULL_WARP = 0xFFFFFFFF

if SIMULATED:
    from ._emulation import Pointer, collective

    def lanes(p: Pointer) -> int:
        """Elements in 16 bytes: 4 of float32, 8 of the 16-bit types."""
        return 16 // p.memory.itemsize

    def given(p: Pointer) -> bool:
        """Whether an optional pointer is one: not None."""
        return p.memory.size > 0

    def load(p: Pointer, i: int) -> np.float32:
        """p[i] as float32."""
        return np.float32(p[i])

    def store(p: Pointer, i: int, value: float) -> None:
        """p[i] = value, rounded to the nearest."""
        p[i] = value

    def as_stored(p: Pointer, value: float) -> np.float32:
        """What `load` would read of a value after `store`: rounded to what p's memory holds."""
        return np.float32(np.float32(value).astype(p.memory.dtype))

    def load_vector(registers: np.ndarray, p: Pointer, i: int) -> None:
        """registers[:lanes(p)] = p[i:i + lanes(p)]."""
        registers[: lanes(p)] = p.vector(i)

    def store_vector(p: Pointer, i: int, registers: np.ndarray) -> None:
        """p[i:i + lanes(p)] = registers[:lanes(p)], rounded to the nearest."""
        p.vector(i)[:] = registers[: lanes(p)]

    def load_four(registers: np.ndarray, p: Pointer, i: int, j: int, inside: bool) -> None:
        """registers[:4] = p[i + j:i + j + 4], 16 bytes of float32, 8 of the 16-bit types; zeros where not `inside`."""
        registers[:4] = p.vector(int(i) + int(j), 4 * p.memory.itemsize) if inside else 0

    def store_four(p: Pointer, i: int, j: int, registers: np.ndarray) -> None:
        """p[i + j:i + j + 4] = registers[:4], rounded to the nearest."""
        p.vector(int(i) + int(j), 4 * p.memory.itemsize)[:] = registers[:4]

    def load_shared(registers: np.ndarray, first: int, shared: np.ndarray, i: int) -> None:
        """registers[first:first + 4] = shared[i:i + 4], float32, 16 bytes at once."""
        if i % 4:
            raise IndexError(f"a vector of 16 bytes at element {i} of shared memory is not aligned")
        registers[first : first + 4] = shared[i : i + 4]

    def store_shared(shared: np.ndarray, i: int, registers: np.ndarray, first: int) -> None:
        """shared[i:i + 4] = registers[first:first + 4], float32, 16 bytes at once."""
        if i % 4:
            raise IndexError(f"a vector of 16 bytes at element {i} of shared memory is not aligned")
        shared[i : i + 4] = registers[first : first + 4]

    def quotient(a: int, b: int) -> int:
        """a div b of non-negative 32-bit integers."""
        return int(a) // int(b)

    def shift_right(word: int, by: int) -> int:
        """A word of 32 bits moved down by less than 32 places, zeros coming in."""
        return int(np.uint32((int(word) & 0xFFFFFFFF) >> int(by)).view(np.int32))

    def bits(x: float) -> np.uint32:
        """The 32 bits of a float32."""
        return np.float32(x).view(np.uint32)

    def from_bits(word: int) -> np.float32:
        """The float32 of these 32 bits."""
        return np.uint32(word).view(np.float32)

    def reciprocal(x: float) -> np.float32:
        """1 / x to the last place or one beside it; subnormal numbers, given or to be returned, count as 0."""
        return _flushed(np.float32(1) / _flushed(np.float32(x)))

    def _flushed(x: np.float32) -> np.float32:
        return x * 0 if abs(x) < np.finfo(np.float32).tiny else x

    def root(x: float) -> np.float32:
        """√x to the last place or one beside it, without the detour of a correctly rounded one."""
        return np.sqrt(np.float32(x))

    def multiply_wide(a: int, b: int) -> tuple[np.uint32, np.uint32]:
        """The upper and the lower 32 bits of the product of two unsigned 32-bit integers."""
        product = int(a) * int(b)
        return np.uint32(product >> 32), np.uint32(product & 0xFFFFFFFF)

    def shuffle_xor(value: float, mask: int) -> float:
        """The value of the lane whose number differs from this one's in the bits of `mask`."""
        return collective((value, mask), lambda pairs: [pairs[lane ^ pair[1]][0] for lane, pair in enumerate(pairs)])

    def shuffle(value: float, source: int) -> float:
        """The value of the lane `source`."""
        return collective((value, source), lambda pairs: [pairs[source & 31][0] for _, source in pairs])

    def ballot(condition: bool) -> int:
        """A word with bit i set where the condition holds in lane i."""
        return collective(
            bool(condition), lambda votes: [sum(1 << lane for lane, vote in enumerate(votes) if vote)] * len(votes)
        )

else:
    from llvmlite import ir

    from ._numba import intrinsic, signature, types

    _FLOAT, _HALF, _I16, _I32, _I64 = ir.FloatType(), ir.HalfType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
    _FOUR = ir.LiteralStructType([_I32] * 4)

    def _asm(builder, text: str, constraints: str, result, *args):
        """Instructions that touch memory, in their place; LLVM's own vectors of 16-bit numbers would be split."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return builder.call(ir.InlineAsm(kind, text, constraints + ",~{memory}", side_effect=True), args)

    def _is_half(pointer_type) -> bool:
        return pointer_type.dtype == types.float16

    def _is_bfloat(pointer_type) -> bool:
        return pointer_type.dtype == types.uint16

    def _lanes(pointer_type) -> int:
        return 16 // (pointer_type.dtype.bitwidth // 8)

    def global_address(builder, pointer_type, pointer, offset):
        """The address of an element in global memory, typed as what memory holds."""
        kind = _HALF if _is_half(pointer_type) else _I16 if _is_bfloat(pointer_type) else None
        if kind is None:
            kind = pointer.type.pointee
        base = builder.bitcast(pointer, kind.as_pointer())
        return builder.gep(builder.addrspacecast(base, kind.as_pointer(1)), [offset])

    def _to_float(builder, pointer_type, value):
        """float32 from an element as memory holds it."""
        if _is_half(pointer_type):
            return builder.fpext(value, _FLOAT)
        if _is_bfloat(pointer_type):
            return builder.bitcast(builder.shl(builder.zext(value, _I32), _I32(16)), _FLOAT)
        return value

    def _narrow(builder, pointer_type, value):
        """What memory holds of one float32, rounded to the nearest."""
        if _is_half(pointer_type):
            return builder.fptrunc(value, _HALF)
        if _is_bfloat(pointer_type):
            kind = ir.FunctionType(_I16, [_FLOAT])
            return builder.call(ir.InlineAsm(kind, "cvt.rn.bf16.f32 $0, $1;", "=h,f"), [value])
        return value

    def _is_float(pointer_type) -> bool:
        return pointer_type.dtype in (types.float32, types.float16, types.uint16)

    @intrinsic
    def lanes(typing, p):
        """Elements in 16 bytes: 4 of float32, 8 of the 16-bit types."""
        count = _lanes(p)
        return signature(types.int32, p), lambda context, builder, sig, args: _I32(count)

    @intrinsic
    def given(typing, p):
        """Whether an optional pointer is one: not None."""

        def generate(context, builder, sig, args):
            return builder.icmp_unsigned("!=", builder.ptrtoint(args[0], _I64), _I64(0))

        return signature(types.boolean, p), generate

    @intrinsic
    def load(typing, p, i):
        """p[i] as float32."""
        if not _is_float(p):
            raise TypeError(f"load() reads floats; index a pointer to {p.dtype} instead")

        def generate(context, builder, sig, args):
            kind = sig.args[0]
            return _to_float(builder, kind, builder.load(global_address(builder, kind, args[0], args[1])))

        return signature(types.float32, p, i), generate

    @intrinsic
    def store(typing, p, i, value):
        """p[i] = value, rounded to the nearest."""

        def generate(context, builder, sig, args):
            kind = sig.args[0]
            builder.store(_narrow(builder, kind, args[2]), global_address(builder, kind, args[0], args[1]))
            return context.get_dummy_value()

        return signature(types.void, p, i, types.float32), generate

    @intrinsic
    def as_stored(typing, p, value):
        """What `load` would read of a value after `store`: rounded to what p's memory holds."""

        def generate(context, builder, sig, args):
            if not _is_bfloat(sig.args[0]):
                return _to_float(builder, sig.args[0], _narrow(builder, sig.args[0], args[1]))
            # A pair with 0 below is the float already, and pairs are rounded at four times the rate of single numbers.
            kind = ir.FunctionType(_FLOAT, [_FLOAT] * 2)
            pair = ir.InlineAsm(kind, "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f")
            return builder.call(pair, [args[1], _FLOAT(0)])

        return signature(types.float32, p, types.float32), generate

    def data_of(context, builder, kind, value):
        """The address of the first element of an array, of registers or shared."""
        return context.make_array(kind)(context, builder, value=value).data

    def _spread(context, builder, kind, registers, pointer_type, words):
        """The registers of an array get what these words of memory hold."""
        target = data_of(context, builder, kind, registers)
        values = []
        for word in words:
            if _is_half(pointer_type):
                pair = builder.fpext(builder.bitcast(word, ir.VectorType(_HALF, 2)), ir.VectorType(_FLOAT, 2))
                values += [builder.extract_element(pair, _I32(lane)) for lane in range(2)]
            elif _is_bfloat(pointer_type):
                low, high = builder.shl(word, _I32(16)), builder.and_(word, _I32(0xFFFF0000))
                values += [builder.bitcast(half, _FLOAT) for half in (low, high)]
            else:
                values.append(builder.bitcast(word, _FLOAT))
        for lane, value in enumerate(values):
            builder.store(value, builder.gep(target, [_I32(lane)]))

    def _gathered(context, builder, kind, registers, pointer_type, count):
        """The words that memory holds of the first `count` registers of an array."""
        source = data_of(context, builder, kind, registers)
        values = [builder.load(builder.gep(source, [_I32(lane)])) for lane in range(count)]
        if _is_half(pointer_type):
            values = [_narrow(builder, pointer_type, value) for value in values]
            pairs = ir.Constant(ir.VectorType(_HALF, count), ir.Undefined)
            for lane, value in enumerate(values):
                pairs = builder.insert_element(pairs, value, _I32(lane))
            words = builder.bitcast(pairs, ir.VectorType(_I32, count // 2))
            return [builder.extract_element(words, _I32(word)) for word in range(count // 2)]
        if _is_bfloat(pointer_type):
            both = ir.InlineAsm(ir.FunctionType(_I32, [_FLOAT, _FLOAT]), "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f")
            return [builder.call(both, [high, low]) for low, high in zip(values[::2], values[1::2])]
        return [builder.bitcast(value, _I32) for value in values]

    @intrinsic
    def load_vector(typing, registers, p, i):
        """registers[:lanes(p)] = p[i:i + lanes(p)]."""

        def generate(context, builder, sig, args):
            address = global_address(builder, sig.args[1], args[1], args[2])
            held = _asm(builder, "ld.global.v4.b32 {$0, $1, $2, $3}, [$4];", "=r,=r,=r,=r,l", _FOUR, address)
            words = [builder.extract_value(held, word) for word in range(4)]
            _spread(context, builder, sig.args[0], args[0], sig.args[1], words)
            return context.get_dummy_value()

        return signature(types.void, registers, p, i), generate

    @intrinsic
    def store_vector(typing, p, i, registers):
        """p[i:i + lanes(p)] = registers[:lanes(p)], rounded to the nearest."""

        def generate(context, builder, sig, args):
            address = global_address(builder, sig.args[0], args[0], args[1])
            words = _gathered(context, builder, sig.args[2], args[2], sig.args[0], _lanes(sig.args[0]))
            _asm(builder, "st.global.v4.b32 [$0], {$1, $2, $3, $4};", "l,r,r,r,r", ir.VoidType(), address, *words)
            return context.get_dummy_value()

        return signature(types.void, p, i, registers), generate

    @intrinsic
    def load_four(typing, registers, p, i, j, inside):
        """registers[:4] = p[i + j:i + j + 4], 16 bytes of float32, 8 of the 16-bit types; zeros where not `inside`."""

        def generate(context, builder, sig, args):
            kind, address = sig.args[1], global_address(builder, sig.args[1], args[1], args[2])
            size = kind.dtype.bitwidth // 8
            names = [f"${word}" for word in range(size)]
            text = (
                f"{{ .reg .pred %p; .reg .b64 %a; setp.ne.b32 %p, ${size + 2}, 0; "
                f"mad.wide.s32 %a, ${size + 1}, {size}, ${size}; "
                f"{' '.join(f'mov.b32 {name}, 0;' for name in names)} "
                f"@%p ld.global.v{size}.b32 {{{', '.join(names)}}}, [%a]; }}"
            )
            flag = builder.zext(args[4], _I32)
            results = ir.LiteralStructType([_I32] * size)
            held = _asm(builder, text, "=r," * size + "l,r,r", results, address, args[3], flag)
            words = [builder.extract_value(held, word) for word in range(size)]
            _spread(context, builder, sig.args[0], args[0], kind, words)
            return context.get_dummy_value()

        return signature(types.void, registers, p, i, types.int32, types.boolean), generate

    @intrinsic
    def store_four(typing, p, i, j, registers):
        """p[i + j:i + j + 4] = registers[:4], rounded to the nearest."""

        def generate(context, builder, sig, args):
            kind, address = sig.args[0], global_address(builder, sig.args[0], args[0], args[1])
            size = kind.dtype.bitwidth // 8
            names = ", ".join(f"${word + 2}" for word in range(size))
            text = (
                f"{{ .reg .b64 %a; mad.wide.s32 %a, $1, {size}, $0; st.global.v{size}.b32 [%a], {{{names}}}; }}"
            )
            words = _gathered(context, builder, sig.args[3], args[3], kind, 4)
            _asm(builder, text, "l,r" + ",r" * size, ir.VoidType(), address, args[2], *words)
            return context.get_dummy_value()

        return signature(types.void, p, i, types.int32, registers), generate

    def _shared(context, builder, kind, value, offset):
        """The address of an element of a shared array, in the shared address space."""
        pointer = builder.gep(data_of(context, builder, kind, value), [offset])
        return builder.addrspacecast(pointer, pointer.type.pointee.as_pointer(3))

    @intrinsic
    def load_shared(typing, registers, first, shared, i):
        """registers[first:first + 4] = shared[i:i + 4], float32, 16 bytes at once."""

        def generate(context, builder, sig, args):
            address = _shared(context, builder, sig.args[2], args[2], args[3])
            values = builder.load(builder.bitcast(address, ir.VectorType(_FLOAT, 4).as_pointer(3)), align=16)
            target = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
            for lane in range(4):
                builder.store(builder.extract_element(values, _I32(lane)), builder.gep(target, [_I32(lane)]))
            return context.get_dummy_value()

        return signature(types.void, registers, first, shared, i), generate

    @intrinsic
    def store_shared(typing, shared, i, registers, first):
        """shared[i:i + 4] = registers[first:first + 4], float32, 16 bytes at once."""

        def generate(context, builder, sig, args):
            address = _shared(context, builder, sig.args[0], args[0], args[1])
            source = builder.gep(data_of(context, builder, sig.args[2], args[2]), [args[3]])
            vector = ir.Constant(ir.VectorType(_FLOAT, 4), ir.Undefined)
            for lane in range(4):
                value = builder.load(builder.gep(source, [_I32(lane)]))
                vector = builder.insert_element(vector, value, _I32(lane))
            builder.store(vector, builder.bitcast(address, ir.VectorType(_FLOAT, 4).as_pointer(3)), align=16)
            return context.get_dummy_value()

        return signature(types.void, shared, i, registers, first), generate

    @intrinsic
    def quotient(typing, a, b):
        """a div b of non-negative 32-bit integers."""

        def generate(context, builder, sig, args):
            return builder.udiv(args[0], args[1])

        return signature(types.int32, types.int32, types.int32), generate

    @intrinsic
    def shift_right(typing, word, by):
        """A word of 32 bits moved down by less than 32 places, zeros coming in."""

        def generate(context, builder, sig, args):
            return builder.lshr(args[0], args[1])

        return signature(types.int32, types.int32, types.int32), generate

    @intrinsic
    def bits(typing, x):
        """The 32 bits of a float32."""

        def generate(context, builder, sig, args):
            return builder.bitcast(args[0], _I32)

        return signature(types.uint32, types.float32), generate

    @intrinsic
    def from_bits(typing, word):
        """The float32 of these 32 bits."""

        def generate(context, builder, sig, args):
            return builder.bitcast(args[0], _FLOAT)

        return signature(types.float32, types.uint32), generate

    @intrinsic
    def multiply_wide(typing, a, b):
        """The upper and the lower 32 bits of the product of two unsigned 32-bit integers."""

        def generate(context, builder, sig, args):
            # Of mul.hi and mul.lo, which LLVM would make of this, the assembler makes an addition of 0 as well.
            kind = ir.FunctionType(ir.LiteralStructType([_I32] * 2), [_I32] * 2)
            text = "{ .reg .b64 %t; mul.wide.u32 %t, $2, $3; mov.b64 {$1, $0}, %t; }"
            halves = builder.call(ir.InlineAsm(kind, text, "=r,=r,r,r"), args)
            return context.make_tuple(builder, sig.return_type, [builder.extract_value(halves, i) for i in range(2)])

        return signature(types.UniTuple(types.uint32, 2), types.uint32, types.uint32), generate

    @intrinsic
    def reciprocal(typing, x):
        """1 / x to the last place or one beside it; subnormal numbers, given or to be returned, count as 0."""

        def generate(context, builder, sig, args):
            kind = ir.FunctionType(_FLOAT, [_FLOAT])
            return builder.call(ir.InlineAsm(kind, "rcp.approx.ftz.f32 $0, $1;", "=f,f"), [args[0]])

        return signature(types.float32, types.float32), generate

    @intrinsic
    def root(typing, x):
        """√x to the last place or one beside it, without the detour of a correctly rounded one."""

        def generate(context, builder, sig, args):
            kind = ir.FunctionType(_FLOAT, [_FLOAT])
            return builder.call(ir.InlineAsm(kind, "sqrt.approx.f32 $0, $1;", "=f,f"), [args[0]])

        return signature(types.float32, types.float32), generate

    @device
    def shuffle_xor(value, mask):
        """The value of the lane whose number differs from this one's in the bits of `mask`."""
        return cuda.shfl_xor_sync(FULL_WARP, value, mask)

    @device
    def shuffle(value, source):
        """The value of the lane `source`."""
        return cuda.shfl_sync(FULL_WARP, value, source)

    @device
    def ballot(condition):
        """A word with bit i set where the condition holds in lane i."""
        return cuda.ballot_sync(FULL_WARP, condition)
