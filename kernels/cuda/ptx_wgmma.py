"""Hopper's warpgroup products as functions for kernels, each with its emulation for the simulator beside it.

A warpgroup is four neighbouring warps, the first of them a multiple of four. It multiplies 64 rows by n columns, 32
bytes of the reduction at a time: 8 numbers in TF32, 16 of a 16-bit type. The operands lie in shared memory in rows of
128 bytes, one below another from an address that 1024 divides; the 16-byte pieces of a row are permuted, piece p of row
r lies at p xor r mod 8, so that no access meets a bank twice:

             byte 0   16   32   48   64   80   96  112
    row 0:        0    1    2    3    4    5    6    7        K-major: a row is a row (or column) of the product,
    row 1:        1    0    3    2    5    4    7    6        its 128 bytes are four steps of the reduction
    row 2:        2    3    0    1    6    7    4    5        MN-major: a row is a place in the reduction, its 128
    …                                                         bytes are 64 rows (or columns) of the product; further
    row 7:        7    6    5    4    3    2    1    0        ones lie a PANEL on; 16-bit types only

Lane l of warp w holds n/2 sums: for each eight columns from 8j on, 4j and 4j + 1 are row 16w + l/4, columns
8j + 2 (l%4) and + 1; 4j + 2 and 4j + 3 are the same of row 16w + l/4 + 8.

Shared memory holds words (`types.uint32`), offsets count words; `like` is a pointer that tells the type of the
operands. Sums are local arrays of exactly n/2 float32. A product is under way until it is waited for. Until then nobody
may touch its sums or write over its operands:

    hold(sums); wgmma_fence(); multiply…; wgmma_commit(); …; wgmma_wait(0); hold(sums)

The emulation reads the operands when a product is issued, checks when it is waited for that they are still the same,
and adds to the sums only then. Hardware reads the upper 19 bits of a TF32 operand; so does the emulation. It does not
know of proxies: a missing `fence_async` does not show there.

Source: Parallel Thread Execution ISA, NVIDIA, section "Asynchronous warpgroup level matrix instructions".
"""

from __future__ import annotations

import numpy as np

from ._numba import SIMULATED

COLUMNS = (64, 128, 256)  # widths that these products come in
PANEL = 64 * 32  # words of an MN-major panel: 64 places of the reduction, 64 rows or columns of the product

if SIMULATED:
    from ._emulation import Pointer, collective, thread

    _LANE = np.arange(128)
    _ROW, _COLUMN = 16 * (_LANE // 32) + _LANE % 32 // 4, 2 * (_LANE % 4)

    class _Operand:
        """Numbers of shared memory as they were when a product was issued."""

        def __init__(self, shared: np.ndarray, places: np.ndarray, like: Pointer):
            self.memory, self.places, self.like = shared.view(like.memory.dtype), places, like
            self.seen = self.memory[places]

        def numbers(self) -> np.ndarray:
            if not np.array_equal(self.memory[self.places].view(np.uint8), self.seen.view(np.uint8)):
                raise RuntimeError("shared memory was written over before the product that reads it was waited for")
            return _numbers(self.seen, self.like)

    def _numbers(values: np.ndarray, like: Pointer) -> np.ndarray:
        if like.memory.itemsize == 4:
            return (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        return values.astype(np.float32)

    def _swizzled(address: np.ndarray, like: Pointer) -> np.ndarray:
        """From bytes to elements, with the pieces of each row permuted."""
        return (address ^ (address >> 7 & 7) << 4) // like.memory.itemsize

    def _k_major(shared: np.ndarray, i: int, rows: int, like: Pointer) -> _Operand:
        if i % 256 >= 32 or i % 8:
            raise IndexError(f"an operand at word {i}: its first row is not aligned to 1024 bytes")
        size = like.memory.itemsize
        address = 4 * int(i) + 128 * np.arange(rows)[:, None] + size * np.arange(32 // size)
        return _Operand(shared, _swizzled(address, like), like)

    def _mn_major(shared: np.ndarray, i: int, rows: int, like: Pointer) -> _Operand:
        if i % 256:
            raise IndexError(f"an operand at word {i} is not aligned to 1024 bytes")
        mn, k = np.arange(rows)[:, None], np.arange(16)
        address = 4 * int(i) + mn // 64 * (4 * PANEL) + 128 * k + 2 * (mn % 64)
        return _Operand(shared, _swizzled(address, like), like)

    def _shared_products(columns: int, operand):
        def multiply(sums: np.ndarray, shared: np.ndarray, a: int, b: int, like: Pointer) -> None:
            first = thread().number % 128 == 0
            left = operand(shared, a, 64, like) if first else None
            right = operand(shared, b, columns, like) if first else None
            _queue(sums, columns, left, right, (int(a), int(b)))

        return multiply

    def _register_products(columns: int):
        def multiply(sums: np.ndarray, words: np.ndarray, first: int, shared: np.ndarray, b: int,
                     like: Pointer) -> None:
            left = words.reshape(-1)[first : first + 4].copy()
            right = _k_major(shared, b, columns, like) if thread().number % 128 == 0 else None
            _queue(sums, columns, left, right, (like, int(b)))

        return multiply

    def _queue(sums, columns, left, right, place) -> None:
        if sums.shape != (columns // 2,):
            raise ValueError(f"{columns} columns have {columns // 2} sums a thread, not {sums.shape}")
        thread().products.append((sums, left, right, place))

    multiply_shared = {columns: _shared_products(columns, _k_major) for columns in COLUMNS}
    multiply_transposed = {columns: _shared_products(columns, _mn_major) for columns in COLUMNS}
    multiply_registers = {columns: _register_products(columns) for columns in COLUMNS}

    def _no_effect(sums: np.ndarray) -> None:
        """Nothing to hold in the simulator."""

    hold = dict.fromkeys(COLUMNS, _no_effect)

    def wgmma_fence() -> None:
        """What the warpgroup wrote to registers comes before the products that follow."""

    def fence_async() -> None:
        """What this thread wrote to shared memory is seen by products and bulk copies that a barrier puts after it."""

    def wgmma_commit() -> None:
        """The products issued since the last call become a group."""
        thread().products.append(None)

    def wgmma_wait(groups: int) -> None:
        """Wait until at most so many of the warpgroup's groups are still under way; `groups` is a constant."""
        pending, done = thread().products, []
        while pending.count(None) > groups:
            product = pending.popleft()
            if product is not None:
                done.append(product)
        for (sums, *_), more in zip(done, thread().warpgroup(done, _results)):
            sums += more

    def _results(lanes: list) -> list:
        """Each lane's sums of the products that all lanes have issued."""
        if any([p[3] for p in done] != [p[3] for p in lanes[0]] for done in lanes):
            raise RuntimeError("the threads of a warpgroup do not wait for the same products")
        answers = [[] for _ in lanes]
        for number, (_, left, right, place) in enumerate(lanes[0]):
            if isinstance(left, _Operand):
                left = left.numbers()
            else:
                words = np.array([done[number][1] for done in lanes])
                words = words.reshape(4, 8, 4, 2, 2)  # warp, row, word, second half of the words, 8 rows below
                left = np.ascontiguousarray(words.transpose(0, 4, 1, 3, 2)).reshape(64, 8)
                like = place[0]
                left = _numbers(left.view(like.memory.dtype), like)
            product = left @ right.numbers().T
            pairs = product.reshape(4, 2, 8, -1, 4, 2)  # warp, low, row, eight columns, lane, one of two
            pairs = pairs.transpose(0, 2, 4, 3, 1, 5).reshape(128, -1)
            for answer, values in zip(answers, pairs):
                answer.append(values)
        return answers

    def clear_sums(sums: np.ndarray) -> None:
        """sums = 0."""
        sums[:] = 0

    clear = dict.fromkeys(COLUMNS, clear_sums)

    def _store_columns(shared: np.ndarray, i: int, pitch: int, sums: np.ndarray, part: int) -> None:
        """The lane's sums of columns 32 part … + 31 as pairs, from shared[i] on, 8 rows below 8 pitches on."""
        if i % 2 or pitch % 2:
            raise IndexError(f"vectors of 8 bytes at element {i} of shared memory, pitch {pitch}, are not aligned")
        for j in range(4):
            for low in range(2):
                at, first = i + 8 * j + 8 * pitch * low, 16 * part + 4 * j + 2 * low
                shared[at : at + 2] = sums[first : first + 2]

    store_columns = dict.fromkeys(COLUMNS, _store_columns)

    def warp_barrier() -> None:
        """The lanes of a warp wait for each other and see what the others wrote to shared memory."""
        collective(None, lambda values: values)

else:
    from llvmlite import ir

    from ._numba import cuda, device, intrinsic, signature, types
    from .ptx import data_of
    from .ptx_mma import shared_address

    _FLOAT, _I32, _I64, _VOID = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.VoidType()
    _SWIZZLED = 1 << 62  # pieces of 16 bytes permuted in rows of 128
    _K_MAJOR = _SWIZZLED | 64 << 32 | 1 << 16  # the next 8 rows are 1024 bytes on
    _MN_MAJOR = _SWIZZLED | 64 << 32 | (4 * PANEL >> 4) << 16  # … and the next 64 of the product a panel on

    def _asm(builder, text: str, constraints: str, result, *args):
        """Instructions in their place. Collectives must not be moved into branches: hence convergent."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        code = ir.InlineAsm(kind, text, constraints, side_effect=True)
        return builder.call(code, args, attrs=("convergent", "nounwind"))

    def _descriptor(context, builder, kind, shared, offset, layout: int):
        address = shared_address(context, builder, kind, shared, offset)
        low = builder.lshr(builder.and_(address, _I32(0x3FFFF)), _I32(4))
        return builder.or_(builder.zext(low, _I64), _I64(layout))

    def _kind(like) -> tuple[int, str, bool]:
        """Numbers of a step, their type, and may they be transposed?"""
        return {types.float32: (8, "tf32", False), types.float16: (16, "f16", True), types.uint16: (16, "bf16", True)}[
            like.dtype
        ]

    def _change(context, builder, kind, array, count: int, text: str, constraints: list, *args) -> None:
        """Registers array[:count] through an instruction that changes them all; it names them $0 …, then its inputs."""
        start = data_of(context, builder, kind, array)
        places = [builder.gep(start, [_I32(i)]) for i in range(count)]
        tied = [str(i) for i in range(count)]
        values = _asm(builder, text, ",".join(["=f"] * count + constraints + tied + ["~{memory}"]),
                      ir.LiteralStructType([_FLOAT] * count), *args, *map(builder.load, places))
        for i, place in enumerate(places):
            builder.store(builder.extract_value(values, i), place)

    def _product(columns: int, like, left: str, transposed: int) -> str:
        """The instruction; $columns/2 … are its inputs."""
        count, (depth, name, transposable) = columns // 2, _kind(like)
        sums = ", ".join(f"${i}" for i in range(count))
        flags = ""
        if transposable:
            flags = f", {transposed}" if left.startswith("{") else f", {transposed}, {transposed}"
        right = count + left.count("$")
        return (f"wgmma.mma_async.sync.aligned.m64n{columns}k{depth}.f32.{name}.{name} {{{sums}}}, {left}, ${right}, "
                f"1, 1, 1{flags};")

    def _shared_products(columns: int, layout: int):
        @intrinsic
        def multiply(typing, sums, shared, a, b, like):
            def generate(context, builder, sig, args):
                descriptors = [_descriptor(context, builder, sig.args[1], args[1], at, layout) for at in args[2:4]]
                text = _product(columns, sig.args[4], f"${columns // 2}", int(layout == _MN_MAJOR))
                _change(context, builder, sig.args[0], args[0], columns // 2, text, ["l", "l"], *descriptors)
                return context.get_dummy_value()

            return signature(types.void, sums, shared, types.int32, types.int32, like), generate

        return multiply

    def _register_products(columns: int):
        @intrinsic
        def multiply(typing, sums, words, first, shared, b, like):
            def generate(context, builder, sig, args):
                count = columns // 2
                start = builder.gep(data_of(context, builder, sig.args[1], args[1]), [args[2]])
                left = [builder.load(builder.gep(start, [_I32(i)])) for i in range(4)]
                right = _descriptor(context, builder, sig.args[3], args[3], args[4], _K_MAJOR)
                names = "{" + ", ".join(f"${count + i}" for i in range(4)) + "}"
                text = _product(columns, sig.args[5], names, 0)
                _change(context, builder, sig.args[0], args[0], count, text, ["r"] * 4 + ["l"], *left, right)
                return context.get_dummy_value()

            return signature(types.void, sums, words, types.int32, shared, types.int32, like), generate

        return multiply

    def _holding(columns: int):
        @intrinsic
        def hold(typing, sums):
            def generate(context, builder, sig, args):
                _change(context, builder, sig.args[0], args[0], columns // 2, "", [])
                return context.get_dummy_value()

            return signature(types.void, sums), generate

        return hold

    def _statement(text: str, note: str):
        @intrinsic
        def statement(typing):
            def generate(context, builder, sig, args):
                _asm(builder, text, "~{memory}", _VOID)
                return context.get_dummy_value()

            return signature(types.void), generate

        statement.__doc__ = note
        return statement

    multiply_shared = {columns: _shared_products(columns, _K_MAJOR) for columns in COLUMNS}
    multiply_transposed = {columns: _shared_products(columns, _MN_MAJOR) for columns in COLUMNS}
    multiply_registers = {columns: _register_products(columns) for columns in COLUMNS}
    hold = {columns: _holding(columns) for columns in COLUMNS}
    wgmma_fence = _statement(
        "wgmma.fence.sync.aligned;", "What the warpgroup wrote to registers comes before the products that follow.")
    wgmma_commit = _statement(
        "wgmma.commit_group.sync.aligned;", "The products issued since the last call become a group.")
    fence_async = _statement(
        "fence.proxy.async.shared::cta;",
        "What this thread wrote to shared memory is seen by products and bulk copies that a barrier puts after it.")

    @intrinsic
    def wgmma_wait(typing, groups):
        """Wait until at most so many of the warpgroup's groups are still under way; `groups` is a constant."""
        if not hasattr(groups, "literal_value"):
            return None  # the compiler asks again with the constant
        count = groups.literal_value

        def generate(context, builder, sig, args):
            _asm(builder, f"wgmma.wait_group.sync.aligned {count};", "~{memory}", _VOID)
            return context.get_dummy_value()

        return signature(types.void, groups), generate

    def _clearing(columns: int):
        @intrinsic
        def clear(typing, sums):
            def generate(context, builder, sig, args):
                start = data_of(context, builder, sig.args[0], args[0])
                for i in range(columns // 2):
                    builder.store(_FLOAT(0), builder.gep(start, [_I32(i)]))
                return context.get_dummy_value()

            return signature(types.void, sums), generate

        return clear

    def _storing(columns: int):
        @intrinsic
        def store(typing, shared, i, pitch, sums, part):
            def pair(builder, target, first):
                values = ir.Constant(ir.VectorType(_FLOAT, 2), ir.Undefined)
                for lane in range(2):
                    value = builder.load(builder.gep(first, [_I32(lane)]))
                    values = builder.insert_element(values, value, _I32(lane))
                target = builder.addrspacecast(target, _FLOAT.as_pointer(3))
                builder.store(values, builder.bitcast(target, ir.VectorType(_FLOAT, 2).as_pointer(3)), align=8)

            def generate(context, builder, sig, args):
                start = data_of(context, builder, sig.args[3], args[3])
                upper = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
                lower = builder.gep(upper, [builder.mul(args[2], _I32(8))])
                for part in range(columns // 32):  # registers have no run-time index
                    with builder.if_then(builder.icmp_signed("==", args[4], _I32(part))):
                        for j in range(4):  # steps from one address are part of the instruction
                            first = builder.gep(start, [_I32(16 * part + 4 * j)])
                            pair(builder, builder.gep(upper, [_I32(8 * j)]), first)
                            pair(builder, builder.gep(lower, [_I32(8 * j)]), builder.gep(first, [_I32(2)]))
                return context.get_dummy_value()

            return signature(types.void, shared, types.int32, types.int32, sums, types.int32), generate

        return store

    clear = {columns: _clearing(columns) for columns in COLUMNS}
    store_columns = {columns: _storing(columns) for columns in COLUMNS}

    @device
    def warp_barrier():
        """The lanes of a warp wait for each other and see what the others wrote to shared memory."""
        cuda.syncwarp()
