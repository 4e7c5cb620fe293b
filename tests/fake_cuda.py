"""A GPU that isn't there: what it would be asked to do, and how it would round.

`FakeCuda` has no numbers. Tensors on `CUDA` are PyTorch's FakeTensors, which have a shape, a type,
strides and a device but no data. Tensors on the CPU are real, and so are autograd and autocast.
`Fp16` has no device: networks compute on the CPU, and what they compute is rounded.

What is private to PyTorch and is needed for that stands here and nowhere else.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Without a number PyTorch would ask the driver which device is the current one.
CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
# Their fake kernels go through C++ that looks for a driver.
DRIVEN = (
    aten.im2col.default,
    aten.col2im.default,
    aten.embedding.default,
    aten.upsample_bilinear2d.default,
    aten.upsample_bilinear2d_backward.default,
)


class Seen(NamedTuple):
    """What is kept of a tensor.

    Args:
        pinned: whether it is in memory of the host's that the device can read by itself.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    channels_last: bool
    pinned: bool = False


class Call(NamedTuple):
    """An operator that was called with tensors on the device, or to make one there.

    Args:
        place: the innermost `FakeCuda.mark` that it comes from, or "".
        backward: whether it is part of a backward pass.
        blocks: of a copy, whether the host waits for it.
    """

    name: str
    inputs: tuple[Seen, ...]
    outputs: tuple[Seen, ...]
    place: str
    backward: bool
    blocks: bool


def flat(values: Iterable[Any]) -> Iterator[Any]:
    """The arguments of an operator, with those in lists."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def like(x: Tensor, device: torch.device) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device)


class FakeCuda(TorchDispatchMode):
    """Answers for the device, and records in `calls` what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.fakes = FakeTensorMode()  # is under this one, and gets what it passes on
        self.calls: list[Call] = []
        self.places = [""]
        self.autocasts = [False]
        self.pinned: dict[int, Tensor] = {}  # by address, which nobody else gets while it is kept

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            return self.device(args[0])
        kwargs = kwargs or {}
        tensors = [value for value in flat((*args, *kwargs.values())) if isinstance(value, Tensor)]
        on_device = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        device = kwargs.get("device")
        if not on_device and (device is None or device.type != "cuda"):
            return self.on_cpu(func, args, kwargs)
        if device is not None and device.type == "meta":  # C++ puts in what `device` told it
            kwargs = {**kwargs, "device": CUDA}
        inputs = tuple(map(self.seen, tensors))
        out = self.answer(func, args, kwargs)
        made = [value for value in flat([out]) if isinstance(value, Tensor)]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            for tensor in made:
                tensor.gets_a_past = True
        outputs = tuple(map(self.seen, made))
        backward = torch._C._current_graph_task_id() != -1
        blocks = not (kwargs.get("non_blocking") or any(value is True for value in args))
        self.calls.append(Call(str(func), inputs, outputs, self.places[-1], backward, blocks))
        return out

    def answer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What an operator gives."""
        if func is aten._local_scalar_dense.default:
            return True  # some number
        args = tuple(map(self.stand_in, args))
        if func in DRIVEN:
            on_cpu = (like(x, CPU) if isinstance(x, Tensor) else x for x in args)
            return like(func(*on_cpu, **kwargs), CUDA)
        return func(*args, **kwargs)

    def device(self, x: Tensor) -> torch.device:
        """What C++ is told when it asks for the device of a fake tensor. Python isn't asked here.

        Autocast has to hear of CUDA. It asks with its own key excluded, so that it isn't called
        again. All else would look for a driver, which "meta" has none of: above all autograd. That
        may ask with the key excluded too: of what an operator made, before it has a past, and of a
        leaf when it is first used, which `require_grad` sees to.
        """
        key = torch._C.DispatchKey.AutocastCUDA
        casts = self.autocasts[-1] and torch._C._dispatch_tls_is_dispatch_key_excluded(key)
        by_autograd = hasattr(x, "gets_a_past") and not x.requires_grad
        return CUDA if casts and not by_autograd else torch.device("meta")

    def on_cpu(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator of the CPU's. Memory isn't really pinned: that takes a driver."""
        pin = kwargs.get("pin_memory", False)
        with unset_fake_temporarily():
            out = func(*args, **{k: v for k, v in kwargs.items() if k != "pin_memory"})
        if pin:
            self.pinned[out.untyped_storage().data_ptr()] = out
        return out

    def stand_in(self, value: Any) -> Any:
        """A fake tensor in place of a real one.

        A real one on "meta" is a number that C++ put where `device` told it.
        """
        if not isinstance(value, Tensor) or isinstance(value, FakeTensor):
            return value
        return like(value, CUDA if value.is_meta else value.device)

    def seen(self, x: Tensor) -> Seen:
        channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        if isinstance(x, FakeTensor):
            return Seen(tuple(x.shape), x.dtype, x.fake_device.type, channels_last)
        device = CUDA if x.is_meta else x.device
        pinned = not x.is_meta and x.untyped_storage().data_ptr() in self.pinned
        return Seen(tuple(x.shape), x.dtype, device.type, channels_last, pinned)

    def mark(self, module: nn.Module, place: str) -> None:
        """Gives a name to what a module's forward pass calls."""
        module.register_forward_pre_hook(lambda *_: self.places.append(place))
        module.register_forward_hook(lambda *_: self.places.pop() and None, always_call=True)


def convert(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply`, which can't put one fake tensor in place of another.

    New parameters are without gradients, which nobody asks for here.
    """
    for child in module.children() if recurse else ():
        convert(child, fn)
    for tensors in (module._parameters, module._buffers):
        for name, old in tensors.items():
            with torch.no_grad():
                new = None if old is None else fn(old)
            if new is not old:
                parameter = isinstance(old, nn.Parameter)
                tensors[name] = nn.Parameter(new, requires_grad=False) if parameter else new
    return module


def attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """What PyTorch takes for attention of fp16 where there is a GPU; here it would take another."""
    return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal)[0]


@contextmanager
def running(cuda: FakeCuda) -> Iterator[None]:
    """In here tensors can be on `CUDA`."""
    enter, leave = torch.autocast.__enter__, torch.autocast.__exit__
    require = torch.Tensor.requires_grad_
    edges = []

    def enter_autocast(context: torch.autocast) -> Any:
        if context.device == "cuda":
            cuda.autocasts.append(context._enabled)
        return enter(context)

    def leave_autocast(context: torch.autocast, *error: Any) -> Any:
        if context.device == "cuda":
            cuda.autocasts.pop()
        return leave(context, *error)

    def require_grad(x: Tensor, requires_grad: bool = True) -> Tensor:
        require(x, requires_grad)
        if requires_grad and isinstance(x, FakeTensor):
            edges.append(torch.autograd.graph.get_gradient_edge(x))
        return x

    changes = [
        # Autocast asks this whether there is anything to cast for.
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        # On a machine with a GPU all goes as without.
        patch("torch.cuda.is_available", lambda: False),
        patch("v_diffusion.weights.tensors.has_numbers", lambda tensor: True),  # none here has
        # FakeTensorMode would give the process, for good, a GPU that does nothing.
        patch("torch._C._ensureCUDADeviceGuardSet", lambda: None, create=True),
        patch("torch.nn.functional.scaled_dot_product_attention", attention),
        patch.object(nn.Module, "_apply", convert),
        patch.object(torch.autocast, "__enter__", enter_autocast),
        patch.object(torch.autocast, "__exit__", leave_autocast),
        patch.object(torch.Tensor, "requires_grad_", require_grad),
    ]
    with ExitStack() as stack:
        for change in (*changes, cuda.fakes, cuda):
            stack.enter_context(change)
        yield


class Fp16(TorchDispatchMode):
    """Rounds to fp16 what some modules compute, forwards and backwards.

    It rounds more than CUDA does, which under autocast adds and normalises in fp32.

    Args:
        modules: their weights have to be numbers of fp16.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.modules = modules
        self.places: list[str] = []
        self.largest = {"activation": 0.0, "gradient": 0.0}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.places:
            return out
        in_place = str(func).split(".")[1].endswith("_")
        memory = {x.untyped_storage().data_ptr() for x in flat(args) if isinstance(x, Tensor)}

        def rounded(x: Any) -> Any:
            if not isinstance(x, Tensor) or x.dtype != torch.float32 or not x.numel():
                return x
            if not in_place and x.untyped_storage().data_ptr() in memory:  # a view
                return x
            place = self.places[-1]
            self.largest[place] = max(self.largest[place], x.abs().max().item())
            return x.copy_(x.half()) if in_place else x.half().float()

        return type(out)(map(rounded, out)) if isinstance(out, (list, tuple)) else rounded(out)

    @contextmanager
    def rounding(self) -> Iterator[None]:
        grad = torch.autograd.grad

        def rounded_grad(*args: Any, **options: Any) -> Any:
            self.places.append("gradient")
            try:
                return grad(*args, **options)
            finally:
                self.places.pop()

        hooks = []
        for module in self.modules:
            before = module.register_forward_pre_hook(lambda *_: self.places.append("activation"))
            after = module.register_forward_hook(lambda *_: self.places.pop() and None)
            hooks += [before, after]
        try:
            with patch("torch.autograd.grad", rounded_grad), self:
                yield
        finally:
            for hook in hooks:
                hook.remove()
