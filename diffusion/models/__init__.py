"""Models by name, imported when they are first used. This module imports no torch."""

from importlib import import_module
from typing import Any

MODELS = {
    "cc12m_1": ("cc12m_1", "CC12M1Model"),
    "cc12m_1_cfg": ("cc12m_1", "CC12M1Model"),
    "danbooru_128": ("unconditional", "Danbooru128Model"),
    "imagenet_128": ("unconditional", "ImageNet128Model"),
    "wikiart_128": ("unconditional", "WikiArt128Model"),
    "wikiart_256": ("unconditional", "WikiArt256Model"),
    "yfcc_1": ("unconditional", "YFCC1Model"),
    "yfcc_2": ("unconditional", "YFCC2Model"),
    "emoji_64": ("emoji_64", "Emoji64Model"),
}


def get_models() -> list[str]:
    """Return the names of the models."""
    return list(MODELS)


def get_model(name: str) -> Any:
    """Return the class of a model, an `nn.Module` that is made without arguments.

    Raises:
        KeyError: no model has this name; the text names the known ones.
    """
    if name not in MODELS:
        raise KeyError(f"no model {name!r}; use one of {', '.join(MODELS)}")
    module, model = MODELS[name]
    return getattr(import_module(f".{module}", __name__), model)


def __getattr__(name: str) -> Any:
    for model, (_, class_name) in MODELS.items():
        if name == class_name:
            return get_model(model)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
