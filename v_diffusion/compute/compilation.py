"""Compiling the models with torch.compile."""

import logging
from collections.abc import Callable
from typing import Any

import torch


class CompilerError(RuntimeError):
    """There is no compiler. Its text is the message."""


def require_compiler() -> None:
    """
    Raises:
        CompilerError: PyTorch finds no C++ compiler.
    """
    # It warns, where there is no GPU, that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError):
        raise CompilerError(
            "no C++ compiler found; install one (g++ or clang++), or name it in CXX"
        ) from None


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A model or function compiled, with or without gradients, at its first call of each shape."""
    return torch.compile(function, dynamic=False)
