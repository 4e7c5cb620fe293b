"""Compilation at the first call on a machine, kept in a folder of the user's.

numba keeps compiled code by the file that a function stands in. A kernel's file is another than
that of the task that uses it, so the folder is named after all of them, and after the processor's
vectors, for which the kernels are written.
"""

import hashlib
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import threads
from .vectors import FLOAT, LANES, LONG, Float, Long

Function = TypeVar("Function", bound=Callable[..., Any])
KINDS = {Long: types.int64, Float: types.float32, None: types.void}


SOURCES = b"\0".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
DIGEST = hashlib.sha256(SOURCES).hexdigest()[:16]


def folder() -> str:
    """Return the folder of compiled code; empty where there is no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Of an unknown home numba's own places are left.
    return "" if cache.startswith("~") else f"{cache}/v-diffusion/compiled-{LANES}-{DIGEST}"


FOLDER = folder()


def kept(decorator: Callable[..., Any], signature: Any, function: Callable[..., Any]) -> Any:
    """Compile a function by one of numba's decorators, and keep it if that can be."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = FOLDER  # numba knows no other way to say it
    try:
        for _ in range(2):
            try:
                return decorator(signature, cache=True)(function)
            except Exception:  # a damaged file raises nearly anything
                shutil.rmtree(FOLDER, ignore_errors=True)
        return decorator(signature)(function)  # there is no such folder to write to
    finally:
        numba.config.CACHE_DIR = before


def inline(function: Function) -> Function:
    """Make a function for compiled ones to call."""
    return numba.njit(nogil=True)(function)


def kernel(emit: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function for compiled ones to call of one that gives LLVM's instructions, once."""
    *kinds, result = (KINDS[kind] for kind in emit.__annotations__.values())
    signature = result(*kinds)

    def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        found = emit(*(Long(builder, one) if one.type == LONG else one for one in args))
        return context.get_dummy_value() if found is None else found

    def typed(context: Any, *args: Any) -> Any:
        return signature, code

    shape = inspect.signature(emit)
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY)
    typed.__name__ = emit.__name__
    # numba asks for it, and mypy doesn't know it.
    setattr(typed, "__signature__", shape.replace(parameters=[first, *shape.parameters.values()]))  # noqa: B010
    found: Callable[..., Any] = intrinsic(typed)
    return found


@kernel
def long_at(address: Long) -> Long:
    return address.number(LONG)


@kernel
def put_long(address: Long, value: Long) -> None:
    address.builder.store(value.value, address.pointer(LONG))


@kernel
def take(address: Long) -> Long:
    """Count the 64-bit integer at an address on by one, among threads; return what it was."""
    return address.builder.atomic_rmw("add", address.pointer(LONG), LONG(1), "seq_cst")


@kernel
def float_at(address: Long) -> Float:
    return address.number()


@kernel
def put_float(address: Long, value: Float) -> None:
    address.builder.store(value, address.pointer(FLOAT))


def _entry(arguments: Any) -> None:
    """Take parts in turns with other threads; `task` says what `take` and `function` are."""
    numbers = arguments[0]
    thread = take(numbers[0] + 8)
    part = take(numbers[0])
    while part < numbers[1]:
        function(thread, part, *numbers[2:])  # noqa: F821
        part = take(numbers[0])


def task(function: Callable[..., None]) -> Callable[..., None]:
    """Compile what is done for each part of some work; return a call of it in PyTorch's threads.

    The function takes 64-bit integers: the numbers of its thread and of the part, and the call's
    keywords, 0 for those that it leaves out.
    """
    _, _, *names = inspect.signature(function).parameters
    scope = {"__name__": function.__module__, "function": inline(function), "take": take}
    # As a closure of a compiled function, which has an identity of its own, it would not be kept.
    entry = FunctionType(_entry.__code__, scope)
    # numba knows all tasks as functions of this file; their names tell them, and versions, apart.
    entry.__qualname__ = f"{function.__module__}.{function.__qualname__}.{DIGEST}"
    signature = types.void(types.CPointer(types.UniTuple(types.int64, 2 + len(names))))
    address = kept(numba.cfunc, signature, entry).address

    def run(parts: int, **values: int) -> None:
        arguments = [values.pop(name, 0) for name in names]
        assert not values, f"{function.__name__} takes {names}, not {list(values)}"
        threads.share(address, parts, arguments)

    return run
