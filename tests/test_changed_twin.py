"""The frozen twins of models that somebody has changed: they compute what those do."""

import pytest
import torch
from networks import call_of, make
from test_plain_models import (
    CHANGES,
    with_low_rank,
    with_sequentials,
    with_weight_norm,
    with_wrappers,
)
from test_twin import assert_the_same, pytestmark, twin_of  # noqa: F401
from torch import nn


@pytest.mark.parametrize("change", CHANGES)
def test_a_twin_made_after_a_change_has_it(name, model, change):
    args = call_of(name)
    twin_of(model)(*args)
    model.requires_grad_(False)
    change(model)
    assert_the_same(twin_of(model), model, args)


@pytest.mark.parametrize(
    "change", [with_low_rank, with_sequentials, with_weight_norm, with_wrappers]
)
def test_replaced_layers_are_used(name, model, change):
    change(model)
    assert_the_same(twin_of(model), model, call_of(name))


def other_activations(model: nn.Module) -> None:
    for one in model.clip.visual.transformer.resblocks:
        one.mlp.gelu = nn.Identity()


def one_more_layer(model: nn.Module) -> None:
    for one in model.clip.visual.transformer.resblocks:
        one.mlp.add_module("more", nn.Linear(128, 128))


def other_edges(model: nn.Module) -> None:
    for one in model.modules():
        if isinstance(one, nn.Conv2d) and one.kernel_size == (3, 3):
            one.padding_mode = "circular"
            one._reversed_padding_repeated_twice = [1] * 4


@pytest.mark.parametrize(
    "name, change",
    [
        ("clip", other_activations),
        ("clip", one_more_layer),
        ("cc12m_1", other_edges),
        ("unconditional", other_edges),
    ],
)
def test_blocks_of_other_parts_are_used(name, change):
    model = make(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        change(model)
    assert_the_same(twin_of(model), model, call_of(name))


def test_hooks_that_are_there_fire(name, model):
    convolutions = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    seen = []
    for layer in convolutions:
        layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    twin_of(model)(*call_of(name))
    assert len(seen) == len(convolutions)


def test_hooks_of_the_twin_are_its_own(name, model):
    seen = []
    for one in twin_of(model).children():
        one.register_forward_hook(lambda *_: seen.append(1))
    model(*call_of(name))
    assert seen == []
