"""Compilation at the first call on a machine, kept in a folder of the user's.

numba keeps compiled code by the file that a function stands in. A kernel's file is another than
that of the task that uses it, so the folder is named after all of them, and after the processor's
vectors, for which the kernels are written.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import LANES

Function = TypeVar("Function", bound=Callable[..., Any])
FOLDER = "v-diffusion"  # in the user's cache


def folder() -> str:
    """Return the folder of compiled code; empty where there is no home."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    named = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Of an unknown home numba's own places are left.
    return "" if cache.startswith("~") else str(Path(cache) / FOLDER / f"compiled-{LANES}-{named}")


FOLDER_OF_ALL = folder()


def kept(decorator: Callable[[bool], Callable[..., Any]], function: Callable[..., Any]) -> Any:
    """Compile a function, and keep it if that can be.

    Args:
        decorator: gives numba's, to keep the code if its argument is true.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = FOLDER_OF_ALL  # numba knows no other way to say it
    try:
        return decorator(True)(function)
    except (RuntimeError, OSError):  # there is no such folder to write to
        return decorator(False)(function)
    finally:
        numba.config.CACHE_DIR = before


def task(function: Callable[[int], None]) -> int:
    """Compile a function for `threads.share`; return its address."""
    address: int = kept(lambda cache: numba.cfunc("void(int64)", cache=cache), function).address
    return address


def compiled(count: int) -> Callable[[Function], Function]:
    """A function for Python to call, of so many 64-bit integers."""
    signature = types.void(*[types.int64] * count)

    def make(function: Function) -> Function:
        found: Function = kept(lambda cache: numba.njit(signature, cache=cache), function)
        return found

    return make


def inline(function: Function) -> Function:
    """A function for compiled ones to call."""
    found: Function = numba.njit(nogil=True)(function)
    return found


def kernel(
    emit: Callable[..., Any], result: types.Type = types.void, *last: types.Type
) -> Callable[..., Any]:
    """A function for compiled ones to call, which is given as LLVM's instructions.

    Args:
        emit: called once with LLVM's builder and the arguments, 64-bit integers.
        result: the type of what it gives, if it gives anything.
        last: the types of its last arguments, if they are others.
    """
    shape = inspect.signature(emit)
    count = len(shape.parameters) - 1 - len(last)
    signature = result(*[types.int64] * count, *last)

    def code(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        found = emit(builder, *args)
        return context.get_dummy_value() if found is None else found

    def typed(context: Any, *args: Any) -> Any:
        return signature, code

    typed.__name__ = emit.__name__
    setattr(typed, "__signature__", shape)  # noqa: B010  which numba asks, and mypy doesn't know
    found: Callable[..., Any] = intrinsic(typed)
    return found
