"""What all methods keep to: evaluations, callbacks, batches, and no wait for the device."""

import pytest
import torch
from exact_models import gaussian, mixture, run, spliced, start, towards_y, uniform
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion import dpm_solver, methods, noise, sampling, solvers, utils


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("schedule", [uniform, spliced])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_fewest_steps_give_numbers(name, schedule, eta):
    x = start(2, 1, 2, 4).float()
    for n in (1, 2, 3, 4):
        steps = schedule(n).float()
        out = sampling.run_method(name, lambda x, t: mixture(x, t).float(), x, steps, eta, {})
        assert out.shape == x.shape and out.dtype == x.dtype and out.isfinite().all()


def test_noise_is_asked_for_once_a_step_but_the_last():
    asked = []

    def noise_sampler(x):
        asked.append(x.shape)
        return torch.randn_like(x)

    x = start(2, 1, 2, 4)
    dpm_solver.dpmpp_2m_sde_sample(mixture, x, spliced(7), 0.5, {}, noise_sampler=noise_sampler)
    assert asked == [x.shape] * 6


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("cond_fn", [None, towards_y])
def test_ddpm_by_name_is_sample_and_cond_sample(eta, cond_fn):
    x, outs = start(2, 1, 2, 4).float(), []
    steps = uniform(6).float()
    torch.manual_seed(1)
    outs.append(sampling.run_method("ddpm", gaussian, x, steps, eta, {}, cond_fn))
    torch.manual_seed(1)
    if cond_fn is None:
        outs.append(sampling.sample(gaussian, x, steps, eta, {}))
    else:
        outs.append(sampling.cond_sample(gaussian, x, steps, eta, {}, cond_fn))
    torch.testing.assert_close(*outs, rtol=0, atol=0)


@pytest.mark.parametrize("name", methods.METHODS)
def test_evaluations(name):
    asked = []

    def model(x, t):
        asked.append(t)
        return mixture(x, t)

    for n in (1, 2, 3, 4, 7):
        asked.clear()
        sampling.run_method(name, model, start(2, 1, 2, 4), spliced(n), 1.0, {})
        assert len(asked) == methods.EVALUATIONS[name](n)


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("cond_fn", [None, towards_y])
def test_callback_sees_every_step(name, cond_fn):
    seen, x, steps = [], start(2, 1, 2, 4), spliced(5)
    before = x.clone()
    run(name, gaussian, x, steps, cond_fn=cond_fn, callback=seen.append)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(seen[0]["x"], x, rtol=0, atol=0)
    assert [info["i"] for info in seen] == [0, 1, 2, 3, 4]
    assert [info["t"].item() for info in seen] == steps.tolist()
    for info in seen:
        alpha, sigma = utils.t_to_alpha_sigma(info["t"])
        torch.testing.assert_close(info["pred"], alpha * info["x"] - sigma * info["v"])
        assert not info["pred"].requires_grad


class Operators(TorchDispatchMode):
    """The names of all operators from here on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# What waits for a device or brings something to it.
TRANSFERS = {"_local_scalar_dense", "is_nonzero", "_to_copy", "copy_", "lift_fresh", "nonzero"}


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("cond_fn", [None, towards_y])
def test_no_step_waits_for_the_device(name, cond_fn):
    operators, x = Operators(), start(2, 1, 2, 4).float()

    def model(x, t):
        # The loop begins here; what comes before it may be transferred.
        if not entered:
            entered.append(operators.__enter__())
        return gaussian(x, t)

    entered: list[Operators] = []
    sampling.run_method(name, model, x, uniform(6).float(), 1.0, {}, cond_fn)
    operators.__exit__(None, None, None)
    assert "mul" in operators.names
    assert TRANSFERS.isdisjoint(operators.names)


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("cond_fn", [None, towards_y])
def test_an_image_does_not_depend_on_its_batch(name, cond_fn):
    def pictures(*seeds: int) -> Tensor:
        streams = noise.streams(seeds)
        return sampling.run_method(
            name,
            gaussian,
            noise.randn(streams, (1, 3, 4), torch.device("cpu")),
            spliced(6).float(),
            1.0,
            {},
            cond_fn,
            noise_sampler=noise.make_noise_sampler(streams),
        )

    alone = torch.cat([pictures(seed) for seed in (7, 8, 9)])
    torch.testing.assert_close(pictures(7, 8, 9), alone, rtol=1e-4, atol=1e-5)


def test_the_model_gets_its_arguments():
    x, args = start(2, 1, 2, 4), {"bias": torch.tensor([0.1, -0.2]).double()}

    def model(x: Tensor, t: Tensor, bias: Tensor) -> Tensor:
        assert t.shape == bias.shape == (2,)
        return gaussian(x - utils.append_dims(bias, 4), t)

    def cond_fn(x: Tensor, t: Tensor, pred: Tensor, bias: Tensor) -> Tensor:
        return towards_y(x, t, pred - utils.append_dims(bias, 4))

    for name in methods.METHODS:
        out = sampling.run_method(name, model, x, spliced(3), 0.0, args, cond_fn)
        assert out.isfinite().all()


# About three times the errors measured.
ERRORS = {torch.float64: 1e-5, torch.float16: 0.03, torch.bfloat16: 0.3}


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("cond_fn", [None, towards_y])
@pytest.mark.parametrize("dtype", ERRORS)
def test_pictures_are_of_the_type_of_x(name, cond_fn, dtype):
    def model(x: Tensor, t: Tensor) -> Tensor:
        types.update([x.dtype, t.dtype])
        return gaussian(x, t)

    types: set[torch.dtype] = set()
    outs, x, steps = [], start(2, 1, 2, 4), spliced(9)
    for kind in (torch.float32, dtype):
        types.clear()
        fresh = noise.make_noise_sampler(noise.streams([1, 2]))
        args = (model, x.to(kind), steps, 1.0, {}, cond_fn)
        outs.append(sampling.run_method(name, *args, noise_sampler=fresh))
        assert types == {outs[-1].dtype} == {kind}
    torch.testing.assert_close(outs[1].float(), outs[0], rtol=0, atol=ERRORS[dtype])
    if name not in methods.STOCHASTIC:
        noisy = sampling.run_reverse(name, model, x.to(dtype), steps.flip(0), {})
        assert types == {noisy.dtype} == {dtype}


def test_a_model_of_another_type_is_taken_to_that_of_x():
    x = start(2, 1, 2, 4)
    for name in methods.METHODS:
        model = lambda x, t: gaussian(x, t).half()  # noqa: E731
        assert run(name, model, x, spliced(3)).dtype == torch.float64


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde"])
def test_no_steps_are_an_error(name):
    with pytest.raises(ValueError, match="there are no steps; pass one time or more"):
        run(name, mixture, start(2, 1, 2, 4), uniform(0))


def test_an_unknown_name_is_told_the_known_ones():
    x = start(2, 1, 2, 4)
    with pytest.raises(KeyError, match="no method 'euler'; use one of ddpm, ddim, prk, "):
        run("euler", mixture, x, spliced(3))
    for name in ("euler", *methods.STOCHASTIC):
        expected = f"'{name}' can't be run in reverse; use ddim or one of prk, plms, "
        with pytest.raises(KeyError, match=expected):
            sampling.run_reverse(name, mixture, x, spliced(3).flip(0), {})


def test_sampling_offers_them_all():
    assert sampling.plms_sample is solvers.plms_sample
    assert sampling.METHODS is methods.METHODS
