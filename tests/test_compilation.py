"""--compile where it is taken: the models are compiled, and a missing compiler is told."""

import shutil
from functools import partial

import pytest
import torch

from diffusion.models.blocks import ConvBlock
from v_diffusion.shell.errors import UserError
from v_diffusion.studio.models import Models, compile_models


def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    clip_model = torch.nn.Module()
    clip_model.encode_image = lambda x: x.sin() * 2
    return ConvBlock(4, 8, 4, cond_dim=3), clip_model


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler is here")
def test_compiled_models_give_the_same_numbers_and_gradients(monkeypatch):
    """Traced as for any backend. What C++ PyTorch's own makes of it takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model, clip_model = models()
    encode, forward = clip_model.encode_image, model.forward
    compile_models(Models(model, clip_model))
    assert model.forward is not forward and clip_model.encode_image is not encode
    x, cond = torch.randn(1, 4, 8, 8), torch.randn(1, 3)
    found = []
    for model_fn, encode_fn in ((forward, encode), (model, clip_model.encode_image)):
        y = x.clone().requires_grad_()
        out = encode_fn(model_fn(y, cond))
        found.append((out.detach(), torch.autograd.grad(out.sum(), y)[0]))
    torch.testing.assert_close(found[1], found[0])


def test_without_a_compiler():
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        with pytest.raises(
            UserError, match=r"^--compile: no C\+\+ compiler found; install one \(g\+\+"
        ):
            compile_models(Models(None, None))
