"""What shows without a GPU of a run on one: what it is asked to do."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA
from fake_cuda import CUDA, Call, FakeCuda, running
from PIL import Image
from torch import Tensor

from CLIP import clip, guidance, prompts
from CLIP.model import LayerNorm
from diffusion.methods import METHODS, STOCHASTIC
from diffusion.models.blocks import Style, unet
from v_diffusion.compute import checkpointed
from v_diffusion.job.job import Job
from v_diffusion.studio.models import Models, load_model
from v_diffusion.studio.sample import sample
from v_diffusion.studio.targets import Targets
from v_diffusion.weights import tensors

HALF, FULL = torch.float16, torch.float32
COPIES = ("aten._to_copy.default", "aten.copy_.default")


def of_manifest(path: str | Path, torchscript: bool = False) -> dict[str, Tensor]:
    """`tensors.read` for a model whose file is not at hand: the shapes, and no numbers."""
    shapes = json.loads(Path(path).read_text())
    return {name: torch.empty(shape, device=CUDA) for name, shape in shapes.items()}


def load(cuda: FakeCuda, name: str, model_file: Path | None, clip_file: Path | str) -> Models:
    with running(cuda):
        model = load_model(name, model_file, CUDA)
        clip_model, _ = clip.load(clip_file, CUDA)
    cuda.mark(model, "model")
    cuda.mark(clip_model.visual, "clip")
    return Models(model, clip_model.requires_grad_(False))


@pytest.fixture(scope="module")
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(scope="module")
def emoji_64(cuda) -> Models:
    return load(cuda, "emoji_64", None, "emoji_64_clip")


@pytest.fixture(scope="module")
def cc12m_1(cuda) -> Models:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "read", of_manifest)
        files = (DATA / f"{name}.manifest.json" for name in ("cc12m_1", "clip_vit_b_16"))
        return load(cuda, "cc12m_1", *files)


def load_short(cuda: FakeCuda) -> Models:
    """emoji_64 and its CLIP with layers of every kind, but fewer of them."""
    models = load(cuda, "emoji_64", None, "emoji_64_clip")
    net = unet(31, 12, [64, 64], Style(cond_dim=256), depth=1, attention_from=1)
    with running(cuda):
        net = net.eval().requires_grad_(False).half().to(CUDA)
        models.model.net = net.to(memory_format=torch.channels_last)
    del models.clip.visual.transformer.resblocks[1:-1]
    return models


@pytest.fixture(scope="module")
def short(cuda) -> Models:
    return load_short(cuda)


def draw(
    cuda: FakeCuda,
    models: Models,
    method: str,
    scale: float,
    batch: int,
    cutouts_at_once: int | None = None,
    cutn: int = 16,
) -> list[Call]:
    """What two steps of a batch ask of the device."""
    size = models.model.shape[1:]
    options = {"model": "emoji_64", "method": method, "steps": 2, "cutn": cutn, "size": size}
    jobs = [Job(["a"], **options, clip_guidance_scale=scale, seed=i) for i in range(batch)]
    told: list[dict[str, Any]] = []
    with running(cuda):
        targets = torch.empty(batch, models.clip.visual.output_dim, device=CUDA)
        cuda.calls.clear()
        out = sample(
            jobs,
            models,
            Targets(targets),
            CUDA,
            told.append,
            cutouts_at_once=cutouts_at_once,
            disable=True,
        )
    assert (out.shape, out.dtype, out.device) == ((batch, *models.model.shape), FULL, CUDA)
    for info in told:
        assert {info[name].dtype for name in ("x", "v", "pred", "t")} == {FULL}
    assert len(told) == 2
    return list(cuda.calls)


def faults(calls: Sequence[Call]) -> list[str]:
    """What makes the host wait for the device, and what mixes the two.

    A tensor of one number may come from the CPU into a sum or product: it is read at once and goes
    with the kernel's arguments, and nothing waits. Most other operators refuse it, so it is counted
    as a fault all the same. A copy to the device waits unless it comes from pinned memory and is
    told not to.
    """
    found = []
    for call in calls:
        devices = {seen.device for seen in call.inputs}
        if call.name == "aten._local_scalar_dense.default":
            found.append(f"{call.name} waits")
        elif call.name in COPIES:
            before, after = call.inputs[-1], call.outputs[0]
            waits = call.blocks or not before.pinned or after.device == "cpu"
            if before.device != after.device and waits:
                found.append(f"{call.name} to {after.device} waits")
        elif len(devices) > 1:
            found.append(f"{call.name} of {' and '.join(sorted(devices))}")
    return found


def in_loop(calls: Sequence[Call]) -> Sequence[Call]:
    """From the model's first call to the end."""
    return calls[next(i for i, call in enumerate(calls) if call.place == "model") :]


def copies(calls: Sequence[Call], dtype: torch.dtype | None = None) -> int:
    """How often something, or something of a type, goes to the device."""
    given = [call.inputs[-1] for call in calls if call.name in COPIES]
    return sum(one.device == "cpu" and dtype in (None, one.dtype) for one in given)


def dtypes(calls: Sequence[Call]) -> set[torch.dtype]:
    """The types of the fractions that operators are given."""
    found = {seen.dtype for call in calls for seen in call.inputs}
    return {dtype for dtype in found if dtype.is_floating_point}


def named(calls: Sequence[Call], *names: str) -> list[Call]:
    return [call for call in calls if call.name.split(".")[1] in names]


@pytest.mark.parametrize(
    "do",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: torch.empty(3).copy_(x),
        lambda x: x + torch.ones(()),
        lambda x: torch.tensor([1.0], device=CUDA),
        lambda x: torch.ones(3).to(CUDA, non_blocking=True),
        lambda x: torch.empty(3, pin_memory=True).to(CUDA),
        lambda x: x.copy_(torch.ones(3)),
    ],
)
def test_faults_are_found(cuda, do: Callable[[Tensor], object]):
    with running(cuda):
        x = torch.empty(3, device=CUDA)
        cuda.calls.clear()
        do(x)
    assert faults(cuda.calls)


def test_what_is_no_fault_is_not_found(cuda):
    with running(cuda):
        x = torch.empty(3, device=CUDA)
        cuda.calls.clear()
        y = torch.empty(3, pin_memory=True).to(CUDA, non_blocking=True)
        (x + y * 2.0).copy_(y).half()
        with pytest.raises(RuntimeError):
            x + torch.ones(3)
    assert copies(cuda.calls) == 1 and faults(cuda.calls) == []


def test_autocast_is_pytorchs(cuda):
    with running(cuda):
        x = torch.empty(2, 4, device=CUDA).requires_grad_()
        w = torch.empty(4, 4, device=CUDA).half()
        with torch.autocast("cuda", HALF):
            y = torch.relu(x @ w)
            assert (y.dtype, y.mul(2).dtype, y.pow(2).dtype) == (HALF, HALF, FULL)
            assert torch.cat([y, x]).dtype == FULL
            with torch.autocast("cuda", enabled=False):
                assert (x @ w.float()).dtype == FULL
        (grad,) = torch.autograd.grad(y.float().sum(), x)
        assert (grad.dtype, grad.device) == (FULL, CUDA)


@pytest.mark.parametrize("batch, scale", [(1, 0.0), (2, 500.0)])
@pytest.mark.parametrize("method", METHODS)
def test_no_method_waits_in_its_loop(cuda, short, method, batch, scale):
    loop = in_loop(draw(cuda, short, method, scale, batch, cutn=2))
    assert faults(loop) == []
    # Nothing goes to the device but the fresh noise between two steps, and where cutouts are.
    assert copies(loop, FULL) == (method in STOCHASTIC)
    assert copies(loop) - copies(loop, FULL) == len(named(loop, "arange")) / 4
    assert (copies(loop) > copies(loop, FULL)) == (scale > 0)


def test_what_is_computed_again_for_the_gradient_is_in_fp16(cuda):
    models = load_short(cuda)
    with running(cuda):
        models = models._replace(model=checkpointed(models.model))
    cuda.mark(models.model, "model")
    loop = in_loop(draw(cuda, models, "ddim", 500.0, 2, cutouts_at_once=4))
    assert faults(loop) == []
    again = named([call for call in loop if call.backward], "convolution")
    assert again and dtypes(again) == {HALF}


def test_prompts(cuda, short):
    stream = torch.Generator().manual_seed(0)
    picture = Image.new("RGB", (40, 30))
    with running(cuda):
        cuda.calls.clear()
        text = prompts.encode_text(short.clip, "fox", CUDA)
        cutouts = guidance.MakeCutouts(short.clip.visual.input_resolution, 16)
        image = prompts.encode_image(short.clip, picture, cutouts, 64, stream)
    for embeds in (text, image):
        assert (embeds.dtype, embeds.device) == (FULL, CUDA)
    # They may wait for the device.
    assert not [fault for fault in faults(cuda.calls) if not fault.endswith("waits")]
    assert dtypes(named(cuda.calls, "mm", "addmm")) == {HALF}
    assert dtypes(named(cuda.calls, "native_layer_norm")) == {FULL}


def test_weights_are_in_fp16_but_for_layer_normalisation(cc12m_1):
    assert {weight.dtype for weight in cc12m_1.model.state_dict().values()} == {HALF}
    for module in cc12m_1.clip.modules():
        own = {weight.dtype for weight in module.parameters(recurse=False)}
        assert own <= ({FULL} if isinstance(module, LayerNorm) else {HALF})
    for model in (cc12m_1.model, cc12m_1.clip):
        assert {weight.device for weight in model.parameters()} == {CUDA}


DRAWN = [
    ("emoji_64", 2, 0.0),
    ("emoji_64", 1, 500.0),
    ("cc12m_1", 2, 0.0),
    pytest.param(("cc12m_1", 1, 500.0), marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=DRAWN, ids=str)
def calls(request, cuda) -> list[Call]:
    name, batch, scale = request.param
    return draw(cuda, request.getfixturevalue(name), "ddpm", scale, batch)


def test_no_model_waits_in_the_loop(calls):
    assert faults(in_loop(calls)) == []
    assert copies(in_loop(calls), FULL) == 1


def test_the_networks_compute_in_fp16(calls):
    products = named(calls, "mm", "addmm", "bmm")
    convolutions = named(calls, "convolution", "convolution_backward")
    attentions = named(
        calls,
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_backward",
    )
    # Cutouts are pooled by two products, and two back.
    pooling = [call for call in products if dtypes([call]) == {FULL}]
    assert len(pooling) == 4 * copies(in_loop(calls), torch.long)
    for some in ([call for call in products if call not in pooling], convolutions):
        assert dtypes(some) == {HALF}
    # The logarithm of the softmax's sum is kept in fp32 for the backward pass.
    assert attentions and {seen.dtype for call in attentions for seen in call.inputs[:3]} == {HALF}


def test_what_the_original_has_in_fp32_is(calls):
    loop = in_loop(calls)
    norms = named(loop, "var_mean", "native_layer_norm", "native_layer_norm_backward")
    assert dtypes(norms) == {FULL}
    # The sampler and the loss, up to where they meet a network.
    between = [call for call in loop if not call.place and not call.backward]
    assert dtypes([call for call in between if call.name not in COPIES]) == {FULL}
    guided = any(call.backward for call in calls)
    assert bool(named(between, "asin")) == guided


def test_convolutions_are_in_channels_last(calls):
    """Those of the network, and what comes to them: none has to turn anything."""
    convolutions = named(calls, "convolution")
    assert convolutions
    for call in convolutions:
        if call.place == "model":
            x, weight = call.inputs[:2]
            assert weight.channels_last and call.outputs[0].channels_last and x.channels_last, call
