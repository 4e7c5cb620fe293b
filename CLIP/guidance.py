"""Cutouts of pictures for CLIP, and guidance by their distance from a target."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model import CLIP

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CUTOUTS = 16  # of each picture
# A picture whose shorter side is less than this many cutouts is doubled first. v-diffusion-pytorch
# does so below 256 pixels, for CLIPs of 224.
SMALL = 256 / 224


def spherical_dist_loss(x: Tensor, y: Tensor) -> Tensor:
    """Return half the squared great-circle distance, 2 arcsin(|x - y| / 2)^2 of normalised rows.

    It is [...], 0 to pi^2 / 2, of embeddings [..., D], which are broadcast against each other. The
    gradient is 0 where they are equal and, though it has no limit there, where they are opposite.
    """
    half: Tensor = (F.normalize(x, dim=-1) - F.normalize(y, dim=-1)).norm(dim=-1).div(2)
    # Rounding can take it beyond 1, and the slope of arcsin at 1 is infinite.
    return half.masked_fill(half >= 1, 1).arcsin().pow(2).mul(2)


def averages(spans: Tensor, length: int, side: int) -> Tensor:
    """Return the matrices [..., side, length] of adaptive average pooling of spans [..., 2]."""
    start, stop = spans[..., None, None, :].unbind(-1)
    i, pixel = (torch.arange(n, device=spans.device) for n in (side, length))
    i = i[:, None]
    low, high = start + i * (stop - start) // side, start - (i + 1) * (start - stop) // side
    return ((low <= pixel) & (pixel < high)) / (high - low)


class MakeCutouts(nn.Module):
    """Random square cutouts of pictures, pooled to one size.

    A cutout's side is int(u^cut_pow (max - min) + min), with u uniform in [0, 1), max the picture's
    shorter side, and min the smaller of max and cut_size. Its x offset, then its y offset, is
    uniform over the places where it fits.

    Args:
        cut_size: the height and width of the pooled cutouts, in pixels.
        cutn: the number of cutouts of each picture.
        cut_pow: above 1 for smaller cutouts, below 1 for larger ones.
    """

    def __init__(self, cut_size: int, cutn: int, cut_pow: float = 1.0) -> None:
        super().__init__()
        self.cut_size = cut_size
        self.cutn = cutn
        self.cut_pow = cut_pow

    def draw(
        self, height: int, width: int, generator: torch.Generator | None = None
    ) -> tuple[slice, slice]:
        """Draw the rows and columns of one cutout from a CPU stream (by default torch's own)."""
        longest = min(height, width)
        shortest = min(longest, self.cut_size)
        u = torch.rand([], generator=generator) ** self.cut_pow
        size = int(u * (longest - shortest) + shortest)
        x = int(torch.randint(0, width - size + 1, (), generator=generator))
        y = int(torch.randint(0, height - size + 1, (), generator=generator))
        return slice(y, y + size), slice(x, x + size)

    def forward(self, input: Tensor, generators: list[torch.Generator] | None = None) -> Tensor:
        """Cut and pool pictures [B, C, H, W] to [cutn * B, C, cut_size, cut_size].

        The first cutouts of all pictures come first.

        Args:
            generators: one CPU stream for each picture, so that its cutouts don't depend on the
                batch. By default all pictures have the same places, drawn from torch's own stream.

        Raises:
            ValueError: there are more or fewer streams than pictures.
        """
        height, width = input.shape[2:]
        streams: Sequence[torch.Generator | None] = generators or [None]
        if generators and len(generators) != len(input):
            raise ValueError(f"{len(generators)} streams for {len(input)} pictures")
        drawn = [[self.draw(height, width, one) for _ in range(self.cutn)] for one in streams]
        ends = [[[(s.start, s.stop) for s in box] for box in own] for own in drawn]
        pinned = input.device.type == "cuda"  # so that the copy isn't waited for
        spans = torch.empty(len(ends), self.cutn, 2, 2, dtype=torch.long, pin_memory=pinned)
        spans = spans.copy_(torch.tensor(ends)).to(input.device, non_blocking=pinned)
        down = averages(spans[:, :, 0], height, self.cut_size).to(input.dtype)
        across = averages(spans[:, :, 1], width, self.cut_size).to(input.dtype)
        with torch.autocast(input.device.type, enabled=False):
            return torch.einsum("bnih,bchw,bnjw->nbcij", down, input, across).flatten(0, 1)


def make_normalize(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Make a function that normalises pictures [..., 3, H, W] in 0 to 1 for CLIP."""
    # The constants are copied to the device here, so that no step of a sampler waits for them.
    mean, std = (torch.tensor(numbers, device=device)[:, None, None] for numbers in (MEAN, STD))
    return lambda images: (images - mean) / std


def make_cond_fn(
    model: CLIP,
    target: Tensor,
    scale: float | Sequence[float],
    streams: list[torch.Generator],
    make_cutouts: MakeCutouts | None = None,
    at_once: int | None = None,
) -> Callable[..., Tensor]:
    """Make the cond_fn by which CLIP guides the samplers of `diffusion.sampling`.

    The loss is `spherical_dist_loss` between the embeddings of the cutouts and the target, times
    the scale, as a mean over the cutouts and a sum over the batch.

    Args:
        target: embeddings, [B, D].
        scale: one for all pictures, or one for each.
        streams: one CPU stream for each picture, for the places of its cutouts.
        make_cutouts: by default 16 of CLIP's own size.
        at_once: the number of cutouts of each picture to embed together, by default all; fewer take
            less memory.

    Returns:
        A function of x, [B, 3, H, W], t, [B], and pred, [B, 3, H, W] in about -1 to 1, that returns
        minus the gradient of the loss to x. It ignores further keyword arguments.
    """
    cutouts_of = make_cutouts or MakeCutouts(model.visual.input_resolution, CUTOUTS)
    device = model.logit_scale.device
    normalize = make_normalize(device)
    each = scale if isinstance(scale, Sequence) else [scale] * len(streams)
    shares = torch.tensor([one / cutouts_of.cutn for one in each], device=device)  # of a cutout

    def cond_fn(x: Tensor, t: Tensor, pred: Tensor, **_: Tensor) -> Tensor:
        if min(pred.shape[2:]) < SMALL * cutouts_of.cut_size:
            pred = F.interpolate(pred, scale_factor=2, mode="bilinear", align_corners=False)
        cutouts = normalize(cutouts_of((pred + 1) / 2, streams))
        grads: list[Tensor] = []
        # CLIP's backward pass comes first, and frees its memory before that of the model begins.
        for part in torch.split(cutouts.detach(), (at_once or cutouts_of.cutn) * len(x)):
            part.requires_grad_()
            embeds = model.encode_image(part).float().view(-1, *target.shape)
            losses = spherical_dist_loss(embeds, target[None])
            grads += torch.autograd.grad((losses * shares).sum(), part)
        return -torch.autograd.grad(cutouts, x, torch.cat(grads))[0]

    return cond_fn


def sum_cond_fns(
    cond_fns: Sequence[Callable[..., Tensor]], times: int = 1
) -> Callable[..., Tensor]:
    """Make the cond_fn that is the sum of several of `make_cond_fn`, each called so many times.

    Their gradients to pred are summed one after the other, so that the graph of one at a time is in
    memory, and go through the model together.
    """

    def cond_fn(x: Tensor, t: Tensor, pred: Tensor, **_: Tensor) -> Tensor:
        leaf = pred.detach().requires_grad_()
        grads = (one(leaf, t, leaf) for one in cond_fns for _ in range(times))
        return torch.autograd.grad(pred, x, reduce(add, grads))[0]

    return cond_fn
