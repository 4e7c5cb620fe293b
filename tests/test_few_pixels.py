"""Convolutions with weights as they are, against PyTorch's in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from v_diffusion.compute import block, convolution, kernels
from v_diffusion.compute.convolution import Convolution

pytestmark = pytest.mark.skipif(bool(kernels.obstacle()), reason="nothing can be compiled here")


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def layer_of(c: int, k: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(c, k, kernel, padding=kernel // 2, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("c, k", [(64, 72), (272, 256), (16, 8), (1024, 136)])
@pytest.mark.parametrize("batch, height, width", [(1, 8, 8), (1, 4, 4), (3, 5, 3), (1, 1, 1)])
def test_a_convolution(batch, height, width, c, k, bias, kernel):
    torch.manual_seed(0)
    layer = layer_of(c, k, kernel, bias)
    x = picture(batch, c, height, width)
    found = convolution.convolve_few(x, layer.weight, layer.bias)
    more = None if layer.bias is None else layer.bias.double()
    exact = F.conv2d(x.double(), layer.weight.double(), more, padding=kernel // 2)
    assert (found - exact).abs().max() < 2e-6 * exact.abs().max()
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_layer_takes_it_and_keeps_nothing():
    for kernel in (1, 3):
        layer = layer_of(1024, 1024, kernel)
        x, twin = picture(1, 1024, 4, 4), block.Layer(Convolution(layer, spare=False))
        assert torch.equal(twin(x), convolution.convolve_few(x, layer.weight, layer.bias))
        assert twin.layer.packed == {}


def test_it_is_the_same_in_any_number_of_threads():
    torch.manual_seed(0)
    layer, x = layer_of(64, 192, 3), picture(1, 64, 7, 9)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(convolution.convolve_few(x, layer.weight, layer.bias))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)


def test_what_is_not_a_number_stays_where_it_is():
    layer = layer_of(64, 64, 3)
    x = picture(1, 64, 8, 8)
    x[0, 5, 0, 0] = float("nan")
    lost = convolution.convolve_few(x, layer.weight, layer.bias).isnan()
    assert lost[..., :2, :2].all() and lost.sum() == 64 * 4


def test_where_it_is_faster():
    large, few = torch.empty(1024, 1024, 1, 1), convolution.FEW_PIXELS
    assert convolution.reads_weights_once(few, large)
    assert not convolution.reads_weights_once(few + 1, large)  # each weight is used often
    assert not convolution.reads_weights_once(few, large[:512])  # these stay in the cache


@pytest.mark.parametrize("shape", [(1024, 1021, 3, 3), (1021, 1024, 3, 3)])
def test_what_can_not_go_this_way(shape):
    """Channels or filters that fill no vectors."""
    assert not convolution.reads_weights_once(1, torch.empty(shape))


def test_weights_that_are_not_in_order():
    assert not convolution.reads_weights_once(1, torch.empty(1024, 1024, 3, 3).transpose(0, 1))
