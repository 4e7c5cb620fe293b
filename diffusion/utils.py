"""Times, noise levels and schedules, and conversion between pictures and tensors.

Time t is in [0, 1]: 0 is the picture, 1 is noise. x_t = alpha x_0 + sigma eps with alpha = cos(pi t
/ 2), the picture's scaling factor, and sigma = sin(pi t / 2), the noise's.
"""

import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from PIL import Image
from torch import Tensor

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # of PIL, by the number of channels


def fetch(url_or_path: str | Path) -> BinaryIO:
    """Open a local file, or fetch one from an HTTP or HTTPS address, for reading bytes.

    Raises:
        OSError: the file can't be opened or fetched.
    """
    text = str(url_or_path)
    if not text.lower().startswith(("http://", "https://")):
        return open(os.path.expanduser(text), "rb")
    import requests

    answer = requests.get(text, timeout=60)
    answer.raise_for_status()
    return io.BytesIO(answer.content)


def append_dims(x: Tensor, n: int) -> Tensor:
    """Append dimensions of size 1 to x until it has n.

    Raises:
        ValueError: x has more than n dimensions.
    """
    if x.ndim > n:
        raise ValueError(f"x has {x.ndim} dimensions, more than {n}")
    return x[(...,) + (None,) * (n - x.ndim)]


def from_pil_image(image: Image.Image) -> Tensor:
    """Convert a PIL image to a tensor [C, H, W] in -1 to 1.

    Args:
        image: of 8 bits a channel: mode L, LA, RGB or RGBA. Convert others (P, I, I;16, F) first:
            their numbers would be wrong, or far beyond -1 to 1.
    """
    from torchvision.transforms.functional import to_tensor  # type: ignore[import-untyped]

    levels: Tensor = to_tensor(image)
    return levels * 2 - 1


def to_pil_image(x: Tensor) -> Image.Image:
    """Convert a tensor [H, W], [C, H, W] or [1, C, H, W] in -1 to 1 to a PIL image.

    Numbers beyond -1 and 1 are clamped; grey levels are cut to whole numbers, not rounded.

    Raises:
        ValueError: x has more than one picture, or another shape.
    """
    planes = x[None] if x.ndim == 2 else x[0] if x.shape[:-3] == (1,) else x
    if planes.ndim != 3 or len(planes) not in MODES:
        raise ValueError(f"x has the shape {[*x.shape]}; pass one picture of 1 to 4 channels")
    # torchvision's function does the same, but to import it takes longer than to load a model.
    levels = ((planes.detach().float().clamp(-1, 1).cpu() + 1) / 2).mul(255).byte()
    channels, height, width = levels.shape
    data = bytes(levels.permute(1, 2, 0).flatten().tolist())
    return Image.frombytes(MODES[channels], (width, height), data)


def alpha_sigma_to_t(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the times of scaling factors, in [0, 1]."""
    return torch.atan2(sigma, alpha) / math.pi * 2


def t_to_alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scaling factors of the picture and of the noise at times in [0, 1]."""
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def log_snr_to_alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scaling factors of log signal-to-noise ratios."""
    return log_snr.sigmoid().sqrt(), log_snr.neg().sigmoid().sqrt()


def alpha_sigma_to_log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the log signal-to-noise ratios, log(alpha^2 / sigma^2)."""
    return torch.log(alpha**2 / sigma**2)


def get_ddpm_schedule(ddpm_t: Tensor) -> Tensor:
    """Convert times of the DDPM schedule to times of the cosine schedule, both in [0, 1].

    The linear beta schedule of Ho et al. 2020 (arXiv 2006.11239) in continuous time has
    log SNR = -log(expm1(1e-4 + 10 t^2)).
    """
    log_snr = -torch.special.expm1(1e-4 + 10 * ddpm_t**2).log()
    return alpha_sigma_to_t(*log_snr_to_alpha_sigma(log_snr))


def get_spliced_ddpm_cosine_schedule(t: Tensor) -> Tensor:
    """Convert times in [0, 1] to a schedule that is DDPM's near noise and otherwise the cosine one.

    The two have the same value and slope where they meet.
    """
    ddpm_crossover = 0.48536712
    cosine_crossover = 0.80074257
    big_t = t * (1 + cosine_crossover - ddpm_crossover)
    ddpm = get_ddpm_schedule(big_t + ddpm_crossover - cosine_crossover)
    return torch.where(big_t < cosine_crossover, big_t, ddpm)


def get_log_schedule(t: Tensor, min_log_snr: float = -10, max_log_snr: float = 10) -> Tensor:
    """Convert times in [0, 1] to a schedule that is linear in the log signal-to-noise ratio.

    Time 0 becomes that of max_log_snr, and 1 that of min_log_snr.
    """
    log_snr = max_log_snr + (min_log_snr - max_log_snr) * t
    return alpha_sigma_to_t(*log_snr_to_alpha_sigma(log_snr))


class Level(NamedTuple):
    """Time and its scaling factors, each a tensor without dimensions."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


def get_levels(steps: Tensor) -> list[Level]:
    """Return the noise levels of times [N]; ValueError if N is 0."""
    if not len(steps):
        raise ValueError("there are no steps; pass one time or more")
    return [Level(*level) for level in zip(steps, *t_to_alpha_sigma(steps))]


def combine(weights: Iterable[float | Tensor], history: Iterable[Tensor]) -> Tensor:
    """Return the weighted sum of tensors."""
    first, *others = (weight * past for weight, past in zip(weights, history))
    return sum(others, first)
