import numpy as np
import pytest
import torch
from closed_form import cond_fn, model, schedule, start
from torch import Tensor

from diffusion import noise, sampling, utils

CASES = [(1, 10), (2, 25)]
ETAS = [0.0, 0.5, 1.0]


@pytest.mark.parametrize("batch, n", CASES)
@pytest.mark.parametrize("eta", ETAS)
def test_sample_is_the_originals(golden, batch, n, eta):
    x, extra_args = start(batch)
    torch.manual_seed(12)
    out = sampling.sample(model, x, schedule(n), eta, extra_args)
    np.testing.assert_allclose(out, golden[f"sample/{batch}/{n}/{eta}"], atol=2e-5)


@pytest.mark.parametrize("batch, n", CASES)
@pytest.mark.parametrize("eta", ETAS)
def test_cond_sample_is_the_originals(golden, batch, n, eta):
    x, extra_args = start(batch)
    torch.manual_seed(12)
    out = sampling.cond_sample(model, x, schedule(n), eta, extra_args, cond_fn)
    np.testing.assert_allclose(out, golden[f"cond_sample/{batch}/{n}/{eta}"], atol=2e-5)


def test_no_guidance_at_t_1():
    times = []

    def spy(x, t, pred, clip_embed):
        times.append(t[0].item())
        return torch.zeros_like(x)

    x, extra_args = start(1)
    steps = torch.linspace(1, 0, 5)[:-1]
    sampling.cond_sample(model, x, steps, 1.0, extra_args, spy)
    assert times == [0.75, 0.5, 0.25]


@pytest.mark.parametrize("guided", [False, True])
def test_callback_sees_every_step(guided):
    seen = []
    x, extra_args = start(2)
    steps = schedule(5)
    if guided:
        sampling.cond_sample(model, x, steps, 0.5, extra_args, cond_fn, seen.append)
    else:
        sampling.sample(model, x, steps, 0.5, extra_args, seen.append)
    assert [info["i"] for info in seen] == [0, 1, 2, 3, 4]
    assert [info["t"].item() for info in seen] == steps.tolist()
    torch.testing.assert_close(seen[0]["x"], x)
    for info in seen:
        alpha, sigma = utils.t_to_alpha_sigma(info["t"])
        torch.testing.assert_close(info["pred"], alpha * info["x"] - sigma * info["v"])
        assert not info["pred"].requires_grad


@pytest.mark.parametrize("eta, draws", [(0.0, 0), (0.5, 6), (1.0, 6)])
def test_noise_is_asked_for_once_a_step_but_the_last(eta, draws):
    asked = []

    def noise_sampler(x):
        asked.append(x.shape)
        return torch.randn_like(x)

    x, extra_args = start(1)
    sampling.sample(model, x, schedule(7), eta, extra_args, noise_sampler=noise_sampler)
    assert asked == [x.shape] * draws


def test_the_input_is_left_as_it_was():
    x, extra_args = start(1)
    before = x.clone()
    sampling.cond_sample(model, x, schedule(3), 1.0, extra_args, cond_fn)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    assert not x.requires_grad


def test_streams_give_torchs_own_numbers():
    torch.manual_seed(5)
    x, fresh = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    streams = noise.streams([5])
    noise_sampler = noise.make_noise_sampler(streams)
    torch.testing.assert_close(noise.randn(streams, (3, 64, 64), x.device), x, rtol=0, atol=0)
    torch.testing.assert_close(noise_sampler(x), fresh, rtol=0, atol=0)


def test_an_images_noise_does_not_depend_on_its_batch():
    shape, cpu = (3, 8, 8), torch.device("cpu")
    together = noise.randn(noise.streams([7, 8, 9]), shape, cpu)
    for i, seed in enumerate([7, 8, 9]):
        alone = noise.randn(noise.streams([seed]), shape, cpu)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=0)


def test_the_largest_seed_works():
    a, b = noise.streams([2**64 - 1, 2**64 - 2])
    assert a.initial_seed() == 2**64 - 1 and b.initial_seed() == 2**64 - 2


LATER = [
    (name, batch, n)
    for name in ("prk", "plms", "pie", "plms2", "iplms", "ddim")
    for batch, n in ((1, 3), (2, 7))
]


def assert_later(found: Tensor, expected: np.ndarray) -> None:
    """Where the original's own output exceeds 20, fp32 itself is off by 1e-4 relative."""
    largest = np.abs(expected).max()
    assert np.abs(found.numpy() - expected).max() <= (1e-3 if largest > 20 else 1e-4) * largest


@pytest.mark.parametrize("name, batch, n", [case for case in LATER if case[0] != "ddim"])
def test_the_samplers_of_few_steps_are_the_originals(later, name, batch, n):
    x, extra_args = start(batch)
    out = getattr(sampling, f"{name}_sample")(model, x, schedule(n), extra_args)
    assert_later(out, later[f"{name}/{batch}/{n}"])


@pytest.mark.parametrize("name, batch, n", LATER)
def test_the_way_to_noise_is_the_originals(later, name, batch, n):
    x, extra_args = start(batch)
    steps = utils.get_spliced_ddpm_cosine_schedule(torch.linspace(0, 1, n + 1))
    steps = steps[steps <= 0.9]
    if name == "ddim":
        out = sampling.reverse_sample(model, x, steps, extra_args)
    else:
        sampler = getattr(sampling, f"{name}_sample")
        out = sampler(model, x, steps, extra_args, is_reverse=True)
    assert_later(out, later[f"reverse/{name}/{batch}/{n}"])


@pytest.mark.parametrize("n", [8_467, 20_000, 1_000_000])
def test_ddpm_of_very_many_steps_stays_finite(n):
    """Pictures of one number, Gaussian with a standard deviation of 0.5, as in fp64. Of the last
    steps, where rounding takes differences of levels below 0.
    """

    def model(x, t):
        alpha, sigma = (a[:, None, None, None] for a in utils.t_to_alpha_sigma(t))
        pred = alpha * 0.25 * x / (0.25 * alpha**2 + sigma**2)
        return (alpha * x - pred) / sigma

    def run(dtype: torch.dtype) -> torch.Tensor:
        stream = torch.Generator().manual_seed(0)
        x = torch.randn(64, 1, 1, 1, generator=stream, dtype=torch.float64).to(dtype)
        steps = schedule(n)[-500:].to(dtype)
        fresh = lambda x: torch.randn(x.shape, generator=stream, dtype=torch.float64).to(x.dtype)  # noqa: E731
        return sampling.sample(model, x, steps, 1.0, {}, noise_sampler=fresh, disable=True)

    single, double = run(torch.float32), run(torch.float64)
    assert single.isfinite().all()
    torch.testing.assert_close(single.double(), double, atol=0.02, rtol=0)
