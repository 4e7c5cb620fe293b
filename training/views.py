"""Views of the training pictures: as CLIP sees them in training, and changed as a user's may be."""

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import functional as TF  # type: ignore[import-untyped]

SHARES = 8  # pictures that one random choice is made for


def random_views(images: Tensor, noise: float, rng: random.Random) -> Tensor:
    """A random square of 40 to 64 pixels for every eight images, pooled to 32, with noise."""
    views = []
    for chunk in torch.split(images, SHARES):
        side = rng.randint(40, 64)
        x, y = rng.randint(0, 64 - side), rng.randint(0, 64 - side)
        views.append(F.adaptive_avg_pool2d(chunk[..., y : y + side, x : x + side], 32))
    out = torch.cat(views)
    return out + torch.randn_like(out) * torch.rand(len(out), 1, 1, 1) * noise


def grey(images: Tensor, rng: random.Random) -> Tensor:
    out: Tensor = TF.rgb_to_grayscale(images, num_output_channels=3)
    return out


def turned(images: Tensor, rng: random.Random) -> Tensor:
    """Turned by 8 to 40 degrees, to either side."""
    angle = rng.choice((-1, 1)) * rng.uniform(8, 40)
    bilinear = TF.InterpolationMode.BILINEAR
    out: Tensor = TF.rotate(images, angle, interpolation=bilinear, fill=[1.0, 1.0, 1.0])
    return out


def shrunken(images: Tensor, rng: random.Random) -> Tensor:
    """Half to nine tenths as large, at any place on white."""
    whole = images.shape[-1]
    side = rng.randint(whole // 2, whole * 9 // 10)
    x, y = rng.randint(0, whole - side), rng.randint(0, whole - side)
    small = F.interpolate(images, (side, side), mode="area")
    return F.pad(small, (x, whole - side - x, y, whole - side - y), value=1.0)


def on_colour(images: Tensor, rng: random.Random) -> Tensor:
    """On a ground of some colour, where the white ground around the thing is."""
    colour = torch.tensor([rng.uniform(0.1, 1.0) for _ in range(3)]).view(1, 3, 1, 1)
    return torch.where(ground(images), colour, images)


def ground(images: Tensor) -> Tensor:
    """Where nearly white pixels hang together with the border's: [N, 1, H, W], boolean."""
    white = images.amin(1, keepdim=True) > 0.97
    found = F.pad(torch.zeros_like(white[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=True) & white
    while True:
        grown = (F.max_pool2d(found.float(), 3, stride=1, padding=1) > 0) & white
        if torch.equal(grown, found):
            return found
        found = grown


# How a user's picture may differ from the one it is meant as.
CHANGES: dict[str, Callable[[Tensor, random.Random], Tensor]] = {
    "grey": grey,
    "turned": turned,
    "shrunken": shrunken,
    "on a colour": on_colour,
}


def changed(images: Tensor, may: Tensor, rng: random.Random) -> Tensor:
    """Two thirds of the images that may, [N], changed in some way; by groups of eight.

    Recoloured copies may not: without its colour one is like the other.
    """
    ways = list(CHANGES.values())
    out = [
        chunk if rng.random() < 1 / 3 else rng.choice(ways)(chunk, rng)
        for chunk in torch.split(images, SHARES)
    ]
    return torch.where(may[:, None, None, None], torch.cat(out), images)
