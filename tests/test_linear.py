"""CLIP's own ways to compute, against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from CLIP.model import QuickGELU, Transformer
from v_diffusion.compute.linear import MANY_ROWS, FrozenLinear, linear

NEAR = {"atol": 1e-4, "rtol": 1e-4}


@pytest.mark.parametrize("rows", [(3,), (2, MANY_ROWS)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_is_pytorchs(rows, with_bias):
    torch.manual_seed(0)
    x, weight = torch.randn(*rows, 24, requires_grad=True), torch.randn(40, 24)
    bias = torch.randn(40) if with_bias else None
    grad = torch.randn(*rows, 40)
    ours, theirs = linear(x, weight, bias), F.linear(x, weight, bias)
    torch.testing.assert_close(ours, theirs, **NEAR)
    (a,), (b,) = (torch.autograd.grad(out, x, grad) for out in (ours, theirs))
    torch.testing.assert_close(a, b, **NEAR)


def test_only_frozen_weights_go_without_a_gradient():
    x, weight = torch.randn(MANY_ROWS, 8, requires_grad=True), torch.randn(4, 8)
    assert isinstance(linear(x, weight).grad_fn, FrozenLinear._backward_cls)
    weight.requires_grad_()
    linear(x, weight).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(4, -1), **NEAR)


def test_quick_gelu_and_its_gradient():
    x = torch.linspace(-6, 6, 101, requires_grad=True)
    ours, expected = QuickGELU()(x), x * torch.sigmoid(1.702 * x)
    torch.testing.assert_close(ours, expected)
    (a,), (b,) = (torch.autograd.grad(out.sum(), x) for out in (ours, expected))
    torch.testing.assert_close(a, b)


def test_the_first_position_alone_is_as_among_all():
    torch.manual_seed(0)
    transformer = Transformer(128, layers=3, causal=False)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 7, 128)
    torch.testing.assert_close(transformer.first(x), transformer(x)[:, 0], **NEAR)
