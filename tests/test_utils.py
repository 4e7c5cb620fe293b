import math

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion import utils

N = [1, 2, 10, 50, 250, 1000]


@pytest.mark.parametrize("n", N)
def test_spliced_schedule_is_the_originals(golden, n):
    steps = utils.get_spliced_ddpm_cosine_schedule(torch.linspace(1, 0, n + 1)[:-1])
    np.testing.assert_allclose(steps, golden[f"schedule/spliced/{n}"], atol=5e-7)


@pytest.mark.parametrize("n", N)
def test_ddpm_schedule_is_the_originals(golden, n):
    steps = utils.get_ddpm_schedule(torch.linspace(1, 0, n + 1)[:-1])
    np.testing.assert_allclose(steps, golden[f"schedule/ddpm/{n}"], atol=5e-7)


def test_alpha_and_sigma_are_the_originals(golden):
    alpha, sigma = utils.t_to_alpha_sigma(torch.from_numpy(golden["t"]))
    np.testing.assert_allclose(alpha, golden["alpha"], atol=5e-7)
    np.testing.assert_allclose(sigma, golden["sigma"], atol=5e-7)


def test_times_and_levels_go_back_and_forth():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    alpha, sigma = utils.t_to_alpha_sigma(t)
    torch.testing.assert_close(utils.alpha_sigma_to_t(alpha, sigma), t)
    log_snr = utils.alpha_sigma_to_log_snr(alpha, sigma)
    torch.testing.assert_close(log_snr, 2 * (alpha / sigma).log())
    for level, back in zip((alpha, sigma), utils.log_snr_to_alpha_sigma(log_snr)):
        torch.testing.assert_close(back, level)


def test_ddpm_schedule_has_the_papers_log_snr():
    t = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    log_snr = utils.alpha_sigma_to_log_snr(*utils.t_to_alpha_sigma(utils.get_ddpm_schedule(t)))
    expected = torch.tensor([-math.log(math.expm1(1e-4 + 10 * x * x)) for x in t.tolist()])
    torch.testing.assert_close(log_snr, expected.double(), atol=1e-9, rtol=1e-6)


def test_append_dims():
    assert utils.append_dims(torch.zeros(3, 2), 4).shape == (3, 2, 1, 1)
    with pytest.raises(ValueError, match="2 dimensions, more than 1"):
        utils.append_dims(torch.zeros(3, 2), 1)


def test_grey_levels_are_cut_not_rounded():
    x = torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.0, 7.0]).expand(3, 1, 6)
    image = utils.to_pil_image(x)
    assert image.mode == "RGB"
    assert [image.getpixel((i, 0))[0] for i in range(6)] == [0, 0, 127, 254, 255, 255]


def test_pictures_survive_the_way_to_tensors_and_back():
    levels = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    x = utils.from_pil_image(Image.fromarray(levels))
    assert x.shape == (3, 16, 16) and x.min() == -1 and x.max() == 1
    again = np.asarray(utils.to_pil_image(x + 1e-6))
    np.testing.assert_array_equal(again, levels)


def test_more_than_one_picture_is_refused():
    with pytest.raises(ValueError, match="pass one picture"):
        utils.to_pil_image(torch.zeros(2, 3, 4, 4))


def test_fetch_opens_local_files(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    with utils.fetch(tmp_path / "a.bin") as file:
        assert file.read() == b"abc"
    with pytest.raises(FileNotFoundError):
        utils.fetch(str(tmp_path / "none.bin"))
