"""Tensor cores and asynchronous copies as functions for kernels, each with its emulation for the simulator beside it.

One row of an operand is 32 bytes of the reduction, in eight words of 32 bits: 8 numbers in TF32, 16 of a 16-bit type.
Whatever the type, a warp multiplies 16 rows by 8 columns so, and the words lie in its lanes alike (l is the lane):

    left (16 rows), 4 words              right (8 columns), 2 words         sums, 4 float32
    0: row l/4,     word l%4             0: column l/4, word l%4            0, 1: row l/4,     columns 2 (l%4), + 1
    1: row l/4 + 8, word l%4             1: column l/4, word l%4 + 4        2, 3: row l/4 + 8, columns 2 (l%4), + 1
    2: row l/4,     word l%4 + 4
    3: row l/4 + 8, word l%4 + 4

Shared memory and registers hold words (`types.uint32`); offsets count words, those into a pointer its elements. `like`
is a pointer that tells the type of the operands. These functions need compute capability 8.0, `load_matrices` and
`products_7_5` need 7.5. All but the copies are warp collectives.

The emulation carries out copies when they are waited for, and leaves NaN where they will go: a barrier or a wait that
is missing shows. Hardware reads the upper 19 bits of a TF32 operand; so does the emulation.

Source: Parallel Thread Execution ISA, NVIDIA, sections on mma, ldmatrix and cp.async.
"""

from __future__ import annotations

import numpy as np

from ._numba import SIMULATED, device

if SIMULATED:
    from ._emulation import Pointer, collective, thread

    _LANE = np.arange(32)

    def load_matrices(registers: np.ndarray, first: int, shared: np.ndarray, i: int) -> None:
        """Four 8 x 8 matrices of 16-bit numbers, or 8 x 4 words: registers[first + n] = word l%4 of row l/4 of n.

        The offsets i of lanes 8n to 8n + 7 are those of the rows of matrix n, 16 bytes each.
        """
        registers.reshape(-1)[first : first + 4] = collective((shared, i), lambda rows: _matrices(rows).T)

    def load_matrices_transposed(registers: np.ndarray, first: int, shared: np.ndarray, i: int) -> None:
        """The same of the transposed matrices of 16-bit numbers: the lane gets numbers 2 (l%4), + 1 of column l/4."""

        def exchange(rows):
            numbers = np.ascontiguousarray(_matrices(rows)).view(np.uint16).reshape(4, 8, 8)
            return np.ascontiguousarray(numbers.swapaxes(1, 2)).view(np.uint32).reshape(4, 32).T

        registers.reshape(-1)[first : first + 4] = collective((shared, i), exchange)

    def _matrices(rows: list) -> np.ndarray:
        """(4, 32): of four matrices the word of each lane."""
        shared, starts = rows[0][0], np.array([start for _, start in rows], np.int64)
        if (starts % 4).any():
            raise IndexError(f"rows of 16 bytes at words {starts} of shared memory are not aligned")
        return shared[starts[:, None] + np.arange(4)].reshape(4, 32)

    def products(sums: np.ndarray, a: np.ndarray, b: np.ndarray, like: Pointer) -> None:
        """sums (m, n, 4) += the products of a (m, 4), m times 16 rows, with b (n, 2), n times 8 columns."""

        def exchange(values):
            words_a = np.array([value[0] for value in values])  # (32, m, 4)
            words_b = np.array([value[1] for value in values])  # (32, n, 2)
            left = np.empty((words_a.shape[1], 2, 8, 2, 4), np.uint32)  # half of the rows, row, half, word
            left[:, _PART % 2, :, _PART // 2] = words_a.reshape(8, 4, -1, 4).transpose(3, 2, 0, 1)
            right = words_b.reshape(8, 4, -1, 2).transpose(2, 0, 3, 1)  # column block, column, half, word
            product = _numbers(left.reshape(-1, 8), like) @ _numbers(right.reshape(-1, 8), like).T
            shape = (words_a.shape[1], 2, 8, words_b.shape[1], 4, 2)
            return product.reshape(shape).transpose(2, 4, 0, 3, 1, 5).reshape(32, *sums.shape)

        sums += collective((a.copy(), b.copy()), exchange)

    products_7_5 = products
    _PART = np.arange(4)

    def _numbers(words: np.ndarray, like: Pointer) -> np.ndarray:
        """Rows of words as the numbers that tensor cores see."""
        words = np.ascontiguousarray(words)
        if like.memory.itemsize == 4:
            return (words & np.uint32(0xFFFFE000)).view(np.float32)
        return words.view(like.memory.dtype).astype(np.float32)

    def copy_async(shared: np.ndarray, to: int, p: Pointer, i: int, size: int) -> None:
        """Begin to copy `size` bytes, 16 or none, from p[i] on to shared[to:to + 4], and zeros for what is missing."""
        if to % 4 or not 0 <= to <= shared.size - 4:
            raise IndexError(f"a copy of 16 bytes to word {to} of {shared.size} of shared memory")
        words = p.vector(i).view(np.uint32) if size else np.zeros(4, np.uint32)
        shared[to : to + 4] = 0xFFFFFFFF
        thread().copies.append((shared, to, words))

    def commit_copies() -> None:
        """The thread's copies begun since the last call become a group."""
        thread().copies.append(None)

    def wait_copies(groups: int) -> None:
        """Wait until at most so many of the thread's groups are still under way; `groups` is a constant."""
        copies = thread().copies
        while copies.count(None) > groups:
            copy = copies.popleft()
            if copy is not None:
                shared, to, words = copy
                shared[to : to + 4] = words

    def load_words(registers: np.ndarray, first: int, p: Pointer, i: int, wanted: int) -> None:
        """registers[first:first + 4] = the 16 bytes from p[i] on, or zeros where they are not wanted."""
        registers.reshape(-1)[first : first + 4] = p.vector(i).view(np.uint32) if wanted else 0

    def load_word(shared: np.ndarray, i: int, offset: int) -> int:
        """shared[i + offset]; a constant offset is part of the instruction."""
        return shared[i + offset]

    def store_words(shared: np.ndarray, to: int, registers: np.ndarray, first: int) -> None:
        """shared[to:to + 4] = registers[first:first + 4], 16 bytes at once."""
        if to % 4:
            raise IndexError(f"a vector of 16 bytes at word {to} of shared memory is not aligned")
        shared[to : to + 4] = registers.reshape(-1)[first : first + 4]

    def store_two(shared: np.ndarray, to: int, registers: np.ndarray, first: int) -> None:
        """shared[to:to + 2] = registers[first:first + 2], float32, 8 bytes at once."""
        if to % 2:
            raise IndexError(f"a vector of 8 bytes at word {to} of shared memory is not aligned")
        shared[to : to + 2] = registers[first : first + 2]

    def round_tf32(word: int) -> np.uint32:
        """A float32, as its bits, rounded to the nearest TF32, halves away from zero; the digits below are noise.

        Hardware does not read them.
        """
        word = int(word)
        return np.uint32(word if word & 0x7F800000 == 0x7F800000 else word + 0x1000)

    def round_words_tf32(registers: np.ndarray, count: int) -> None:
        """`round_tf32` of the first `count` words, a constant."""
        registers = registers.reshape(-1)[:count]
        finite = registers & np.uint32(0x7F800000) != 0x7F800000
        registers += np.where(finite, np.uint32(0x1000), np.uint32(0))

    def pack_two(low: float, high: float, like: Pointer) -> np.uint32:
        """Two float32 as a word of two 16-bit numbers, rounded to the nearest."""
        return np.array([low, high], np.float32).astype(like.memory.dtype).view(np.uint32)[0]

else:
    from llvmlite import ir

    from ._numba import intrinsic, signature, types
    from .ptx import data_of, global_address

    _FLOAT, _I32, _VOID = ir.FloatType(), ir.IntType(32), ir.VoidType()

    def _asm(builder, text: str, constraints: str, result, *args):
        """Instructions in their place. Collectives must not be moved into branches: hence convergent."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        code = ir.InlineAsm(kind, text, constraints, side_effect=True)
        return builder.call(code, args, attrs=("convergent", "nounwind"))

    def shared_address(context, builder, kind, value, word):
        """The address of a word of a shared array in the window of shared memory, 32 bits."""
        first = data_of(context, builder, kind, value)
        first = builder.ptrtoint(builder.addrspacecast(first, first.type.pointee.as_pointer(3)), _I32)
        return builder.add(first, builder.shl(word, _I32(2)))

    def _load_matrices(context, builder, sig, args, transposed: str):
        address = shared_address(context, builder, sig.args[2], args[2], args[3])
        text = f"ldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {{$0, $1, $2, $3}}, [$4];"
        words = _asm(builder, text, "=r,=r,=r,=r,r,~{memory}", ir.LiteralStructType([_I32] * 4), address)
        target = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        for word in range(4):
            builder.store(builder.extract_value(words, word), builder.gep(target, [_I32(word)]))
        return context.get_dummy_value()

    @intrinsic
    def load_matrices(typing, registers, first, shared, i):
        """Four 8 x 8 matrices of 16-bit numbers, or 8 x 4 words: registers[first + n] = word l%4 of row l/4 of n.

        The offsets i of lanes 8n to 8n + 7 are those of the rows of matrix n, 16 bytes each.
        """

        def generate(context, builder, sig, args):
            return _load_matrices(context, builder, sig, args, "")

        return signature(types.void, registers, types.int32, shared, types.int32), generate

    @intrinsic
    def load_matrices_transposed(typing, registers, first, shared, i):
        """The same of the transposed matrices of 16-bit numbers: the lane gets numbers 2 (l%4), + 1 of column l/4."""

        def generate(context, builder, sig, args):
            return _load_matrices(context, builder, sig, args, ".trans")

        return signature(types.void, registers, types.int32, shared, types.int32), generate

    _KINDS = {types.float32: "m16n8k8.row.col.f32.tf32.tf32.f32", types.float16: "m16n8k16.row.col.f32.f16.f16.f32",
              types.uint16: "m16n8k16.row.col.f32.bf16.bf16.f32"}

    def _multiply(context, builder, sig, args, kind: str, parts: int):
        """One 16 x 8 product, by `parts` instructions along the reduction."""

        def words(number, count):
            first = builder.gep(data_of(context, builder, sig.args[number], args[number]), [args[number + 1]])
            return [builder.gep(first, [_I32(word)]) for word in range(count)]

        targets = words(0, 4)
        left, right = ([builder.load(word) for word in words(number, count)] for number, count in ((2, 4), (4, 2)))
        sums = [builder.load(target) for target in targets]
        n_left, n_right = 4 // parts, 2 // parts
        names = [f"${number}" for number in range(4 + n_left + n_right)]
        text = (f"mma.sync.aligned.{kind} {{{', '.join(names[:4])}}}, {{{', '.join(names[4 : 4 + n_left])}}}, "
                f"{{{', '.join(names[4 + n_left :])}}}, {{{', '.join(names[:4])}}};")
        constraints = ",".join(["=f"] * 4 + ["r"] * (n_left + n_right) + list("0123"))
        for part in range(parts):
            a, b = left[part * n_left : (part + 1) * n_left], right[part * n_right : (part + 1) * n_right]
            result = _asm(builder, text, constraints, ir.LiteralStructType([_FLOAT] * 4), *a, *b, *sums)
            sums = [builder.extract_value(result, number) for number in range(4)]
        for value, target in zip(sums, targets):
            builder.store(value, target)
        return context.get_dummy_value()

    @intrinsic
    def _multiply_8_0(typing, sums, s, a, i, b, j, like):
        def generate(context, builder, sig, args):
            return _multiply(context, builder, sig, args, _KINDS[sig.args[6].dtype], 1)

        return signature(types.void, sums, types.int32, a, types.int32, b, types.int32, like), generate

    @intrinsic
    def _multiply_7_5(typing, sums, s, a, i, b, j, like):
        if like.dtype != types.float16:
            raise TypeError(f"compute capability 7.5 multiplies matrices of float16 alone, not {like.dtype}")

        def generate(context, builder, sig, args):
            return _multiply(context, builder, sig, args, "m16n8k8.row.col.f32.f16.f16.f32", 2)

        return signature(types.void, sums, types.int32, a, types.int32, b, types.int32, like), generate

    @device
    def products(sums, a, b, like):
        """sums (m, n, 4) += the products of a (m, 4), m times 16 rows, with b (n, 2), n times 8 columns."""
        for i in range(sums.shape[0]):
            for j in range(sums.shape[1]):
                _multiply_8_0(sums, (i * sums.shape[1] + j) * 4, a, i * 4, b, j * 2, like)

    @device
    def products_7_5(sums, a, b, like):
        """`products` of float16 for compute capability 7.5, whose instruction takes half the reduction."""
        for i in range(sums.shape[0]):
            for j in range(sums.shape[1]):
                _multiply_7_5(sums, (i * sums.shape[1] + j) * 4, a, i * 4, b, j * 2, like)

    @intrinsic
    def copy_async(typing, shared, to, p, i, size):
        """Begin to copy `size` bytes, 16 or none, from p[i] on to shared[to:to + 4], and zeros for what is missing."""

        def generate(context, builder, sig, args):
            target = shared_address(context, builder, sig.args[0], args[0], args[1])
            source = global_address(builder, sig.args[2], args[2], args[3])
            _asm(builder, "cp.async.cg.shared.global [$0], [$1], 16, $2;", "r,l,r,~{memory}", _VOID, target, source,
                 args[4])
            return context.get_dummy_value()

        return signature(types.void, shared, types.int32, p, i, types.int32), generate

    @intrinsic
    def commit_copies(typing):
        """The thread's copies begun since the last call become a group."""

        def generate(context, builder, sig, args):
            _asm(builder, "cp.async.commit_group;", "~{memory}", _VOID)
            return context.get_dummy_value()

        return signature(types.void), generate

    @intrinsic
    def wait_copies(typing, groups):
        """Wait until at most so many of the thread's groups are still under way; `groups` is a constant."""
        if not hasattr(groups, "literal_value"):
            return None  # Numba asks again with the constant
        count = groups.literal_value

        def generate(context, builder, sig, args):
            _asm(builder, f"cp.async.wait_group {count};", "~{memory}", _VOID)
            return context.get_dummy_value()

        return signature(types.void, groups), generate

    @intrinsic
    def load_words(typing, registers, first, p, i, wanted):
        """registers[first:first + 4] = the 16 bytes from p[i] on, or zeros where they are not wanted."""

        def generate(context, builder, sig, args):
            source = global_address(builder, sig.args[2], args[2], args[3])
            clear = " ".join(f"mov.b32 ${word}, 0;" for word in range(4))
            text = f"{{ .reg .pred p; setp.ne.s32 p, $5, 0; {clear} @p ld.global.v4.b32 {{$0, $1, $2, $3}}, [$4]; }}"
            words = _asm(builder, text, "=&r,=&r,=&r,=&r,l,r,~{memory}", ir.LiteralStructType([_I32] * 4), source,
                         args[4])
            target = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
            for word in range(4):
                builder.store(builder.extract_value(words, word), builder.gep(target, [_I32(word)]))
            return context.get_dummy_value()

        return signature(types.void, registers, types.int32, p, i, types.int32), generate

    @intrinsic
    def load_word(typing, shared, i, offset):
        """shared[i + offset]; a constant offset is part of the instruction."""

        def generate(context, builder, sig, args):
            first = data_of(context, builder, sig.args[0], args[0])
            base = builder.addrspacecast(first, first.type.pointee.as_pointer(3))
            return builder.load(builder.gep(builder.gep(base, [args[1]]), [args[2]]))

        return signature(shared.dtype, shared, types.int32, types.int32), generate

    def _store_shared(context, builder, sig, args, text: str, constraints: str, count: int):
        address = shared_address(context, builder, sig.args[0], args[0], args[1])
        source = builder.gep(data_of(context, builder, sig.args[2], args[2]), [args[3]])
        words = [builder.load(builder.gep(source, [_I32(word)])) for word in range(count)]
        _asm(builder, text, constraints, _VOID, address, *words)
        return context.get_dummy_value()

    @intrinsic
    def store_words(typing, shared, to, registers, first):
        """shared[to:to + 4] = registers[first:first + 4], 16 bytes at once."""

        def generate(context, builder, sig, args):
            text = "st.shared.v4.b32 [$0], {$1, $2, $3, $4};"
            return _store_shared(context, builder, sig, args, text, "r,r,r,r,r,~{memory}", 4)

        return signature(types.void, shared, types.int32, registers, types.int32), generate

    @intrinsic
    def store_two(typing, shared, to, registers, first):
        """shared[to:to + 2] = registers[first:first + 2], float32, 8 bytes at once."""

        def generate(context, builder, sig, args):
            text = "st.shared.v2.f32 [$0], {$1, $2};"
            return _store_shared(context, builder, sig, args, text, "r,f,f,~{memory}", 2)

        return signature(types.void, shared, types.int32, registers, types.int32), generate

    def _rounded(builder, words: list) -> list:
        """Half of the last digit that stays is added; tensor cores cut off the rest."""
        lines = "".join(
            f" mov.b32 value, ${word}; abs.f32 value, value; setp.lt.f32 finite, value, 0f7F800000;"
            f" @finite add.u32 ${word}, ${word}, 0x1000;"
            for word in range(len(words))
        )
        text = f"{{ .reg .pred finite; .reg .f32 value;{lines} }}"
        constraints = ",".join(["=r"] * len(words) + [str(word) for word in range(len(words))])
        result = ir.LiteralStructType([_I32] * len(words)) if len(words) > 1 else _I32
        code = ir.InlineAsm(ir.FunctionType(result, [_I32] * len(words)), text, constraints)
        rounded = builder.call(code, words)
        return [builder.extract_value(rounded, word) for word in range(len(words))] if len(words) > 1 else [rounded]

    @intrinsic
    def round_tf32(typing, word):
        """A float32, as its bits, rounded to the nearest TF32, halves away from zero; the digits below are noise.

        Hardware does not read them. cvt.rna would clear them, by a third instruction.
        """
        return signature(types.uint32, types.uint32), lambda context, builder, sig, args: _rounded(builder, args)[0]

    @intrinsic
    def round_words_tf32(typing, registers, count):
        """`round_tf32` of the first `count` words, a constant."""
        if not hasattr(count, "literal_value"):
            return None
        size = count.literal_value

        def generate(context, builder, sig, args):
            first = data_of(context, builder, sig.args[0], args[0])
            places = [builder.gep(first, [_I32(word)]) for word in range(size)]
            for word, place in zip(_rounded(builder, [builder.load(place) for place in places]), places):
                builder.store(word, place)
            return context.get_dummy_value()

        return signature(types.void, registers, count), generate

    @intrinsic
    def pack_two(typing, low, high, like):
        """Two float32 as a word of two 16-bit numbers, rounded to the nearest."""
        name = "f16x2" if like.dtype == types.float16 else "bf16x2"

        def generate(context, builder, sig, args):
            kind = ir.FunctionType(_I32, [_FLOAT, _FLOAT])
            return builder.call(ir.InlineAsm(kind, f"cvt.rn.{name}.f32 $0, $1, $2;", "=r,f,f"), [args[1], args[0]])

        return signature(types.uint32, types.float32, types.float32, like), generate
