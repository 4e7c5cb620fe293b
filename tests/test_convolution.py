"""The twin's layers, against PyTorch's in double precision."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v_diffusion.compute import kernels
from v_diffusion.compute.block import Layer
from v_diffusion.compute.convolution import Convolution
from v_diffusion.compute.matmul import Linear

pytestmark = pytest.mark.skipif(bool(kernels.obstacle()), reason="nothing can be compiled here")


def with_gradient(layer: nn.Module, x: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer gives, and the gradient to x of half its square."""
    x = x.clone().requires_grad_()
    out = layer(x, *args)
    return out.detach(), torch.autograd.grad(out.square().sum() / 2, x)[0]


@pytest.mark.parametrize("spare", [False, True])
@pytest.mark.parametrize(
    "c_in, c_out, kernel, bias",
    [(31, 64, 3, True), (64, 24, 1, False), (64, 96, 1, True), (256, 512, 3, True)],
)
@pytest.mark.parametrize("batch, side", [(1, 4), (3, 4), (2, 16), (1, 11)])
def test_a_convolution_is_pytorchs(c_in, c_out, kernel, bias, batch, side, spare):
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=bias).requires_grad_(False)
    x = torch.randn(batch, c_in, side, side)
    exact = with_gradient(copy.deepcopy(layer).double(), x.double())
    twin = Layer(Convolution(layer, spare))
    for _ in range(2):  # packed and kept
        for truth, ours in zip(exact, with_gradient(twin, x)):
            assert (ours - truth).abs().max() < 2e-5 * truth.abs().max()


@pytest.mark.parametrize("spare", [False, True])
@pytest.mark.parametrize("n, k", [(64, 96), (40, 24)])  # the latter fill no vectors
@pytest.mark.parametrize("rows", [(3,), (2, 77), (130,)])
def test_a_product_is_pytorchs(rows, n, k, spare):
    x, weight, bias = torch.randn(*rows, k), torch.randn(n, k), torch.randn(n)
    exact = with_gradient(lambda x: F.linear(x, weight.double(), bias.double()), x.double())
    twin = Layer(Linear(weight, bias, spare))
    for truth, ours in zip(exact, with_gradient(twin, x)):
        assert (ours - truth).abs().max() < 2e-6 * truth.abs().max()
    assert not (spare and twin.layer.packed)
