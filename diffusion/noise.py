"""Random streams: one for each image, so that it doesn't depend on the batch it is made in."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def streams(seeds: Iterable[int]) -> list[torch.Generator]:
    """One CPU stream for each seed, 0 to 2^64 - 1."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def randn(
    generators: list[torch.Generator], shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Standard normal numbers [len(generators), *shape], each row from its own CPU stream.

    The numbers are the same on every device: they are drawn on the CPU and copied, on CUDA from
    pinned memory and without waiting for it.
    """
    pinned = device.type == "cuda"
    rows = torch.empty(len(generators), *shape, pin_memory=pinned)
    for row, generator in zip(rows, generators):
        torch.randn(shape, generator=generator, out=row)
    return rows.to(device, non_blocking=pinned)


def make_noise_sampler(generators: list[torch.Generator]) -> Callable[[Tensor], Tensor]:
    """A noise sampler for `diffusion.sampling`: x [B, ...] to fresh noise, row b from stream b."""
    return lambda x: randn(generators, tuple(x.shape[1:]), x.device)
