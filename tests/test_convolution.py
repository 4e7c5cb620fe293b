"""Packed convolutions and checkpointing, against the same layers without."""

import copy

import pytest
import torch
from conftest import assert_gradients_agree
from torch import Tensor

from diffusion import get_model
from diffusion.models.blocks import use_checkpointing
from v_diffusion.compute import fused, winograd
from v_diffusion.compute.convolution import Conv2d, can_pack, pack

needs_packing = pytest.mark.skipif(not can_pack(), reason="this PyTorch has no packed kernels")


def with_gradient(layer: torch.nn.Module, x: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer gives, and the gradient to x of half its square."""
    x = x.clone().requires_grad_()
    out = layer(x, *args)
    return out.detach(), torch.autograd.grad(out.square().sum() / 2, x)[0]


@needs_packing
@pytest.mark.parametrize("c_in, c_out, kernel, bias", [(31, 64, 3, True), (64, 24, 1, False)])
@pytest.mark.parametrize("batch, side", [(1, 4), (3, 4), (2, 16)])
def test_packed_is_the_same(c_in, c_out, kernel, bias, batch, side):
    torch.manual_seed(0)
    layer = Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=bias).requires_grad_(False)
    x = torch.randn(batch, c_in, side, side)
    plain = with_gradient(layer, x)
    packed = with_gradient(pack(layer), x)
    assert layer.packed
    torch.testing.assert_close(packed, plain, atol=1e-4, rtol=1e-5)


@needs_packing
def test_packed_weights_follow_the_shape_and_the_weights():
    torch.manual_seed(0)
    layer = pack(Conv2d(16, 16, 3, padding=1).requires_grad_(False))
    plain = Conv2d(16, 16, 3, padding=1).requires_grad_(False)
    for side in (8, 4, 8):
        plain.load_state_dict(layer.state_dict())
        x = torch.randn(1, 16, side, side)
        torch.testing.assert_close(layer(x), plain(x), atol=1e-4, rtol=1e-4)
        layer.weight.mul_(-2)


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("c, k", [(128, 128), (160, 128), (128, 136)])
@pytest.mark.parametrize(
    "batch, height, width", [(1, 48, 64), (3, 40, 36), (1, 2, 2048), (9, 6, 64)]
)
def test_in_fewer_multiplications(batch, height, width, c, k, bias, monkeypatch):
    """It rounds about as much as the usual way: to 1e-6 of the largest number, and the gradient."""
    monkeypatch.setattr(fused, "is_there", lambda: False)
    torch.manual_seed(0)
    layer = Conv2d(c, k, 3, padding=1, bias=bias).requires_grad_(False)
    x = torch.randn(batch, c, height, width)
    assert winograd.pays(x.shape, layer.weight, spare=False)
    exact = with_gradient(copy.deepcopy(layer).double(), x.double())
    found = with_gradient(pack(layer), x)
    assert set(layer.packed) == {"forward", "backward"}
    for truth, ours in zip(exact, found):
        assert (ours - truth).abs().max() < 1e-6 * truth.abs().max()


@pytest.mark.parametrize(
    "shape, kernel, channels",
    [
        ((1, 128, 31, 64), 3, 128),  # an odd side
        ((1, 128, 64, 64), 1, 128),
        ((1, 128, 64, 64), 3, 64),  # few channels
        ((1, 1024, 8, 8), 3, 1024),  # few pixels
    ],
)
def test_where_fewer_multiplications_do_not_pay(shape, kernel, channels):
    weight = torch.empty(channels, shape[1], kernel, kernel, device="meta")
    assert not winograd.pays(torch.Size(shape), weight, spare=False)


def test_where_fewer_multiplications_take_much_memory():
    weight, shape = torch.empty(512, 512, 3, 3, device="meta"), torch.Size((1, 512, 32, 32))
    assert winograd.pays(shape, weight, spare=False)
    assert not winograd.pays(shape, weight, spare=True)


def emoji_64() -> torch.nn.Module:
    torch.manual_seed(0)
    return get_model("emoji_64")().eval().requires_grad_(False)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("change", [pytest.param(pack, marks=needs_packing), use_checkpointing])
def test_a_model_gives_the_same_numbers(change, batch):
    """One image is normalised and modulated in one pass, several in two."""
    model, args = emoji_64(), (torch.rand(batch), torch.randn(batch, 256))
    x = torch.randn(batch, 3, 64, 64)
    before = with_gradient(model, x, *args)
    change(model)
    after = with_gradient(model, x, *args)
    torch.testing.assert_close(after[0], before[0], atol=1e-4, rtol=1e-4)
    assert_gradients_agree(after[1], before[1])


def test_one_image_is_as_in_a_batch():
    model = emoji_64()
    x, t, embed = torch.randn(2, 3, 64, 64), torch.rand(2), torch.randn(2, 256)
    together = with_gradient(model, x, t, embed)
    alone = [with_gradient(model, x[i : i + 1], t[i : i + 1], embed[i : i + 1]) for i in (0, 1)]
    pictures, gradients = (torch.cat(parts) for parts in zip(*alone))
    torch.testing.assert_close(pictures, together[0], atol=1e-4, rtol=1e-4)
    assert_gradients_agree(gradients, together[1])


def test_checkpointing_keeps_less():
    kept = []
    for change in (None, use_checkpointing):
        model = emoji_64()
        if change:
            change(model)
        sizes = []

        def pack_hook(x, sizes=sizes):
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda x: x):
            model(torch.randn(1, 3, 64, 64).requires_grad_(), torch.rand(1), torch.randn(1, 256))
        kept.append(sum(sizes))
    assert 0 < kept[1] < kept[0] / 2
