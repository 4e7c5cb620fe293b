"""CUDA graphs: the kernels of a whole network launched at once.

To launch them one after the other takes the host longer than it takes a GPU to compute a picture.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Graphs:
    """The graphs of a function for one shape of its arguments, and the memory that they use."""

    def __init__(self, fn: Callable[..., Tensor], x: Tensor, rest: tuple[Tensor, ...]) -> None:
        """Capture `fn(x, *rest)` and, if x wants one, its gradient to x."""
        self.x = x.detach().clone().requires_grad_(x.requires_grad)
        self.rest = [one.detach().clone() for one in rest]
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile: that of the previews does.
        options: dict[str, Any] = {"capture_error_mode": "thread_local"}
        with torch.set_grad_enabled(x.requires_grad):
            with torch.cuda.graph(self.forward, **options):
                out = fn(self.x, *self.rest)
            if x.requires_grad:
                self.grad_out = torch.empty_like(out)
                with torch.cuda.graph(self.backward, pool=self.forward.pool(), **options):
                    (self.grad,) = torch.autograd.grad(out, self.x, self.grad_out)
        self.out = out.detach()

    @torch.no_grad()
    def run(self, x: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        for ours, theirs in zip((self.x, *self.rest), (x, *rest)):
            ours.copy_(theirs)
        self.forward.replay()
        # The next replay writes where this one did.
        return self.out.clone()


class Replay(torch.autograd.Function):
    """A run of graphs, with its gradient to x."""

    @staticmethod
    def forward(ctx: Any, graphs: Graphs, x: Tensor, *rest: Tensor) -> Tensor:
        ctx.graphs = graphs
        return graphs.run(x, rest)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        ctx.graphs.grad_out.copy_(grad_out)
        ctx.graphs.backward.replay()
        return None, ctx.graphs.grad.clone(), *[None] * len(ctx.graphs.rest)


def graphed(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a function that replays the kernels of `fn`, captured at its second call of a shape.

    `fn` takes tensors on CUDA, never waits for the device, and its kernels depend on shapes alone.
    The first tensor may want a gradient, which is then asked for before the next call.
    """
    # Of one shape at a time: graphs keep all that is computed in memory of their own.
    known: dict[Any, Graphs | None] = {}

    def replay(x: Tensor, *args: Tensor, **kwargs: Tensor) -> Tensor:
        rest, names = (*args, *kwargs.values()), tuple(kwargs)
        wants_grad = x.requires_grad and torch.is_grad_enabled()
        key = names, wants_grad, *((one.shape, one.dtype) for one in (x, *rest))
        if key not in known:
            known.clear()
            known[key] = None
            # It also does what can't be captured: it loads kernels, or compiles them.
            return fn(x, *args, **kwargs)
        if (graphs := known[key]) is None:

            def positional(x: Tensor, *rest: Tensor) -> Tensor:
                return fn(x, *rest[: len(args)], **dict(zip(names, rest[len(args) :])))

            x_here = x if wants_grad else x.detach()
            graphs = known[key] = Graphs(positional, x_here, rest)
        return Replay.apply(graphs, x, *rest) if wants_grad else graphs.run(x, rest)

    return replay
