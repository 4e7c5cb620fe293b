"""Weights in the layout that kernels compute with, kept beside the layer that they are of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# By use, with what it fits: a shape of pictures, where that matters, and the weights as they were.
Packed = dict[str, tuple[tuple[object, ...], Tensor]]


def kept(
    packed: Packed | None,
    use: str,
    weight: Tensor,
    make: Callable[[], Tensor],
    shape: object = None,
) -> Tensor:
    """The weights packed for a use: those that are kept, if they fit, or else new ones.

    Args:
        packed: where to keep them; None: nowhere.
    """
    if packed is None:
        with torch.no_grad():
            return make()
    # What is packed follows the weights if they change.
    key = (shape, weight.data_ptr(), weight._version)
    found = packed.get(use)
    if found is None or found[0] != key:
        with torch.no_grad():
            found = key, make()
        packed[use] = found
    return found[1]


def keep_nothing(model: nn.Module) -> None:
    """Makes the linear layers of a model keep no packed copies, for less memory and more time."""
    for module in model.modules():
        for name in ("packed", "packed_rest"):
            if hasattr(module, name):
                setattr(module, name, None)
