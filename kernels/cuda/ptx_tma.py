"""Hopper's bulk copies and the barriers that count their bytes, each with its emulation for the simulator beside it.

One thread asks for a whole tile of a tensor, which a tensor map describes (`_tensor_map.py`), and the copy engine
brings it to shared memory, 128 bytes a row, in the permuted layout that `ptx_wgmma.py` draws; places outside the tensor
become zeros. Whoever needs the tile waits at a barrier: two words of shared memory that count arrivals and bytes. A
phase of the barrier is over when `count` threads have arrived and all bytes they announced are there; then the next one
begins, of the other parity, 0 and 1 by turns.

    once:      init(full, 1); init(empty, consumers); publish; block's barrier
    producer:  wait(empty, 1 - parity); expect(full, bytes); load …
    consumer:  wait(full, parity); …; arrive(empty)

Shared memory holds words (`types.uint32`), offsets count words; barriers lie at even ones.

In the emulation a copy lands when somebody waits for it, as late as can be, or at once where threads run backward: both
a missing wait for a full tile and one for an empty tile show. It does not know of proxies.

Source: Parallel Thread Execution ISA, NVIDIA, sections on mbarrier and cp.async.bulk.tensor.
"""

from __future__ import annotations

import numpy as np

from ._numba import SIMULATED

if SIMULATED:
    from ._emulation import thread

    class _Barrier:
        def __init__(self, count: int):
            self.count = self.missing = count
            self.bytes = self.parity = 0
            self.copies: list = []
            self.sleepers: list = []

        def land(self) -> None:
            """All copies under way arrive."""
            while self.copies:
                shared, to, rows = self.copies.pop(0)
                lines = np.arange(len(rows))[:, None]
                pieces = np.arange(8) ^ (lines & 7)
                shared[to : to + rows.size].reshape(-1, 8, 4)[lines, pieces] = rows.reshape(-1, 8, 4)
                self.bytes -= 4 * rows.size
            self.turn()

        def turn(self) -> None:
            """The next phase, if this one is over."""
            if self.missing or self.bytes:
                return
            self.missing, self.parity = self.count, 1 - self.parity
            for sleeper in self.sleepers:
                sleeper.wake()
            self.sleepers = []

    def _barrier(shared: np.ndarray, i: int) -> _Barrier:
        return thread().block.barriers[shared[i:].ctypes.data]

    def barrier_init(shared: np.ndarray, i: int, count: int) -> None:
        """A barrier whose phases end after `count` arrivals."""
        if i % 2:
            raise IndexError(f"a barrier at word {i} is not aligned to 8 bytes")
        thread().block.barriers[shared[i:].ctypes.data] = _Barrier(count)

    def publish_barriers() -> None:
        """The copy engine sees the barriers this thread has made."""

    def barrier_arrive(shared: np.ndarray, i: int) -> None:
        """This thread arrives."""
        barrier_expect(shared, i, 0)

    def barrier_expect(shared: np.ndarray, i: int, size: int) -> None:
        """This thread arrives, and announces so many bytes of copies."""
        barrier = _barrier(shared, i)
        if not barrier.missing:
            raise RuntimeError("more threads arrive at a barrier than it was made for")
        barrier.missing -= 1
        barrier.bytes += size
        barrier.turn()

    def barrier_wait(shared: np.ndarray, i: int, parity: int) -> None:
        """Wait for the end of the phase of this parity; the one before the first has parity 1 and is over."""
        barrier = _barrier(shared, i)
        while barrier.parity == parity:
            if barrier.copies:
                barrier.land()
            else:
                barrier.sleepers.append(thread())
                thread().sleep("a barrier in shared memory")

    def _load(shared: np.ndarray, to: int, barrier: int, rows: np.ndarray) -> None:
        if to % 256:
            raise IndexError(f"a bulk copy to word {to} of shared memory is not aligned to 1024 bytes")
        if rows.size > shared.size - to:
            raise IndexError(f"a bulk copy of {rows.size} words to word {to} of {shared.size}")
        shared[to : to + rows.size] = 0xFFFFFFFF
        place = _barrier(shared, barrier)
        place.copies.append((shared, to, rows))
        if thread().hasty or place.sleepers:
            place.land()

    def load_tile(shared: np.ndarray, to: int, tensor_map, barrier: int, c0: int, c1: int, c2: int) -> None:
        """Begin to copy the tile of a map from `tiled` whose first element is (c2, c1, c0)."""
        _load(shared, to, barrier, tensor_map.tile(c0, c1, c2))

    def load_pixels(shared: np.ndarray, to: int, tensor_map, barrier: int, c: int, w: int, h: int, n: int,
                    tap_w: int, tap_h: int) -> None:
        """Begin to copy channels c … of a map from `pixels`: pixel (n, h, w) of its box and those that follow, each
        moved by (tap_h, tap_w)."""
        _load(shared, to, barrier, tensor_map.column(c, w, h, n, tap_w, tap_h))

    def prefetch_map(tensor_map) -> None:
        """Have the map at hand for the first copy."""

else:
    from llvmlite import ir

    from ._numba import device, intrinsic, signature, types
    from .ptx_mma import shared_address

    _I16, _I32, _VOID = ir.IntType(16), ir.IntType(32), ir.VoidType()

    def _asm(builder, text: str, constraints: str, result, *args):
        kind = ir.FunctionType(result, [arg.type for arg in args])
        code = ir.InlineAsm(kind, text, ",".join(filter(None, (constraints, "~{memory}"))), side_effect=True)
        return builder.call(code, args, attrs=("convergent", "nounwind"))

    @intrinsic
    def publish_barriers(typing):
        """The copy engine sees the barriers this thread has made."""

        def generate(context, builder, sig, args):
            _asm(builder, "fence.mbarrier_init.release.cluster;", "", _VOID)
            return context.get_dummy_value()

        return signature(types.void), generate

    @intrinsic
    def barrier_init(typing, shared, i, count):
        """A barrier whose phases end after `count` arrivals."""

        def generate(context, builder, sig, args):
            place = shared_address(context, builder, sig.args[0], args[0], args[1])
            _asm(builder, "mbarrier.init.shared::cta.b64 [$0], $1;", "r,r", _VOID, place, args[2])
            return context.get_dummy_value()

        return signature(types.void, shared, types.int32, types.int32), generate

    @intrinsic
    def barrier_arrive(typing, shared, i):
        """This thread arrives."""

        def generate(context, builder, sig, args):
            place = shared_address(context, builder, sig.args[0], args[0], args[1])
            _asm(builder, "mbarrier.arrive.shared::cta.b64 _, [$0];", "r", _VOID, place)
            return context.get_dummy_value()

        return signature(types.void, shared, types.int32), generate

    @intrinsic
    def barrier_expect(typing, shared, i, size):
        """This thread arrives, and announces so many bytes of copies."""

        def generate(context, builder, sig, args):
            place = shared_address(context, builder, sig.args[0], args[0], args[1])
            _asm(builder, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "r,r", _VOID, place, args[2])
            return context.get_dummy_value()

        return signature(types.void, shared, types.int32, types.int32), generate

    @intrinsic
    def _is_over(typing, shared, i, parity):
        def generate(context, builder, sig, args):
            place = shared_address(context, builder, sig.args[0], args[0], args[1])
            return _asm(builder, "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [$1], $2; "
                        "selp.u32 $0, 1, 0, p; }", "=r,r,r", _I32, place, args[2])

        return signature(types.uint32, shared, types.int32, types.int32), generate

    @device
    def barrier_wait(shared, i, parity):
        """Wait for the end of the phase of this parity; the one before the first has parity 1 and is over."""
        while _is_over(shared, i, parity) == 0:
            pass

    def _load(context, builder, sig, args, kind: str, last: int, taps: str) -> None:
        """The copy to args[0] at args[1] by the map args[2]; coordinates args[4:last], the rest are moves."""
        to, full = (shared_address(context, builder, sig.args[0], args[0], args[i]) for i in (1, 3))
        where = ", ".join(f"${i - 1}" for i in range(4, last))
        inputs = [builder.trunc(arg, _I16) if i + 4 >= last else arg for i, arg in enumerate(args[4:])]
        codes = ",".join(["r,l,r"] + ["h" if value.type == _I16 else "r" for value in inputs])
        _asm(builder, f"cp.async.bulk.tensor.{kind}.mbarrier::complete_tx::bytes [$0], [$1, {{{where}}}], [$2]{taps};",
             codes, _VOID, to, args[2], full, *inputs)
        return context.get_dummy_value()

    @intrinsic
    def load_tile(typing, shared, to, tensor_map, barrier, c0, c1, c2):
        """Begin to copy the tile of a map from `tiled` whose first element is (c2, c1, c0)."""

        def generate(context, builder, sig, args):
            return _load(context, builder, sig, args, "3d.shared::cluster.global.tile", 7, "")

        return signature(types.void, shared, types.int32, types.uint64, *[types.int32] * 4), generate

    @intrinsic
    def load_pixels(typing, shared, to, tensor_map, barrier, c, w, h, n, tap_w, tap_h):
        """Begin to copy channels c … of a map from `pixels`: pixel (n, h, w) of its box and those that follow, each
        moved by (tap_h, tap_w)."""

        def generate(context, builder, sig, args):
            return _load(context, builder, sig, args, "4d.shared::cluster.global.im2col", 8, ", {$7, $8}")

        return signature(types.void, shared, types.int32, types.uint64, *[types.int32] * 7), generate

    @intrinsic
    def prefetch_map(typing, tensor_map):
        """Have the map at hand for the first copy."""

        def generate(context, builder, sig, args):
            _asm(builder, "prefetch.tensormap [$0];", "l", _VOID, args[0])
            return context.get_dummy_value()

        return signature(types.void, types.uint64), generate
