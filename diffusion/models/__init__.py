"""The models by name. Importing this imports no torch: the classes are loaded when asked for."""

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
    """The names that `get_model` knows."""
    return list(MODELS)


def get_model(name: str) -> Any:
    """The class of a model.

    Raises:
        KeyError: no model has this name.
    """
    module, model = MODELS[name]
    return getattr(import_module(f".{module}", __name__), model)


def __getattr__(name: str) -> Any:
    for model, (_, class_name) in MODELS.items():
        if name == class_name:
            return get_model(model)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
