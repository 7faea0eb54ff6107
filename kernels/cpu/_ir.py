"""Pieces of LLVM IR that the vector type (`simd.py`) and the tiles are built from, and how wide vectors are.

L comes from the CPU that Numba compiles for: 16 with AVX-512, 8 with AVX2, else 4 (SSE, NEON). Vectors of L lanes use
the full register width even where LLVM on its own would prefer narrower ones. `NUMBA_CPU_NAME=haswell` makes L 8 and
`NUMBA_CPU_NAME=nehalem` 4, on wider machines too.
"""

from __future__ import annotations

import re

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config
from numba.core import cgutils

F32, F64, I1, I8, I32, I64 = ir.FloatType(), ir.DoubleType(), *(ir.IntType(n) for n in (1, 8, 32, 64))


_SUM = """
define <16 x i32> @sum(<16 x i32> %x, <16 x i32> %y) {
  %z = add <16 x i32> %x, %y
  ret <16 x i32> %z
}
"""


def lanes_of(cpu_name: str | None, cpu_features: str | None) -> int:
    """Lanes of the CPU's widest vectors: 16 over the instructions that LLVM adds 16 integers with.

    Takes what `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` say. None is the host, or what the named CPU has by itself.
    """
    if cpu_name is None:
        cpu_name, host = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        cpu_features = host if cpu_features is None else cpu_features
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(cpu=cpu_name, features=cpu_features or "")
    adding = re.findall(r"^\s+(?:add|v?paddd)\s", machine.emit_assembly(llvm.parse_assembly(_SUM)), re.MULTILINE)
    return max(4, 16 // len(adding))


L = lanes_of(config.CPU_NAME, config.CPU_FEATURES)

MASK = max(L // 8, 1)  # bytes of a mask in memory

V, VI, VM = (ir.VectorType(t, L) for t in (F32, I32, I1))


def i64(n: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(I64, n)


def at(b: ir.IRBuilder, address: ir.Value, index: ir.Value, element: ir.Type = F32) -> ir.Value:
    """Pointer to element `index` behind a byte address (or behind a pointer)."""
    if address.type == I64:
        address = b.inttoptr(address, element.as_pointer())
    return b.gep(address, [index], source_etype=element)


def load(b: ir.IRBuilder, pointer: ir.Value, kind: ir.Type = V) -> ir.Value:
    """Load a scalar or an unaligned vector."""
    size = kind.element if isinstance(kind, ir.VectorType) else kind
    return b.load(b.bitcast(pointer, kind.as_pointer()), align=8 if size == I64 else 1 if size == I8 else 4, typ=kind)


def store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
    """Store a scalar or an unaligned vector."""
    size = value.type.element if isinstance(value.type, ir.VectorType) else value.type
    b.store(value, b.bitcast(pointer, value.type.as_pointer()), align=8 if size == I64 else 1 if size == I8 else 4)


def prefetch(b: ir.IRBuilder, pointer: ir.Value, write: bool = False) -> None:
    """Ask for the cache line at a pointer, which need not be valid, to come into L2 (for a store: to be owned)."""
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    b.call(function, [b.bitcast(pointer, I8.as_pointer()), *(ir.Constant(I32, n) for n in (int(write), 2, 1))])


def splat(b: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    """Broadcast a scalar to all lanes."""
    kind = ir.VectorType(scalar.type, L)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(VI, [0] * L))


def constant(value: float) -> ir.Constant:
    """A vector of equal float lanes."""
    return ir.Constant(V, [float(value)] * L)


def call(b: ir.IRBuilder, name: str, *args: ir.Value, returns: ir.Type = V) -> ir.Value:
    """Call an LLVM intrinsic by its full name without the leading `llvm.`."""
    kind = ir.FunctionType(returns, [x.type for x in args])
    return b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}"), args)


def fma(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """x * y + z, rounded once."""
    return call(b, f"fma.v{L}f32", x, y, z)


def first_lanes(b: ir.IRBuilder, n: ir.Value) -> ir.Value:
    """Mask of the lanes below the int64 n."""
    below = call(b, "smin.i64", n, i64(L), returns=I64)
    return b.icmp_signed("<", ir.Constant(VI, list(range(L))), splat(b, b.trunc(below, I32)))


def masked_load(b: ir.IRBuilder, pointer: ir.Value, lanes: ir.Value, kind: ir.Type = V) -> ir.Value:
    """Load the lanes that the mask names, 0 in the others; the others' memory is not touched."""
    zero = ir.Constant(kind, [0] * L)
    align = ir.Constant(I32, 1 if kind.element == I8 else 4)
    return call(b, f"masked.load.v{L}{_suffix(kind)}.p0", b.bitcast(pointer, kind.as_pointer()), align, lanes, zero,
                returns=kind)


def raised(b: ir.IRBuilder, values: list[ir.Value], floor: ir.Value) -> list[ir.Value]:
    """The vectors with `floor`, a scalar, in the lanes that are below it; NaN stays."""
    floor = splat(b, floor)
    return [b.select(b.fcmp_ordered("<", v, floor), floor, v) for v in values]


def masked_store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value, lanes: ir.Value) -> None:
    """Store the lanes that the mask names; the others' memory is not touched."""
    align = ir.Constant(I32, 1 if value.type.element == I8 else 4)
    call(b, f"masked.store.v{L}{_suffix(value.type)}.p0", value, b.bitcast(pointer, value.type.as_pointer()), align,
         lanes, returns=ir.VoidType())


def _suffix(kind: ir.VectorType) -> str:
    return "f32" if kind.element == F32 else f"i{kind.element.width}"
