"""CLIP by name or file: `load`, `tokenize`, `available_models`."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from v_diffusion.shell.paths import expand_user
from v_diffusion.weights import store, tensors

from . import tokenizer
from .guidance import MEAN, STD
from .model import CLIP, build_model, half_precision


def available_models() -> list[str]:
    """The names that `load` knows."""
    return [name for name, card in store.cards().items() if card.kind == "clip"]


def preprocessing(resolution: int) -> Callable[[Image.Image], Tensor]:
    """PIL image to a normalised [3, resolution, resolution] tensor: the centre of the picture."""

    def preprocess(image: Image.Image) -> Tensor:
        # To import this takes longer than to load a model, and many a run needs no preprocessing.
        from torchvision.transforms import functional as TF  # type: ignore[import-untyped]

        image = TF.resize(image, resolution, TF.InterpolationMode.BICUBIC)
        image = TF.center_crop(image, resolution).convert("RGB")
        pixels: Tensor = TF.normalize(TF.to_tensor(image), MEAN, STD)
        return pixels

    return preprocess


def find_file(name: str, download_root: str | Path | None) -> Path:
    """The file of a published model, fetched if it is nowhere, or the file that the name is."""
    if name in available_models():
        folder = Path(download_root) if download_root else None
        return store.obtain(name, folders=[folder or expand_user(store.CLIP_CACHE)], into=folder)
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(available_models())
    raise store.CheckpointError(f"no CLIP {name!r}: neither a file nor one of {names}")


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
) -> tuple[CLIP, Callable[[Image.Image], Tensor]]:
    """A CLIP in evaluation mode and its preprocessing.

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
    """
    if jit:
        raise ValueError("jit=True is not supported: the model is built from the file's tensors")
    path = find_file(str(name), download_root)
    state_dict = tensors.read(path, torchscript=True)
    try:
        model = build_model(state_dict)
    except (KeyError, RuntimeError, ValueError) as error:
        raise store.CheckpointError(f"{path}: not a CLIP of the ViT family ({error})") from None
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = half_precision(model) if device.type == "cuda" else model.float()
    model = model.to(device).eval()
    return model, preprocessing(model.visual.input_resolution)


def tokenize(texts: str | list[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Texts to int64 token ids [len(texts), context_length]: start, text, end, then zeros.

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
    """What `tokenize` keeps of a text that it has to cut; None if the text fits."""
    ids = tokenizer.encode(text)
    return tokenizer.decode(ids[: context_length - 2]) if len(ids) > context_length - 2 else None
