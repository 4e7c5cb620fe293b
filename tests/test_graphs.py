"""CUDA graphs where there is no CUDA: when a function is captured, and what is asked of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from v_diffusion.compute import graphs


class Eager(graphs.Graphs):
    """Graphs that launch nothing: they call the function, and count how often they are made."""

    made: list[tuple[int, ...]]

    def __init__(self, fn: Any, x: Tensor, rest: tuple[Tensor, ...]) -> None:
        self.fn, self.rest = fn, list(rest)
        self.made.append(tuple(x.shape))
        self.backward = self

    def run(self, x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        self.x = x.detach().clone().requires_grad_(x.requires_grad)
        self.grad_out = torch.empty_like(x)
        with torch.set_grad_enabled(x.requires_grad):
            self.out = self.fn(self.x, *rest)
        return self.out.detach().clone()

    def replay(self) -> None:
        (self.grad,) = torch.autograd.grad(self.out, self.x, self.grad_out)


@pytest.fixture
def made(monkeypatch) -> list[tuple[int, ...]]:
    monkeypatch.setattr(Eager, "made", [], raising=False)
    monkeypatch.setattr(graphs, "Graphs", Eager)
    return Eager.made


def test_a_shape_is_captured_at_its_second_call(made):
    calls = []

    def fn(x: Tensor, t: Tensor, *, embed: Tensor) -> Tensor:
        calls.append(len(x))
        return x * t + embed

    replay = graphs.graphed(fn)
    t, embed = torch.tensor(3.0), torch.tensor(1.0)
    for n in (2, 2, 2, 1, 2, 1, 1):
        x = torch.full((n,), 2.0)
        assert replay(x, t, embed=embed).tolist() == [7.0] * n
    assert made == [(2,), (1,)]  # a new shape takes the place of the last one


def test_gradients_go_through_a_replay(made):
    replay = graphs.graphed(lambda x, t: (x * t).sin())
    t = torch.tensor(2.0)
    for value in (0.1, 0.2, 0.3):
        x = torch.tensor([value], requires_grad=True)
        loss = (replay(x, t) * 5).sum()
        (grad,) = torch.autograd.grad(loss, x)
        torch.testing.assert_close(grad, 10 * (x.detach() * 2).cos())
    assert made == [(1,)]
    with torch.no_grad():  # is another function
        assert not replay(x, t).requires_grad
        assert not replay(x, t).requires_grad
    assert made == [(1,), (1,)]
