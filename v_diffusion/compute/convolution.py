"""Convolutions whose weights don't change, each computed in the fastest way there is."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import pointwise, winograd
from .kernels import address, dots, round_up
from .kernels.vectors import LANES
from .matmul import Linear, packed_once
from .pointwise import Rectifier

# Weights of pictures with few pixels are what takes time, and in the end most of a large network's
# memory. Read where they lie, in a mapped file, they need neither packing nor a second place. With
# more pixels each weight is used so often that to pack it pays.
FEW_PIXELS = 64
MIN_WEIGHTS = 2**20  # fewer stay in the cache, and are packed in no time
MOST_FILTERS = 64  # of a part
# Weights transformed for gradients are a second copy. They are kept where they are no larger than
# so many pictures; where memory is short that is fewer, and the first copy has a limit, too.
ROOM, LITTLE_ROOM, FIRST_ROOM = 36, 3, 20


def in_order(x: Tensor) -> Tensor:
    """Return pictures [B, C, H, W] in channels_last, others as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def reads_weights_once(pixels: int, weight: Tensor) -> bool:
    """Return whether to go this way with weights [K, C, 1, 1] or [K, C, 3, 3]."""
    whole = weight.shape[1] % LANES == 0 and weight.shape[0] % dots.FILTERS == 0
    few = pixels <= FEW_PIXELS and weight.numel() >= MIN_WEIGHTS
    return few and whole and weight.is_contiguous()


def around(x: Tensor) -> Tensor:
    """Return the 3x3 pixels around each of pictures, as rows: [B H W, 9 C]."""
    b, c, h, w = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    rows = x.new_empty(b, h, w, c, 9)
    for i in range(9):
        rows[..., i] = padded[:, i // 3 : i // 3 + h, i % 3 : i % 3 + w]
    return rows.view(b * h * w, 9 * c)


def convolve_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve pictures [B, C, H, W] in channels_last, whose sides stay as they are."""
    b, _, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).flatten(0, 2) if weight.shape[2:] == (1, 1) else around(x)
    weight = weight.flatten(1)  # where they lie: `reads_weights_once` knows that they are in order
    (count, inner), columns = rows.shape, len(weight)
    out = x.new_empty(count, columns)
    out = out.zero_() if bias is None else out.copy_(bias)
    threads = torch.get_num_threads()
    dump = x.new_empty(threads * LANES)
    chunk = min(MOST_FILTERS, round_up(-(-columns // threads), dots.FILTERS))
    factors = {"x": address(rows, count, inner), "weight": address(weight, columns, inner)}
    results = {"output": address(out, count, columns), "dump": address(dump, threads * LANES)}
    sizes = {"rows": count, "inner": inner, "columns": columns, "chunk": chunk}
    dots.dots(-(-columns // chunk), **factors, **results, **sizes)
    return out.view(b, h, w, -1).permute(0, 3, 1, 2)


class Convolution:
    """A layer of stride 1 whose sides stay as they are; `spare`: fewer copies of its weights."""

    def __init__(self, layer: nn.Conv2d, spare: bool) -> None:
        self.weight = layer.weight.detach()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.spare = spare
        self.packed: dict[str, Tensor] = {}
        self.padding = layer.kernel_size[0] // 2
        self.linear = None if self.padding else Linear(self.weight[..., 0, 0], self.bias, spare)

    def forward(self, x: Tensor) -> Tensor:
        return self.measured(x, None, False)[0]

    def measured(
        self, x: Tensor, before: Rectifier | None, measured: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return what comes out of x, rectified first if `before` is given, and its moments."""
        if winograd.is_faster(x.shape, self.weight.shape, FIRST_ROOM if self.spare else math.inf):
            packed = packed_once(self.packed, "tiles", lambda: winograd.pack(self.weight))
            values = None if before is None else before.values
            filters = len(self.weight)
            return winograd.convolve(x, packed, filters, self.bias, values, measured=measured)
        out = self.forward_alone(x if before is None else pointwise.rectify(x, before))
        return out, pointwise.measure(out) if measured else None

    def forward_alone(self, x: Tensor) -> Tensor:
        if reads_weights_once(x.numel() // x.shape[1], self.weight):
            return convolve_few(x, self.weight, self.bias)
        if self.linear is not None:
            return self.linear.forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return in_order(F.conv2d(x, self.weight, self.bias, padding=self.padding))

    def backward(
        self, grad: Tensor, before: Rectifier | None = None, added: Tensor | None = None
    ) -> Tensor:
        """Return the gradient to x, given that to what came out; `before` is what the latter goes
        back through first, and `added` another gradient to add.
        """
        turned = self.weight.transpose(0, 1)
        if winograd.is_faster(grad.shape, turned.shape, LITTLE_ROOM if self.spare else ROOM):
            packed = packed_once(self.packed, "turned", lambda: winograd.pack(turned.flip(2, 3)))
            values = None if before is None else before.values
            return winograd.convolve(grad, packed, len(turned), None, values, added)[0]
        grad_x = self.backward_alone(grad if before is None else pointwise.go_back(grad, before))
        return grad_x if added is None else grad_x.add_(added)

    def backward_alone(self, grad: Tensor) -> Tensor:
        if self.linear is not None:
            return self.linear.backward(grad.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # Weights as they are and a picture in the same order spare one pass over the weights.
        small = grad.shape[2] * grad.shape[3] <= FEW_PIXELS
        order = torch.contiguous_format if small else torch.channels_last
        grad = grad.contiguous(memory_format=order)
        return in_order(F.conv_transpose2d(grad, self.weight, padding=self.padding))
