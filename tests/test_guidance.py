import numpy as np
import pytest
import torch

from CLIP.guidance import MakeCutouts, make_cond_fn, make_normalize, spherical_dist_loss
from CLIP.model import build_model
from diffusion import noise, sampling

CASES = [(32, 16, 1.0), (48, 5, 0.5), (64, 3, 2.0)]


@pytest.mark.parametrize("size, cutn, cut_pow", CASES)
def test_cutouts_are_the_originals(golden, size, cutn, cut_pow):
    torch.manual_seed(21)
    x = torch.rand(2, 3, 96, 64)
    torch.manual_seed(22)
    out = MakeCutouts(size, cutn, cut_pow)(x)
    np.testing.assert_allclose(out, golden[f"cutouts/{size}/{cutn}/{cut_pow}"], atol=1e-6)


def test_autocast_of_the_caller_stays_on_a_cpu():
    seen = []

    def model(x, t):
        seen.append(torch.is_autocast_enabled("cpu"))
        return x

    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            sampling.sample(model, torch.zeros(1, 3, 4, 4), torch.tensor([0.5]), 0.0, {})
    assert seen == [True, False]


def test_spherical_dist_loss_is_the_originals(golden):
    torch.manual_seed(23)
    a, b = torch.randn(5, 32), torch.randn(5, 32)
    np.testing.assert_allclose(spherical_dist_loss(a, b), golden["spherical"], rtol=1e-5)


def test_spherical_dist_loss_of_known_angles():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    y = torch.tensor([[5.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    expected = torch.tensor([0.0, torch.pi**2 / 8, torch.pi**2 / 2])
    torch.testing.assert_close(spherical_dist_loss(x, y), expected)


@pytest.mark.parametrize("dim", [3, 512])
@pytest.mark.parametrize("length, loss", [(1.7, 0.0), (-1.7, torch.pi**2 / 2)])
def test_the_gradient_of_equal_and_opposite_embeddings_is_finite(dim, length, loss):
    """Of many, as rounding makes the chord of opposite ones 2, a little less or more."""
    x = torch.randn(500, dim, requires_grad=True)
    found = spherical_dist_loss(x, x.detach() * length)
    torch.testing.assert_close(found, torch.full([500], loss), atol=4e-3, rtol=0)
    assert torch.autograd.grad(found.sum(), x)[0].isfinite().all()


def test_each_picture_is_cut_by_its_own_stream():
    x = torch.rand(3, 3, 64, 64)
    make_cutouts = MakeCutouts(32, 4)

    def streams(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = make_cutouts(x, streams(1, 2, 3)).view(4, 3, 3, 32, 32)
    for i, seed in enumerate([1, 2, 3]):
        torch.testing.assert_close(together[:, i], make_cutouts(x[i : i + 1], streams(seed)))


def test_cutouts_are_pooled_in_fp32_whatever_the_caller_computes_in():
    torch.manual_seed(0)
    x, found = torch.rand(2, 3, 64, 48), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(MakeCutouts(32, 4)(x, noise.streams([1, 2])))
    assert torch.equal(*found)
    assert MakeCutouts(32, 4)(x.half(), noise.streams([1, 2])).dtype == torch.float16


def test_a_picture_smaller_than_the_cutouts_is_taken_whole():
    x = torch.rand(1, 3, 20, 20)
    out = MakeCutouts(32, 2)(x)
    whole = torch.nn.functional.adaptive_avg_pool2d(x, 32)
    torch.testing.assert_close(out, whole.expand(2, -1, -1, -1))


def test_guidance_in_parts_is_guidance_at_once(clip_tiny_tensors):
    model = build_model(clip_tiny_tensors).requires_grad_(False)
    torch.manual_seed(0)
    embed = torch.randn(2, model.visual.output_dim)
    start, grads = torch.randn(2, 3, 64, 64), []
    for at_once in (16, 4):
        x = start.clone().requires_grad_()
        streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        cond_fn = make_cond_fn(model, embed, 500.0, streams, at_once=at_once)
        grads.append(cond_fn(x, torch.ones(2), x * 0.5))
    # The loss as it is defined, in one piece.
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    x = start.clone().requires_grad_()
    cutouts = MakeCutouts(model.visual.input_resolution, 16)((x * 0.5 + 1) / 2, streams)
    normalize = make_normalize(torch.device("cpu"))
    embeds = model.encode_image(normalize(cutouts)).view(16, 2, -1)
    loss = spherical_dist_loss(embeds, embed[None]).mean(0).sum() * 500
    grads.append(-torch.autograd.grad(loss, x)[0])
    assert grads[0].abs().max() > 0
    for other in grads[1:]:
        scale = grads[0].abs().max()
        torch.testing.assert_close(other / scale, grads[0] / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("streams", [1, 3])
def test_a_stream_for_each_picture(streams):
    cutouts = MakeCutouts(8, 2)
    with pytest.raises(ValueError, match=f"{streams} streams for 2 pictures"):
        cutouts(torch.zeros(2, 3, 16, 16), noise.streams(range(streams)))
