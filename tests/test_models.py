import threading

import numpy as np
import pytest
import torch
from conftest import assert_gradients_agree, manifest

import diffusion
from diffusion import get_model
from diffusion.models import blocks
from diffusion.models.blocks import FourierFeatures
from v_diffusion.compute import accelerate
from v_diffusion.weights import tensors


def emoji_64() -> torch.nn.Module:
    torch.manual_seed(0)
    return get_model("emoji_64")().eval().requires_grad_(False)


def test_names_and_classes():
    assert get_model("cc12m_1") is diffusion.models.CC12M1Model
    with pytest.raises(KeyError, match="no model 'nothing'; use one of cc12m_1, cc12m_1_cfg, "):
        get_model("nothing")


def test_cc12m_1_has_the_published_names_and_shapes():
    with torch.device("meta"):
        model = get_model("cc12m_1")()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = manifest("cc12m_1")
    assert shapes == expected and list(shapes) == list(expected)
    assert sum(p.numel() for p in model.parameters()) == 602_895_947
    assert (model.shape, model.clip_model) == ((3, 256, 256), "ViT-B/16")
    assert (model.min_t, model.max_t) == (0.0, 1.0)


def test_fourier_features_are_cosines_then_sines():
    features = FourierFeatures(4)
    features.weight.data = torch.tensor([[0.25], [0.5]])
    out = features(torch.tensor([[1.0]]))
    torch.testing.assert_close(out, torch.tensor([[0.0, -1.0, 1.0, 0.0]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [emoji_64, lambda: accelerate(emoji_64())])
def test_threads_do_not_disturb_each_other(make):
    model = make()
    torch.manual_seed(1)
    sides = (64, 128, 64, 96)
    calls = [(torch.randn(1, 3, n, n), torch.rand(1), torch.randn(1, 256)) for n in sides]
    alone = [model(*call) for call in calls]
    together = [None] * len(calls)

    def work(i):
        for _ in range(3):
            together[i] = model(*calls[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_forward_leaves_nothing_on_the_module():
    model = emoji_64()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    model(torch.randn(1, 3, 64, 64), torch.rand(1), torch.randn(1, 256))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("height, width", [(64, 64), (96, 32), (128, 128)])
def test_emoji_64_takes_other_sizes(height, width):
    v = emoji_64()(torch.randn(2, 3, height, width), torch.rand(2), torch.randn(2, 256))
    assert v.shape == (2, 3, height, width)


def test_the_length_of_an_embedding_does_not_matter():
    model = emoji_64()
    x, t, embed = torch.randn(1, 3, 64, 64), torch.tensor([0.5]), torch.randn(1, 256)
    torch.testing.assert_close(model(x, t, embed), model(x, t, embed * 7), atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def cc12m_1(cc12m_1_file) -> torch.nn.Module:
    with torch.device("meta"):
        model = get_model("cc12m_1")()
    tensors.load_into(model, tensors.read(cc12m_1_file), cc12m_1_file)
    return model.eval().requires_grad_(False)


def channels_last(model: torch.nn.Module) -> torch.nn.Module:
    return model.to(memory_format=torch.channels_last)


def plain(model: torch.nn.Module) -> torch.nn.Module:
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "i, change", [*((i, accelerate) for i in range(4)), (1, plain), (0, channels_last)]
)
def test_cc12m_1_computes_the_originals_numbers(golden, cc12m_1, change, i):
    b, h, w, t = golden[f"unet/{i}/meta"].tolist()
    torch.manual_seed(40 + i)
    x, c = torch.randn(int(b), 3, int(h), int(w)), torch.randn(int(b), 512)
    v = change(cc12m_1)(x.requires_grad_(), torch.full((int(b),), t), c)
    (grad,) = torch.autograd.grad(v.square().mean(), x)

    expected = golden[f"unet/{i}/v"]
    error = np.abs(v.detach()[..., 3::16, 5::16].numpy() - expected).max()
    assert error <= 3e-5 * np.abs(expected).max()
    stats = [v.mean().item(), v.std().item()]
    np.testing.assert_allclose(stats, golden[f"unet/{i}/stats"], atol=2e-5)

    assert_gradients_agree(grad[..., 3::16, 5::16], golden[f"unet/{i}/grad"])


@pytest.mark.parametrize("mean", [0, 10, 1000])
@pytest.mark.parametrize("rows", [1, 3])
def test_moments_normalise_as_pytorch_does(mean, rows):
    """What CUDA has in the place of PyTorch's kernel, and its gradient, in channels_last."""
    draw = torch.Generator().manual_seed(0)
    x = mean + torch.randn(3, 8, 16, 16, generator=draw)
    weight, bias, grad = (torch.randn(*n, generator=draw) for n in ((rows, 8), (rows, 8), x.shape))
    found = []
    for norm, kind in ((blocks.moments_norm, torch.float32), (blocks.group_norm, torch.float64)):
        y = x.to(kind, memory_format=torch.channels_last).requires_grad_()
        out = norm(y, weight.expand(3, -1).to(kind), bias.expand(3, -1).to(kind))
        found.append(
            (out.detach().double(), torch.autograd.grad(out, y, grad.to(kind))[0].double())
        )
        assert out.is_contiguous(memory_format=torch.channels_last) or kind == torch.float64
    (out, grad), (expected, expected_grad) = found
    near = 1e-6 * (1 + mean)
    torch.testing.assert_close(out, expected, rtol=0, atol=near)
    torch.testing.assert_close(grad, expected_grad, rtol=0, atol=near)
