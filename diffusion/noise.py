"""Random streams, one for each image, so that an image doesn't depend on its batch."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def streams(seeds: Iterable[int]) -> list[torch.Generator]:
    """Make one CPU stream for each seed, 0 to 2^64 - 1."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def randn(
    generators: list[torch.Generator], shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Draw standard normal numbers [len(generators), *shape], each row from its own CPU stream.

    They are drawn on the CPU, and so the same on every device. The copy to CUDA is from pinned
    memory and isn't waited for.
    """
    pinned = device.type == "cuda"
    rows = torch.empty(len(generators), *shape, pin_memory=pinned)
    for row, generator in zip(rows, generators):
        torch.randn(shape, generator=generator, out=row)
    return rows.to(device, non_blocking=pinned)


def make_noise_sampler(generators: list[torch.Generator]) -> Callable[[Tensor], Tensor]:
    """Make a noise sampler for `diffusion.sampling` that draws row b of x's noise from stream b."""
    return lambda x: randn(generators, tuple(x.shape[1:]), x.device).to(x.dtype)
