"""Time, noise levels and schedules; pictures in and out.

Time t is in [0, 1]: 0 is the picture, 1 is noise. x_t = alpha x_0 + sigma eps with alpha = cos(pi t
/ 2) and sigma = sin(pi t / 2), so that alpha^2 + sigma^2 = 1.
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

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # PIL's, by channels


def fetch(url_or_path: str | Path) -> BinaryIO:
    """Open a binary file: a local one, or what an HTTP or HTTPS address answers.

    Raises:
        OSError: it can't be opened or fetched.
    """
    text = str(url_or_path)
    if not text.lower().startswith(("http://", "https://")):
        return open(os.path.expanduser(text), "rb")
    import requests

    answer = requests.get(text, timeout=60)
    answer.raise_for_status()
    return io.BytesIO(answer.content)


def append_dims(x: Tensor, n: int) -> Tensor:
    """x with dimensions of size 1 appended until it has n.

    Raises:
        ValueError: x has more than n dimensions.
    """
    if x.ndim > n:
        raise ValueError(f"x has {x.ndim} dimensions, more than {n}")
    return x[(...,) + (None,) * (n - x.ndim)]


def from_pil_image(image: Image.Image) -> Tensor:
    """A PIL image to a tensor [C, H, W] in -1 to 1."""
    from torchvision.transforms.functional import to_tensor  # type: ignore[import-untyped]

    levels: Tensor = to_tensor(image)
    return levels * 2 - 1


def to_pil_image(x: Tensor) -> Image.Image:
    """A tensor [H, W], [C, H, W] or [1, C, H, W], clamped to -1 to 1, to a PIL image.

    A grey level is cut to a whole number, not rounded.

    Raises:
        ValueError: more than one picture, or dimensions that are no picture's.
    """
    if x.ndim == 4:
        if x.shape[0] != 1:
            raise ValueError(f"one picture at a time, not {x.shape[0]}")
        x = x[0]
    if x.ndim not in (2, 3):
        raise ValueError(f"a picture has 2 or 3 dimensions, not {x.ndim}")
    planes = x if x.ndim == 3 else x[None]
    if len(planes) not in MODES:
        raise ValueError(f"a picture has 1 to 4 channels, not {len(planes)}")
    # torchvision's function is the same, but to import it takes longer than to load a model.
    levels = ((planes.detach().float().clamp(-1, 1).cpu() + 1) / 2).mul(255).byte()
    size = planes.shape[2], planes.shape[1]
    return Image.frombytes(
        MODES[len(planes)], size, bytes(levels.permute(1, 2, 0).flatten().tolist())
    )


def alpha_sigma_to_t(alpha: Tensor, sigma: Tensor) -> Tensor:
    """The time of a pair of scaling factors (clean picture's, noise's)."""
    return torch.atan2(sigma, alpha) / math.pi * 2


def t_to_alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """The scaling factors of the clean picture and of the noise at time t in [0, 1]."""
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def log_snr_to_alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """The scaling factors at a log signal-to-noise ratio, log(alpha^2 / sigma^2)."""
    return log_snr.sigmoid().sqrt(), log_snr.neg().sigmoid().sqrt()


def alpha_sigma_to_log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """The log signal-to-noise ratio, log(alpha^2 / sigma^2)."""
    return torch.log(alpha**2 / sigma**2)


def get_ddpm_schedule(ddpm_t: Tensor) -> Tensor:
    """Times of the DDPM schedule to times of the cosine one, both in [0, 1].

    The linear beta schedule of Ho et al. 2020 (arXiv 2006.11239) in continuous time has
    log SNR = -log(expm1(1e-4 + 10 t^2)).
    """
    log_snr = -torch.special.expm1(1e-4 + 10 * ddpm_t**2).log()
    return alpha_sigma_to_t(*log_snr_to_alpha_sigma(log_snr))


def get_spliced_ddpm_cosine_schedule(t: Tensor) -> Tensor:
    """Times in [0, 1] to a schedule that is DDPM's at the noisy end, else the cosine one.

    The two meet, in value and in slope, where the stretched time is 0.48536712.
    """
    ddpm_crossover = 0.48536712
    cosine_crossover = 0.80074257
    big_t = t * (1 + cosine_crossover - ddpm_crossover)
    ddpm = get_ddpm_schedule(big_t + ddpm_crossover - cosine_crossover)
    return torch.where(big_t < cosine_crossover, big_t, ddpm)


def get_log_schedule(t: Tensor, min_log_snr: float = -10, max_log_snr: float = 10) -> Tensor:
    """Times in [0, 1] to a schedule that is straight in the log signal-to-noise ratio.

    1 is the noisy end, min_log_snr.
    """
    log_snr = max_log_snr + (min_log_snr - max_log_snr) * t
    return alpha_sigma_to_t(*log_snr_to_alpha_sigma(log_snr))


class Level(NamedTuple):
    """A time and its scaling factors, each a tensor of no dimensions."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


def get_levels(steps: Tensor) -> list[Level]:
    """The noise levels of a row of times."""
    return [Level(*level) for level in zip(steps, *t_to_alpha_sigma(steps))]


def combine(weights: Iterable[float | Tensor], history: Iterable[Tensor]) -> Tensor:
    """Return the weighted sum of tensors."""
    first, *others = (weight * past for weight, past in zip(weights, history))
    return sum(others, first)
