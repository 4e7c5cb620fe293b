"""The published models that take no embedding: names, shapes, times, and the original's numbers."""

import numpy as np
import pytest
import torch
from conftest import assert_gradients_agree, manifest
from standin_weights import RECIPES, state_dict
from whole_runs import LATER, Lent, model_of, order_of, share_within_one_level

from CLIP import clip
from diffusion import get_model, get_models, utils
from v_diffusion.compute import accelerate
from v_diffusion.studio.models import Models
from v_diffusion.weights import store

NUMBERS = {
    "danbooru_128": 564_880_395,
    "imagenet_128": 290_342_411,
    "wikiart_128": 243_880_459,
    "wikiart_256": 291_054_347,
    "yfcc_1": 481_439_243,
    "yfcc_2": 968_251_915,
}


def test_the_names_are_the_originals_and_then_ours():
    published = ["cc12m_1", "cc12m_1_cfg", *NUMBERS]
    assert get_models() == [*published, "emoji_64"]
    assert get_model("cc12m_1_cfg") is get_model("cc12m_1")
    assert set(store.cards()) >= set(published)


@pytest.mark.parametrize("name", NUMBERS)
def test_the_tensors_have_the_published_names_and_shapes(name):
    with torch.device("meta"):
        model = get_model(name)()
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    expected = manifest(name)
    assert shapes == expected and list(shapes) == list(expected)
    assert sum(p.numel() for p in model.parameters()) == NUMBERS[name]
    side = {"1": 512, "2": 512}.get(name[-1]) if name.startswith("yfcc") else int(name[-3:])
    assert model.shape == (3, side, side) and not hasattr(model, "clip_model")


@pytest.mark.parametrize("name", NUMBERS)
def test_the_times_are_the_originals(name, later):
    model = get_model(name)
    assert [model.min_t, model.max_t] == later[f"times/{name}"].tolist()
    if model.min_t:
        ends = utils.get_ddpm_schedule(torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(ends, torch.tensor([model.min_t, model.max_t]))


def test_at_time_0_a_model_fed_log_snr_is_asked_at_its_first_time():
    """Where the log SNR is infinite. PRK and PIE end there."""
    with torch.device("meta"):
        model = get_model("wikiart_128")()
    fed = model.time(torch.tensor([0.0, model.min_t, 0.5, model.max_t]))
    assert fed.isfinite().all() and fed[0] == fed[1]


@pytest.fixture(scope="module")
def clip_vit_b_16(clip_vit_b_16_file):
    return accelerate(clip.load(clip_vit_b_16_file, "cpu")[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_they_compute_the_originals_numbers(name, later, clip_vit_b_16, tmp_path, monkeypatch):
    with torch.device("meta"):
        model = get_model(name)()
    model.load_state_dict(state_dict(manifest(name), **RECIPES[name]), strict=True, assign=True)
    model.eval().requires_grad_(False)
    model = accelerate(model)
    for i in range(2):
        if f"unet/{name}/{i}/meta" not in later:
            continue
        b, h, w, t = later[f"unet/{name}/{i}/meta"].tolist()
        torch.manual_seed(40 + i)
        x = torch.randn(int(b), 3, int(h), int(w))
        wants_grad = f"unet/{name}/{i}/grad" in later
        v = model(x.requires_grad_(wants_grad), torch.full((int(b),), t))
        expected = later[f"unet/{name}/{i}/v"]
        error = np.abs(v.detach()[..., 3::8, 5::8].numpy() - expected).max()
        assert error <= 3e-5 * np.abs(expected).max()
        stats = [v.mean().item(), v.std().item()]
        np.testing.assert_allclose(stats, later[f"unet/{name}/{i}/stats"], atol=5e-5)
        if wants_grad:
            (grad,) = torch.autograd.grad(v.square().mean(), x)
            assert_gradients_agree(grad[..., 3::8, 5::8], later[f"unet/{name}/{i}/grad"])
    monkeypatch.chdir(tmp_path)
    studio = Lent(Models(model, clip_vit_b_16))
    for case in LATER:
        if model_of(case) == name:  # with the same weights, which take long to make
            assert share_within_one_level(order_of(case, tmp_path), studio, case) >= 0.999
