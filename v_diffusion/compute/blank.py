"""Models without numbers, to be filled from a file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Unfilled(TorchFunctionMode):
    """Passes over `torch.nn.init`: its numbers would be drawn for nothing.

    On "meta" they even import PyTorch's compiler or what belongs to it: a second of every start.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Where a model is built that gets its tensors afterwards: on "meta", with none of its own."""
    with torch.device("meta"), Unfilled():
        yield
