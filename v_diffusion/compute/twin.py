"""Frozen twins of the models, which draw at the processor's speed.

A twin is made of the same modules, but for those that compute in another way: convolutions, the
blocks around them, and the blocks of CLIP's image tower. A module that somebody has changed (hooks,
a layer of their own, a parametrisation) is left as it is, and so computes what it should.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from CLIP import model as clip
from diffusion.models import blocks

from . import bf16, kernels

Model = TypeVar("Model", bound=nn.Module)
Replace = Callable[[nn.Module], nn.Module | None]
BLOCKS = (blocks.ConvBlock, blocks.PlainConvBlock, blocks.SelfAttention)
REMEDY = "use the plain module"
FILTERS = 16  # layers with another number of filters than a multiple are the last ones


class Checkpointed(nn.Module):
    """A block that keeps its input alone for gradients: Chen et al. 2016, arXiv 1604.06174."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.block(x, cond)
        from torch.utils.checkpoint import checkpoint  # in some releases it imports sympy

        return checkpoint(self.block, x, cond, use_reentrant=False, preserve_rng_state=False)


def frozen_copy(module: nn.Module, replace: Replace = lambda _: None) -> Any:
    """Copy a module, with tensors that are shared and want no gradients; `replace` gives the module
    to stand in another's place, None for a copy.
    """
    if (found := replace(module)) is not None:
        return found
    twin = module.__new__(type(module))
    # Hooks, too: one that is added to the twin later is not the original's.
    twin.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in vars(module).items()}
    for name, p in module._parameters.items():
        twin._parameters[name] = None if p is None else nn.Parameter(p.detach(), False)
    for name, child in module._modules.items():
        twin._modules[name] = None if child is None else frozen_copy(child, replace)
    return twin


def with_checkpoints(replace: Replace) -> Replace:
    """Make a `replace` that also has blocks keep their input alone."""

    def with_them(module: nn.Module) -> nn.Module | None:
        if isinstance(module, BLOCKS):
            return Checkpointed(frozen_copy(module, replace))
        return replace(module)

    return with_them


def checkpointed(model: Model) -> Model:
    """Return a frozen copy of a diffusion model that guides in less memory and more time."""
    return frozen_copy(model, with_checkpoints(lambda _: None))


def parts(module: nn.Module) -> dict[str, type]:
    """Return the types of a module and of all in it by name."""
    return {name: type(one) for name, one in module.named_modules()}


@cache
def as_made() -> list[dict[str, type]]:
    """Return the parts of every module that may be replaced, as `diffusion` and `CLIP` make it."""
    with clip.on_meta():
        made = [nn.Conv2d(1, 1, 1), blocks.Modulation(1, 1)]
        made += [clip.Block(clip.HEAD_WIDTH, causal=False)]
        for c_in in (1, 2):  # without and with a convolution beside
            made += [blocks.ConvBlock(c_in, 1, 1, 1, is_last) for is_last in (False, True)]
            made += [blocks.PlainConvBlock(c_in, 1, 1, blocks.Style())]
    return [parts(module) for module in made]


def is_untouched(module: nn.Module) -> bool:
    """Return whether a module and all in it are as `diffusion` and `CLIP` make them."""
    return parts(module) in as_made() and not any(
        "forward" in vars(one)
        or any(hooks for name, hooks in vars(one).items() if name.endswith("_hooks"))
        for one in module.modules()
    )


def is_ours(layer: nn.Module) -> bool:
    """Return whether a convolution is one that keeps the sides of its picture."""
    if type(layer) is not nn.Conv2d or not is_untouched(layer):
        return False
    side = layer.kernel_size[0]
    found = layer.kernel_size, layer.padding, layer.stride, layer.dilation, layer.groups
    usual = (side, side), (side // 2,) * 2, (1, 1), (1, 1), 1
    return side in (1, 3) and found == usual and layer.padding_mode == "zeros"


def check(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse what the twin of a diffusion model or an image tower can't do right, first of all."""
    x: Tensor = args[0] if args else kwargs["input"]
    side = getattr(module, "input_resolution", None)
    channels = 3 if side else module.shape[0]
    sides = f"H and W {side}" if side else f"H and W multiples of {module.size_multiple}"
    tracing = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    modes = torch._C._len_torch_dispatch_stack()
    functorch = getattr(torch._C, "_are_functorch_transforms_active", bool)()
    if tracing or modes or functorch:
        raise RuntimeError(f"a twin can't be traced, transformed or watched; {REMEDY}")
    if torch.is_autocast_enabled("cpu"):
        raise RuntimeError(f"a twin computes in fp32 alone; leave autocast, or {REMEDY}")
    if type(x) not in (Tensor, nn.Parameter) or x.device.type != "cpu" or x.dtype != torch.float32:
        raise TypeError(f"a twin takes fp32 on a CPU, not {x.dtype} on {x.device}; {REMEDY}")
    sound = all(
        one == side if side else one and not one % module.size_multiple for one in x.shape[2:]
    )
    if x.ndim != 4 or x.shape[1] != channels or not len(x) or not sound:
        wanted = f"[B, {channels}, H, W], B at least 1 and {sides}"
        raise ValueError(f"a twin takes {wanted}, not {list(x.shape)}; change the input's shape")


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError(f"a twin can't be saved, filled or converted; {REMEDY}")


def guard(twin: nn.Module, image_module: nn.Module) -> None:
    """Have a twin refuse what it can't do right. The latter is the one that is given pictures."""
    image_module.register_forward_pre_hook(check, with_kwargs=True)
    twin.register_state_dict_pre_hook(refuse)  # type: ignore[no-untyped-call]
    twin.register_load_state_dict_pre_hook(refuse)  # type: ignore[no-untyped-call]
    twin._apply = refuse  # type: ignore[method-assign]


def accelerate(model: Model, checkpointing: bool = False) -> Model:
    """Make the frozen twin of a diffusion model or a CLIP, to draw with on a CPU in fp32.

    The twin shares the weights of the model, where they are mapped from a file too, and keeps
    packed copies of some. They must not change any more: make another twin if they do. It gives
    gradients to the picture alone, once; what it can't do right it refuses. Copying, saving and
    training are the model's business. Where numba compiles nothing (it isn't there, or the system
    isn't Linux), a twin is the model itself in channels_last.

    Args:
        model: fp32 on a CPU, an instance of what `diffusion.get_model` gives, or of `clip.load`.
        checkpointing: guide in less memory and more time. A diffusion model's blocks are computed
            again in the backward pass, and fewer packed copies are kept.

    Raises:
        ValueError: the weights are elsewhere or in another type.
    """
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in model.parameters()):
        raise ValueError(f"a twin's weights are fp32 on a CPU; call .float().cpu(), or {REMEDY}")
    can_compile = kernels.obstacle() is None
    tower = getattr(model, "visual", None)
    first = None if tower is None else tower.conv1
    last = None if tower is None else tower.transformer.resblocks[-1]

    def faster(module: nn.Module) -> nn.Module | None:
        if not can_compile:
            return None
        from . import block as twins
        from .convolution import Convolution

        if isinstance(module, (blocks.ConvBlock, blocks.PlainConvBlock)):
            layers = [one for one in module.modules() if isinstance(one, nn.Conv2d)]
            ours = is_untouched(module) and all(map(is_ours, layers)) and twins.supports(module)
            return twins.ConvBlock(module, checkpointing) if ours else None
        if type(module) is clip.Block and is_untouched(module) and not module.attn.causal:
            norms = [frozen_copy(one) for one in (module.ln_1, module.ln_2)]
            return twins.TransformerBlock(module, norms, module is last, checkpointing)
        if module is first and is_untouched(module):
            return twins.Patches(module, checkpointing)
        if is_ours(module):
            return twins.Layer(Convolution(module, checkpointing))  # type: ignore[arg-type]
        return None

    replace = with_checkpoints(faster) if checkpointing else faster
    twin: Any = frozen_copy(model, replace)
    if can_compile:
        guard(twin, twin if tower is None else twin.visual)
    return twin if can_compile else twin.to(memory_format=torch.channels_last)


def in_bf16(module: nn.Module) -> nn.Module | None:
    """Return the module in bf16 to stand in the place of one of fp32, None for a copy."""
    if isinstance(module, blocks.Modulation) and is_untouched(module):
        return bf16.Modulation(module)
    if isinstance(module, nn.Conv2d):
        if is_ours(module) and not module.out_channels % FILTERS:
            return bf16.Convolution(module)
        layer: nn.Module = frozen_copy(module)  # which stays fp32
        layer.register_forward_pre_hook(lambda _, args: (args[0].float(),))
        return layer
    return None


def accelerate_in_bf16(model: Model, checkpointing: bool = False) -> Model:
    """Make the frozen twin of a diffusion model, on a CPU in any type, to draw with in bf16.

    What the time and the embedding go through stays fp32, as do the statistics of normalisation,
    what scales and shifts, and the last layers, so that v isn't rounded. The twin takes and returns
    fp32. Without AMX it is that of `accelerate`: Winograd's tiles in fp32 need a quarter of the
    products, and bf16 is only twice as fast there.
    """
    if not bf16.has("amx_tile"):
        return accelerate(model.float(), checkpointing)
    twin: Any = frozen_copy(model, with_checkpoints(in_bf16) if checkpointing else in_bf16).float()
    guard(twin, twin)
    return twin
