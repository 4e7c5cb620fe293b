"""Compiling the models with torch.compile."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .models.convolution import pack


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


def compile_for_inference(model: nn.Module) -> Callable[..., Any]:
    """A model compiled for a CPU and for calls without gradients, its weights packed as constants.

    For each shape of x it is compiled anew, at the first call.

    Raises:
        CompilerError: PyTorch finds no C++ compiler.
    """
    require_compiler()
    pack(model, False)  # the compiler packs them itself
    model = model.to(memory_format=torch.channels_last)
    return torch.compile(model, dynamic=False, options={"freezing": True})


def compile_for_cuda(function: Callable[..., Any]) -> Callable[..., Any]:
    """A model or function compiled for CUDA, with or without gradients.

    Raises:
        CompilerError: PyTorch finds no C++ compiler, which it needs to start its kernels.
    """
    require_compiler()
    return torch.compile(function, dynamic=False)
