"""Squares pooled all at once, against PyTorch's adaptive pooling of each."""

import pytest
import torch
import torch.nn.functional as F

from CLIP.guidance import MakeCutouts
from diffusion import noise
from v_diffusion.compute import compiled, pooling

pytestmark = pytest.mark.skipif(not compiled.is_there(), reason="nothing can be compiled here")


@pytest.mark.parametrize("channels, size", [(3, 16), (1, 7), (3, 40)])
def test_squares_of_any_size_and_place(channels, size):
    torch.manual_seed(0)
    x = torch.randn(3, channels, 30, 41, dtype=torch.float32, requires_grad=True)
    squares = [(0, 0, 0, 30), (2, 4, 11, 16), (1, 29, 40, 1), (2, 3, 0, 23), (2, 4, 12, 16)]
    found = pooling.pool(x, squares, size)
    truth = torch.stack(
        [
            F.adaptive_avg_pool2d(x[image, :, top : top + side, left : left + side].double(), size)
            for image, top, left, side in squares
        ]
    )
    assert (found - truth).abs().max() < 1e-6
    grad = torch.randn(found.shape)
    ours, exact = (torch.autograd.grad(out, x, grad.to(out.dtype))[0] for out in (found, truth))
    assert (ours - exact).abs().max() < 1e-6 * exact.abs().max()


@pytest.mark.parametrize("own", [True, False])
def test_cutouts_are_those_of_pytorch(own, monkeypatch):
    """Where they lie is drawn from the same streams, in the same order."""
    x = torch.randn(3, 3, 40, 70, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = []
    for compiled_ones in (True, False):
        monkeypatch.setattr(pooling, "fits", lambda _, fits=compiled_ones: fits)
        torch.manual_seed(1)
        cutouts = MakeCutouts(24, 5)(x, noise.streams(range(3)) if own else None)
        weights = torch.linspace(-1, 1, cutouts.numel()).view(cutouts.shape)
        (grad,) = torch.autograd.grad((cutouts * weights).sum(), x)
        found.append((cutouts.detach(), grad))
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-6)


def test_it_is_the_same_in_any_number_of_threads():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    squares = [(i % 2, i, 2 * i, 32 - 2 * i) for i in range(12)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = pooling.pool(x, squares, 12)
            found.append((out, torch.autograd.grad(out.square().sum(), x)[0]))
    finally:
        torch.set_num_threads(before)
    for out, grad in found:
        assert torch.equal(out, found[0][0]) and torch.equal(grad, found[0][1])
