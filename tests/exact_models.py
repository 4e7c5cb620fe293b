"""Models whose v is known in closed form, and runs of the methods on them."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion import sampling, utils

WEIGHTS = torch.tensor([0.5, 0.3, 0.2]).double()
MEANS = torch.tensor([-0.8, 0.3, 1.2]).double()
STDS = torch.tensor([0.3, 0.2, 0.4]).double()

# Double precision over tens of steps.
NEAR = {"rtol": 0, "atol": 1e-12}


def mixture(x: Tensor, t: Tensor) -> Tensor:
    """v where every pixel is its own draw of a mixture of three normal distributions."""
    levels = (utils.append_dims(a, x.ndim) for a in utils.t_to_alpha_sigma(t))
    alpha, sigma = (a[..., None] for a in levels)
    gap, var = x[..., None] - alpha * MEANS, alpha**2 * STDS**2 + sigma**2
    share = (WEIGHTS.log() - gap**2 / (2 * var) - var.log() / 2).softmax(-1)
    eps = sigma * gap / var
    pred = MEANS + alpha * STDS**2 * gap / var
    return (share * (alpha * eps - sigma * pred)).sum(-1)


def start(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()


def uniform(n: int) -> Tensor:
    return torch.linspace(1, 0, n + 1).double()[:-1]


def spliced(n: int) -> Tensor:
    return utils.get_spliced_ddpm_cosine_schedule(uniform(n))


def run(name: str, model: Callable[..., Tensor], x: Tensor, steps: Tensor, **options) -> Tensor:
    """The method as an ODE."""
    return sampling.run_method(name, model, x, steps, 0.0, {}, **options)


# Guidance. Pixels are N(MEAN, STD^2), and y is one seen through noise of deviation BLUR: the
# gradient of log p(y | x_t) leads from noise z to the posterior's mean plus its deviation times z.
MEAN, STD, BLUR, Y = 0.3, 0.8, 0.5, -0.6
POSTERIOR_VAR = 1 / (STD**-2 + BLUR**-2)
POSTERIOR_MEAN = POSTERIOR_VAR * (MEAN / STD**2 + Y / BLUR**2)


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    alpha, sigma = (utils.append_dims(a, x.ndim) for a in utils.t_to_alpha_sigma(t))
    gap, var = x - alpha * MEAN, alpha**2 * STD**2 + sigma**2
    return alpha * sigma * gap / var - sigma * (MEAN + alpha * STD**2 * gap / var)


def towards_y(x: Tensor, t: Tensor, pred: Tensor) -> Tensor:
    alpha, sigma = (utils.append_dims(a, x.ndim) for a in utils.t_to_alpha_sigma(t))
    var = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2) + BLUR**2
    loss = ((pred - Y) ** 2 / (2 * var)).sum()
    return -torch.autograd.grad(loss, x)[0]
