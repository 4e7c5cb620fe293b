"""Loading models from files of weights, and making them ready to draw."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from CLIP import clip
from CLIP.model import CLIP, half_precision, on_meta
from diffusion import get_model

from ..compute import accelerate, accelerate_in_bf16, bf16, checkpointed
from ..compute.graphs import graphed
from ..shell.console import log, printable
from ..shell.errors import UserError
from ..weights import store, tensors

TOKENS = 77, 49408  # that a text has at most, and that there are
MIN_WIDTH = 512  # of a CLIP whose products are large enough that bf16 is faster without AMX


class Models(NamedTuple):
    """A diffusion model, its CLIP, None where it isn't asked, and CLIPs that guide in its place."""

    model: Any
    clip: Any
    guides: tuple[Any, ...] = ()

    @property
    def clips(self) -> list[Any]:
        """All CLIPs, each once."""
        return list(dict.fromkeys(filter(None, (self.clip, *self.guides))))


def load_model(
    name: str,
    checkpoint: str | Path | None,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Load a diffusion model in evaluation mode.

    Args:
        checkpoint: its file, where that isn't the published or shipped one.
        dtype: of the weights, by default fp16 on CUDA and fp32 elsewhere. For bf16 on a CPU they
            stay as they are in the file: `for_drawing` knows which to convert.

    Raises:
        v_diffusion.weights.store.CheckpointError: its file can't be had or used.
    """
    device = torch.device(device)
    path = Path(checkpoint) if checkpoint else store.obtain(name)
    with on_meta():
        model: nn.Module = get_model(name)()
    tensors.load_into(model, tensors.read(path), path)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    model = model.eval().requires_grad_(False).to(device)
    if (device.type, dtype) != ("cpu", torch.bfloat16):
        model = model.to(dtype)
    # On a CPU weights stay as they are mapped.
    return model if device.type == "cpu" else model.to(memory_format=torch.channels_last)


def load_clip(path: Path, device: torch.device, dtype: torch.dtype | None = None) -> CLIP:
    """Load a CLIP in evaluation mode, without its preprocessing. Raises CheckpointError."""
    in_bf16 = (device.type, dtype) == ("cpu", torch.bfloat16)
    model = clip.load_model(path, device, None if in_bf16 else dtype).requires_grad_(False)
    if in_bf16 and (bf16.has("amx_tile") or model.visual.conv1.out_channels >= MIN_WIDTH):
        half_precision(model, torch.bfloat16)
    if (model.context_length, model.vocab_size) != TOKENS:
        text = "its vocabulary or text length doesn't fit the tokenizer"
        raise store.CheckpointError(f"{printable(path)}: {text}")
    return model


def replace(models: Models, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of them in the place of the functions that a step calls."""
    clips = ((one, "encode_image") for one in models.clips)
    for owner, name in ((models.model, "forward"), *clips):
        setattr(owner, name, make(getattr(owner, name)))


def in_own_dtype(fn: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """Make a function on CUDA compute in a type; the samplers call models in autocast of fp16."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            return fn(*args, **kwargs)

    return call


def for_drawing(
    models: Models,
    device: torch.device,
    checkpointing: bool,
    compile: bool = False,
    dtype: torch.dtype | None = None,
) -> Models:
    """Make models that only draw: on a CPU twins; on CUDA in their weights' type, in CUDA graphs.

    Args:
        checkpointing: use less memory, and more time.
        compile: compile models on CUDA. On a CPU the twins' convolutions are faster.
        dtype: the one that they were loaded in.
    """
    if compile and device.type != "cuda":
        log.warning(f"warning: --compile has no effect on {device.type}; it is for CUDA")
    if device.type == "cpu":
        make = accelerate_in_bf16 if dtype == torch.bfloat16 else accelerate
        if make == accelerate_in_bf16 and not any(map(bf16.has, ("amx_tile", "avx512_bf16"))):
            why = "this processor has neither AMX nor AVX-512 BF16"
            log.warning(f"warning: --precision bf16 is slower than fp32 here: {why}")
        fast = {x: x if x.dtype == torch.bfloat16 else accelerate(x) for x in models.clips}
        guides = tuple(fast[one] for one in models.guides)
        return Models(make(models.model, checkpointing), fast.get(models.clip), guides)
    drawing = models._replace(model=checkpointed(models.model)) if checkpointing else models
    if device.type == "cuda":
        dtype = next(drawing.model.parameters()).dtype
        if dtype == torch.float32:
            torch.backends.cudnn.allow_tf32 = False  # fp32 with 10 bits of mantissa, not 23
        for name in ("forward", "conditions"):
            setattr(drawing.model, name, in_own_dtype(getattr(drawing.model, name), dtype))
        if compile:
            compile_models(drawing)
        if not checkpointing:
            replace(drawing, graphed)
    return drawing


def compile_models(models: Models) -> None:
    """Have models compiled at their first call. Raise UserError if there is no C++ compiler."""
    from torch._inductor import cpp_builder

    try:
        cpp_builder.get_cpp_compiler()
    except RuntimeError:
        raise UserError(
            "--compile: no C++ compiler found; install one (g++ or clang++), or name it in CXX"
        ) from None
    replace(models, partial(torch.compile, dynamic=False))
