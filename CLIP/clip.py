"""Loading of CLIP by name or file, and its input: tokens of texts, tensors of images."""

from operator import methodcaller
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import tokenizer
from .guidance import MEAN, STD
from .model import CLIP, build_model, half_precision


def available_models() -> list[str]:
    """Return the names of the published models."""
    from v_diffusion.weights import store

    return [name for name, card in store.cards().items() if card.kind == "clip"]


def preprocessing(resolution: int) -> Any:
    """Make a `Compose` from a PIL image to its centre, normalised, [3, resolution, resolution]."""
    from torchvision import transforms  # type: ignore[import-untyped]

    return transforms.Compose(
        [
            transforms.Resize(resolution, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(resolution),
            methodcaller("convert", "RGB"),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def find_file(name: str, download_root: str | Path | None) -> Path:
    """Find or fetch the file of a published model, or find a file by its path."""
    from v_diffusion.weights import store

    if name in available_models():
        return store.obtain(name, Path(download_root) if download_root else None)
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(available_models())
    raise store.CheckpointError(f"no CLIP {name!r}: neither a file nor one of {names}")


def load_model(path: Path, device: str | torch.device, dtype: torch.dtype | None = None) -> CLIP:
    """Load a CLIP in evaluation mode from a file, without its preprocessing.

    Args:
        dtype: of the weights, but LayerNorm's, which are fp32; by default fp16 on CUDA, else fp32.

    Raises:
        CheckpointError: the file isn't a CLIP of the ViT family.
    """
    from v_diffusion.weights import store, tensors

    state_dict = tensors.read(path)
    try:
        model = build_model(state_dict)
    except Exception as error:  # a stranger's shapes make nearly any
        why = " ".join(str(error).split())[:200]
        raise store.CheckpointError(f"{path}: not a CLIP of the ViT family ({why})") from None
    device = torch.device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    return half_precision(model, dtype).to(device).eval()


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
) -> tuple[CLIP, Any]:
    """Load a CLIP in evaluation mode.

    Args:
        name: one of `available_models()`, or a file: a TorchScript archive as published, or a state
            dict. A published file is looked for in checkpoints/ and ~/.cache/clip, and fetched if
            it is in neither.
        device: by default CUDA if there is one, else the CPU. On CUDA the weights are fp16, but
            those of LayerNorm fp32; elsewhere all are fp32.
        jit: must be false; it is there for scripts that pass it.
        download_root: the folder to look in, instead of ~/.cache/clip, and to fetch to.

    Returns:
        The model, and its preprocessing: a torchvision `Compose` from a PIL image to its centre,
        normalised, [3, R, R] with R = `visual.input_resolution`.

    Raises:
        CheckpointError: the file can't be found or fetched, or isn't a CLIP of the ViT family.
        ValueError: jit is true.
    """
    if jit:
        raise ValueError("jit=True is not supported; the model is built from the file's tensors")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(find_file(str(name), download_root), device)
    return model, preprocessing(model.visual.input_resolution)


def tokenize(texts: str | list[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Convert texts to int64 token ids [len(texts), context_length]: start, text, end, zeros.

    Raises:
        RuntimeError: a text is longer than the context, and `truncate` is false.
    """
    texts = [texts] if isinstance(texts, str) else texts
    start, end = (tokenizer.vocabulary()[t] for t in (tokenizer.START, tokenizer.END))
    out = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(out, texts):
        ids = [start, *tokenizer.encode(text), end]
        if len(ids) > context_length:
            if not truncate:
                raise RuntimeError(f"Input {text} is too long for context length {context_length}")
            ids = [*ids[: context_length - 1], end]
        row[: len(ids)] = torch.tensor(ids)
    return out


def kept_text(text: str, context_length: int = 77) -> str | None:
    """Return the part of a text that `tokenize` keeps if it has to cut it; None if it fits."""
    ids = tokenizer.encode(text)
    return tokenizer.decode(ids[: context_length - 2]) if len(ids) > context_length - 2 else None
