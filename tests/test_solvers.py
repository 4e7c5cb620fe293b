"""The samplers of few steps, on models whose v is known in closed form."""

import math
from functools import cache

import pytest
import torch
from exact_models import (
    MEANS,
    NEAR,
    POSTERIOR_MEAN,
    POSTERIOR_VAR,
    STDS,
    WEIGHTS,
    gaussian,
    mixture,
    run,
    spliced,
    start,
    towards_y,
    uniform,
)
from torch import Tensor

from diffusion import dpm_solver, guidance, methods, sampling, solvers, utils

DPMPP = ["dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde"]


@cache
def ode(shape: tuple[int, ...], begin: float, end: float, n: int = 400) -> Tensor:
    """The flow dx / dt = (pi / 2) v from `start` by the classical Runge-Kutta method; within 1e-10
    at n 400.
    """
    x = start(*shape)
    ones, h = x.new_ones(x.shape[0]), (end - begin) / n

    def slope(x: Tensor, t: float) -> Tensor:
        return math.pi / 2 * mixture(x, ones * t)

    for i in range(n):
        t = begin + i * h
        k_1 = slope(x, t)
        k_2 = slope(x + h / 2 * k_1, t + h / 2)
        k_3 = slope(x + h / 2 * k_2, t + h / 2)
        k_4 = slope(x + h * k_3, t + h)
        x = x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return x


def pred_at(x: Tensor, t: float) -> Tensor:
    alpha, sigma = utils.t_to_alpha_sigma(torch.tensor(t).double())
    return x * alpha - mixture(x, x.new_full(x.shape[:1], t)) * sigma


def even_steps(clock: str, begin: float, end: float, n: int) -> Tensor:
    """n + 1 times at even steps of t, of rho = sigma / alpha or of log rho."""
    to = {"t": lambda t: t, "rho": lambda t: (t * math.pi / 2).tan()}
    back = {"t": lambda t: t, "rho": lambda rho: rho.atan() * 2 / math.pi}
    to["log rho"] = lambda t: to["rho"](t).log()
    back["log rho"] = lambda log_rho: back["rho"](log_rho.exp())
    u = torch.linspace(0, 1, n + 1).double()
    first, last = to[clock](torch.tensor([begin, end]).double())
    return back[clock](first + (last - first) * u)


# Method, clock, first time, measured slope. Noise is left out: alpha is near 0 there, and the row
# settles into its slope only at many more steps. The pseudo methods go on to 0; lambda is infinite
# there, so the others are measured by pred at t = 0.02.
SLOPES = [
    ("prk", "t", 0.9, 2.0),
    ("pie", "t", 0.9, 2.0),
    ("plms", "t", 0.9, 2.0),
    ("plms2", "t", 0.9, 2.0),
    ("iplms", "t", 0.9, 2.0),
    # Order 2 is all that Liu et al. prove. A mean of eps weighted as if the steps were even is one
    # over rho, the variable that DDIM's step is straight in, only where they are even in rho. There
    # four eps would reach order 4, but what PLMS keeps of its first steps are their means,
    ("plms", "rho", 0.6, 2.1),
    # the first step of iPLMS is DDIM's, whose error is of order 2,
    ("iplms", "rho", 0.6, 2.0),
    # and the middle of Runge-Kutta is the middle in t.
    ("prk", "rho", 0.6, 2.0),
    ("pie", "rho", 0.6, 2.0),
    ("plms2", "rho", 0.6, 2.0),
    ("dpmpp_2m", "t", 0.9, 2.0),
    ("dpmpp_2m", "log rho", 0.9, 2.0),
    ("dpmpp_3m", "t", 0.9, 2.9),
    # Here the first step, of order 1, is as long in lambda as any, and its error, of order 2, is
    # what is left; in the row above it is short and hides.
    ("dpmpp_3m", "log rho", 0.9, 2.0),
    ("ddim", "t", 0.9, 1.0),
]


@pytest.mark.parametrize("name, clock, begin, expected", SLOPES)
def test_order(name, clock, begin, expected):
    x, end = start(1, 1, 2, 4), 0.02 if name in DPMPP else 0.0
    exact, errors = pred_at(ode(x.shape, begin, end), end), []
    for n in (160, 320):
        steps = even_steps(clock, begin, end, n)
        out = run(name, mixture, x, steps if name in DPMPP else steps[:-1])
        errors.append((out - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(expected, abs=0.15)


# Of 80 steps from noise, guided or not: about twice the errors measured.
ERRORS = {"ddpm": 0.05, "ddim": 0.05, "dpmpp_3m": 0.02, "dpmpp_2m": 0.015, "dpmpp_2m_sde": 0.015}


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("schedule", [uniform, spliced])
def test_all_agree_with_the_converged_ode(name, schedule):
    x, steps = start(2, 1, 2, 4), schedule(80)
    error = run(name, mixture, x, steps) - ode(x.shape, steps[0].item(), 0)
    assert error.abs().max() < ERRORS.get(name, 0.007)


def test_single_precision_from_noise():
    x = start(2, 1, 2, 4)
    for name in methods.METHODS:
        single = run(name, lambda x, t: mixture(x, t).float(), x.float(), uniform(50).float())
        double = run(name, mixture, x, uniform(50))
        torch.testing.assert_close(single.double(), double, rtol=0, atol=5e-5)


@pytest.mark.parametrize("schedule", [uniform, spliced])
def test_the_sde_with_eta_0_is_the_ode(schedule):
    x = start(2, 1, 2, 4)
    sde = dpm_solver.dpmpp_2m_sde_sample(mixture, x, schedule(9), 0.0, {}, noise_sampler=None)
    torch.testing.assert_close(
        sde, dpm_solver.dpmpp_2m_sample(mixture, x, schedule(9), {}), rtol=0, atol=0
    )


@pytest.mark.parametrize("schedule", [uniform, spliced])
def test_the_first_step_of_the_sde_is_ddpms(schedule):
    x = start(2, 1, 2, 4)
    outs = []
    for name in methods.STOCHASTIC:
        torch.manual_seed(1)
        outs.append(sampling.run_method(name, mixture, x, schedule(4)[:2], 1.0, {}))
    torch.testing.assert_close(*outs, **NEAR)


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("schedule", [uniform, spliced])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_last_time_of_0_changes_nothing(name, schedule, eta):
    """Of the last step there is pred, which a step to time 0 leads to."""
    x, outs = start(2, 1, 2, 4), []
    for steps in (schedule(5), torch.cat([schedule(5), torch.zeros(1)])):
        torch.manual_seed(1)
        outs.append(sampling.run_method(name, mixture, x, steps, eta, {}))
    torch.testing.assert_close(*outs, **NEAR)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_sde_draws_from_the_mixture(eta):
    x, generator = start(1, 1, 100, 200), torch.Generator().manual_seed(1)
    out = dpm_solver.dpmpp_2m_sde_sample(
        mixture,
        x,
        utils.get_log_schedule(uniform(60)),
        eta,
        {},
        noise_sampler=lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype),
    )
    mean = (WEIGHTS * MEANS).sum()
    square = (out - mean) ** 2
    var = (WEIGHTS * (STDS**2 + (MEANS - mean) ** 2)).sum()
    four_errors = 4 / math.sqrt(out.numel())
    assert (out.mean() - mean).abs() < four_errors * out.std()
    assert (square.mean() - var).abs() < four_errors * square.std()


def test_there_and_back():
    x = start(2, 1, 2, 4)
    rising = torch.linspace(0, 0.9, 401).double()
    falling = rising[1:].flip(0)
    there = solvers.reverse_sample(mixture, x, rising, {})
    torch.testing.assert_close(there, ode(x.shape, 0, 0.9), rtol=0, atol=0.04)
    for back in ("ddim", "plms"):
        torch.testing.assert_close(run(back, mixture, there, falling), x, rtol=0, atol=0.04)
    for sampler in (solvers.prk_sample, solvers.plms_sample, solvers.iplms_sample):
        there = sampler(mixture, x, rising, {}, is_reverse=True)
        torch.testing.assert_close(sampler(mixture, there, falling, {}), x, rtol=0, atol=1e-4)


def test_reverse_reaches_noise():
    x = start(2, 1, 2, 4)
    rising = torch.linspace(0, 1, 201).double()
    torch.testing.assert_close(
        solvers.plms_sample(mixture, x, rising, {}, is_reverse=True),
        ode(x.shape, 0, 1),
        rtol=0,
        atol=1e-3,
    )


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("schedule", [uniform, spliced])
def test_guidance_leads_to_the_posterior(name, schedule):
    z, steps = start(2, 1, 2, 4), schedule(80)
    alpha, sigma = utils.t_to_alpha_sigma(steps[0])
    x = alpha * POSTERIOR_MEAN + (alpha**2 * POSTERIOR_VAR + sigma**2).sqrt() * z
    expected = POSTERIOR_MEAN + math.sqrt(POSTERIOR_VAR) * z
    out = run(name, gaussian, x, steps, cond_fn=towards_y)
    torch.testing.assert_close(out, expected, rtol=0, atol=ERRORS.get(name, 0.007))
    assert not out.requires_grad


@pytest.mark.parametrize("schedule", [uniform, spliced])
def test_ddim_of_a_guided_model_is_cond_sample(schedule):
    x, steps = start(2, 1, 2, 4), schedule(10)
    expected = sampling.cond_sample(gaussian, x, steps, 0.0, {}, towards_y)
    model = guidance.make_cond_model_fn(gaussian, towards_y)
    out = solvers.reverse_sample(model, x, torch.cat([steps, steps.new_zeros(1)]), {})
    torch.testing.assert_close(out, expected, **NEAR)


@pytest.mark.parametrize("name, n", [("iplms", 1), ("dpmpp_2m", 1), ("dpmpp_2m", 2)])
def test_guided_methods_begin_as_cond_sample(name, n):
    x, steps = start(2, 1, 2, 4), spliced(5)[:n]
    expected = sampling.cond_sample(gaussian, x, steps, 0.0, {}, towards_y)
    out = run(name, gaussian, x, steps, cond_fn=towards_y)
    torch.testing.assert_close(out, expected, **NEAR)


def test_no_guidance_at_t_1():
    x = start(2, 1, 2, 4)
    model = guidance.make_cond_model_fn(gaussian, lambda x, t, pred: torch.full_like(x, math.inf))
    v = model(x, x.new_ones(2))
    torch.testing.assert_close(v, gaussian(x, x.new_ones(2)), rtol=0, atol=0)


def test_guidance_is_outside_the_samplers_autocast(monkeypatch):
    def on_cuda(device, enabled=True):
        return torch.autocast("cpu", torch.bfloat16, enabled=enabled)

    seen = []

    def model(x, t):
        seen.append(torch.is_autocast_enabled("cpu"))
        return gaussian(x, t)

    def cond_fn(x, t, pred):
        seen.append(torch.is_autocast_enabled("cpu"))
        return torch.zeros_like(x)

    monkeypatch.setattr(guidance, "autocast", on_cuda)
    x = start(2, 1, 2, 4).float()
    with on_cuda(x.device):
        guidance.make_cond_model_fn(model, cond_fn)(x, x.new_full([2], 0.5))
    assert seen == [True, False]


def test_log_schedule_is_straight_in_log_snr():
    steps = utils.get_log_schedule(torch.linspace(0, 1, 5).double(), -8, 6)
    log_snr = utils.alpha_sigma_to_log_snr(*utils.t_to_alpha_sigma(steps))
    torch.testing.assert_close(log_snr, torch.tensor([6, 2.5, -1, -4.5, -8]).double())
