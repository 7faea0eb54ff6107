"""From a Python function to machine code on disk, and from there to an address.

Numba compiles a function to an object file, once for this machine (`_cache.py` keeps it). Every process, also the one
that compiled it, then loads the file with LLVM alone: a kernel from disk is ready in a millisecond, and none of Numba's
compiler has to be set up for it.

Each object file is loaded into an engine of its own. Numba names what it compiles by Python name, argument types and a
count of the functions compiled so far in this process. So the inner loops of sigmoid and of tanh, compiled by two
processes, may well have one and the same name; in one engine the second would silently become the first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, models, register_model

from . import _cache
from ._ir import F32, I8, I32, I64, at, i64

PTR, INT, FLOAT = "q", "q", "f4x"  # struct codes: every argument takes eight bytes
listeners: list[Callable[[str], None]] = []  # called with a function's name when it is compiled, not loaded from disk
lock = threading.RLock()  # held while compiling and loading


# ---------------------------------------------------------------- arguments by name
class Arguments(types.Type):
    """The Numba type of a kernel's `a`: the address of an int64 block whose fields have names."""

    def __init__(self, fields: dict[str, str]):
        self.fields = tuple(fields.items())
        super().__init__(name="arguments(" + ",".join(f"{n}:{c}" for n, c in self.fields) + ")")


@register_model(Arguments)
class _ArgumentsModel(models.PrimitiveModel):
    def __init__(self, manager, arguments):
        super().__init__(manager, arguments, I64)


@infer_getattr
class _ArgumentTyping(AttributeTemplate):
    key = Arguments

    def generic_resolve(self, arguments, name):
        code = dict(arguments.fields).get(name)
        return {PTR: types.int64, FLOAT: types.float32, None: None}[code]


@lower_getattr_generic(Arguments)
def _argument(context, builder, arguments, address, name):
    names = [n for n, _ in arguments.fields]
    kind = F32 if dict(arguments.fields)[name] == FLOAT else I64
    slot = at(builder, address, i64(names.index(name)), I64)
    value = builder.load(builder.bitcast(slot, kind.as_pointer()), align=8 if kind == I64 else 4, typ=kind)
    # The block never changes during a call: LLVM may keep the value in a register across stores.
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


# ---------------------------------------------------------------- machine code
# Nothing raises, so an integer divided by zero goes unnoticed and a float's quotient is infinite or NaN. Without the
# wrappers for calls from Python and C a function compiles a sixth faster.
_OPTIONS = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def inner(function: Callable) -> Callable:
    """Decorator: a function for kernels to call. Calling it from Python crashes."""
    return njit(**_OPTIONS)(function)


natives: list[Native] = []  # all of them


class Native:
    """A Python function as machine code at `address`, compiled when it is first needed on this machine.

    It takes integers (or `Arguments`), returns nothing and raises nothing: what would raise just ends it.
    """

    def __init__(self, function: Callable, *arguments: types.Type, parallel: bool = False):
        self.function, self._arguments, self._parallel = function, arguments, parallel
        self.loaded: int | None = None  # the address, once it is known
        # The cache knows the sources of this folder alone: functions of other files are compiled in every process.
        self.is_kept = function.__module__.rpartition(".")[0] == __package__
        natives.append(self)

    @property
    def name(self) -> str:
        """File and function, as in `activation._relu_blocks`."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @property
    def address(self) -> int:
        """Where the code is; compiles or loads it first."""
        if self.loaded is None:
            with lock:
                if self.loaded is None:
                    self.loaded = _load(self.prepare())
        return self.loaded

    def prepare(self) -> bytes:
        """The code from disk; what is not there is compiled and put there."""
        code = _cache.read(self.name) if self.is_kept else None
        if code is None:
            for listener in list(listeners):
                listener(self.function.__name__)
            with lock:
                code = self._compile()
            if self.is_kept:
                _cache.write(self.name, code)
        return code

    def _compile(self) -> bytes:
        kind = types.void(*self._arguments)
        compiled = njit(kind, parallel=self._parallel, **_OPTIONS)(self.function).overloads[kind.args]
        return compiled.fndesc.llvm_func_name.encode() + b"\0" + compiled.library._get_compiled_object()


_engines: list[llvm.ExecutionEngine] = []  # own the code that they have loaded


def _load(code: bytes) -> int:
    symbol, _, object_file = code.partition(b"\0")
    _ = cpu_target.target_context  # tells LLVM where to find what compiled code calls
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(object_file))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address(symbol.decode())


# Numba's convention: a place for the result and one for an exception come before the arguments, a status is returned.
@intrinsic
def call(typing_context, function, first, last, thread, arguments):
    """Call the machine code of a kernel at an address."""
    def lower(context, b, sig, values):
        address, *rest = values
        place = I8.as_pointer()
        kind = ir.FunctionType(I32, [place.as_pointer()] * 2 + [I64] * len(rest))
        b.call(b.inttoptr(address, kind.as_pointer()), [*(cgutils.alloca_once(b, place) for _ in range(2)), *rest])
        return context.get_dummy_value()
    return types.void(*[types.int64] * 5), lower
