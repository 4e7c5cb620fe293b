"""CLIP by name or file: `load`, `tokenize`, `available_models`."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from . import tokenizer
from .guidance import MEAN, STD
from .model import CLIP, build_model, half_precision


def available_models() -> list[str]:
    """Return the names that `load` knows."""
    from v_diffusion.weights import store

    return [name for name, card in store.cards().items() if card.kind == "clip"]


def preprocessing(resolution: int) -> Any:
    """Make the `Compose` that turns a PIL image into a normalised [3, resolution, resolution]
    tensor: the centre of the picture.
    """
    from torchvision import transforms  # type: ignore[import-untyped]

    return transforms.Compose(
        [
            transforms.Resize(resolution, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(resolution),
            to_rgb,
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def find_file(name: str, download_root: str | Path | None) -> Path:
    """Find the file of a published model, fetched if it is nowhere, or the file so named."""
    from v_diffusion.weights import store

    if name in available_models():
        return store.obtain(name, Path(download_root) if download_root else None)
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(available_models())
    raise store.CheckpointError(f"no CLIP {name!r}: neither a file nor one of {names}")


def load_model(path: Path, device: str | torch.device) -> CLIP:
    """Load a CLIP in evaluation mode from a file, without the preprocessing that `load` makes.

    Raises:
        CheckpointError: the file isn't a CLIP of the ViT family.
    """
    from v_diffusion.weights import store, tensors

    state_dict = tensors.read(path)
    try:
        model = build_model(state_dict)
    except (KeyError, RuntimeError, ValueError) as error:
        raise store.CheckpointError(f"{path}: not a CLIP of the ViT family ({error})") from None
    device = torch.device(device)
    model = half_precision(model) if device.type == "cuda" else model.float()
    return model.to(device).eval()


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
) -> tuple[CLIP, Any]:
    """Load a CLIP in evaluation mode and make its preprocessing, torchvision's `Compose`.

    Args:
        name: one of `available_models()`, or a file: a TorchScript archive as published, or a state
            dict. A published file is looked for in checkpoints/ and ~/.cache/clip, and is fetched
            if it is in neither.
        device: CUDA where there is one, else the CPU. The weights are fp32 there, but on CUDA fp16
            with LayerNorm in fp32.
        jit: kept for scripts that pass it; the model never runs as TorchScript.
        download_root: look there, and fetch to there.

    Raises:
        CheckpointError: the file can't be had, or isn't a CLIP of the ViT family.
        ValueError: jit is true.
    """
    if jit:
        raise ValueError("jit=True is not supported; the model is built from the file's tensors")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(find_file(str(name), download_root), device)
    return model, preprocessing(model.visual.input_resolution)


def tokenize(texts: str | list[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Turn texts into int64 token ids [len(texts), context_length]: start, text, end, then zeros.

    Raises:
        RuntimeError: a text is longer than the context and `truncate` is false.
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
    """Return the part of a text that `tokenize` keeps where it has to cut it; None if it fits."""
    ids = tokenizer.encode(text)
    return tokenizer.decode(ids[: context_length - 2]) if len(ids) > context_length - 2 else None
