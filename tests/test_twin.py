"""The frozen twins: the plain models' numbers, or a refusal in words."""

import copy

import pytest
import torch
from conftest import assert_gradients_agree
from networks import call_of, loss_of, make
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.flop_counter import FlopCounterMode

from v_diffusion.compute import accelerate, block, checkpointed, convolution, kernels

pytestmark = pytest.mark.skipif(bool(kernels.obstacle()), reason="nothing can be compiled here")
REFUSED = (RuntimeError, TypeError, ValueError)


def twin_of(model: nn.Module, checkpointing: bool = False) -> nn.Module:
    """The twin of one of the networks; of CLIP what stands around it stays."""
    if not hasattr(model, "clip"):
        return accelerate(model, checkpointing)
    twin = copy.copy(model)
    twin._modules = {"clip": accelerate(model.clip, checkpointing)}
    return twin


def with_gradient(model: nn.Module, x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = model(x, *rest)
    return out.detach(), torch.autograd.grad(out.square().sum() / 2, x)[0]


def assert_the_same(twin: nn.Module, model: nn.Module, args: tuple[Tensor, ...]) -> None:
    found, expected = with_gradient(twin, *args), with_gradient(model, *args)
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)
    assert_gradients_agree(found[1], expected[1])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 11])
def test_it_gives_the_models_numbers(name, model, batch, checkpointing):
    twin, args = twin_of(model, checkpointing), call_of(name, batch)
    kinds = {type(one) for one in twin.modules()}
    assert kinds & {block.ConvBlock, block.TransformerBlock}
    # Among nine pictures one has a number so near 0 that in fp32 rounding turns its ReLU.
    exact = with_gradient(copy.deepcopy(model).double(), *(one.double() for one in args))
    for _ in range(2):  # packed and kept
        v, grad = with_gradient(twin, *args)
        torch.testing.assert_close(v, exact[0].float(), atol=1e-4, rtol=1e-4)
        assert_gradients_agree(grad, exact[1])


def test_it_shares_the_weights(model):
    twin = twin_of(model)
    theirs = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in twin.parameters()} <= theirs
    held = [one.layer for one in twin.modules() if isinstance(one, block.Layer)]
    held = [layer for layer in held if isinstance(layer, convolution.Convolution)]
    assert all(layer.weight.data_ptr() in theirs for layer in held)
    assert not any(p.requires_grad for p in twin.parameters())
    assert all(p.requires_grad for p in model.parameters()) or hasattr(model, "clip")


def test_it_has_what_drawing_reads():
    model = make("emoji_64")
    twin = accelerate(model)
    for name in ("shape", "clip_model", "embed_dim", "min_t", "max_t", "size_multiple"):
        assert getattr(twin, name) == getattr(model, name)
    x, t, zeros = torch.randn(1, 3, 16, 16), torch.rand(1), torch.zeros(1, 256)
    found, expected = (one(x, t, **one.conditions(zeros)) for one in (twin, model))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    model = make("clip").clip
    twin = accelerate(model)
    assert (twin.dtype, twin.visual.input_resolution) == (torch.float32, 32)
    assert torch.equal(twin.logit_scale, model.logit_scale)
    text = torch.tensor([[1, 5, 3], [2, 1, 6]])
    assert torch.equal(twin.encode_text(text), model.encode_text(text))


def refused(call) -> str:
    with pytest.raises(REFUSED) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("change", [Tensor.double, Tensor.half, lambda x: x.to("meta")])
def test_another_type_or_device_is_refused(name, model, change):
    x, *rest = call_of(name)
    if name == "clip" and change in (Tensor.double, Tensor.half):  # which it casts, as CLIP does
        assert twin_of(model)(change(x)).dtype == torch.float32
    else:
        assert "use the plain module" in refused(lambda: twin_of(model)(change(x), *rest))


@pytest.mark.parametrize(
    "shape",
    [(0, 3, 16, 16), (2, 1, 16, 16), (2, 4, 16, 16), (2, 3, 15, 16), (2, 3, 0, 16), (3, 16)],
)
def test_other_shapes_are_refused(name, model, shape):
    _, *rest = call_of(name)
    assert "change the input's shape" in refused(lambda: twin_of(model)(torch.randn(shape), *rest))


def test_a_twin_of_other_weights_is_refused(model):
    model = getattr(model, "clip", model)
    for change in (nn.Module.half, nn.Module.double, lambda model: model.to("meta")):
        other = change(copy.deepcopy(model))
        assert "fp32 on a CPU" in refused(lambda other=other: accelerate(other))


@pytest.mark.parametrize("name", ["cc12m_1", "emoji_64"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_gradient_to_the_time_or_the_embedding_is_refused(name, which):
    args = list(call_of(name))
    args[which].requires_grad_()
    twin = accelerate(make(name))
    assert "use the plain module" in refused(lambda: twin(*args))
    with torch.no_grad():
        twin(*args)


def test_second_derivatives_are_refused(name, model):
    x, *rest = call_of(name)
    x.requires_grad_()
    twin = twin_of(model)
    loss = loss_of(twin, x, *rest)
    assert "first derivatives alone" in refused(
        lambda: torch.autograd.grad(loss, x, create_graph=True)
    )


def test_other_weights_for_one_call_are_refused(name, model):
    args = call_of(name)
    twin = twin_of(model)
    expected = twin(*args)
    weights = {key: tensor * 1.1 for key, tensor in model.state_dict().items()}
    with pytest.raises((AttributeError, *REFUSED)):
        functional_call(twin, weights, args)
    assert torch.equal(twin(*args), expected)


def test_saving_is_refused_and_a_copy_is_right(name, model):
    args = call_of(name)
    twin = twin_of(model)
    out = twin(*args)
    assert torch.equal(copy.deepcopy(twin)(*args), out)
    inner = getattr(twin, "clip", twin)
    told = "a twin can't be saved, filled or converted; use the plain module"
    assert told in refused(inner.state_dict)
    weights = getattr(model, "clip", model).state_dict()
    zeros = {key: 0 * weight for key, weight in weights.items()}
    assert told in refused(lambda: inner.load_state_dict(zeros, strict=False))
    assert torch.equal(twin(*args), out)


@pytest.mark.parametrize("convert", ["half", "double", "float", "cpu"])
def test_converting_is_refused(name, model, convert):
    twin = twin_of(model)
    assert "; use the plain module" in refused(getattr(getattr(twin, "clip", twin), convert))


def test_inference_mode(name, model):
    args = call_of(name)
    expected = model(*args)
    with torch.inference_mode():
        twin = twin_of(model)
        torch.testing.assert_close(twin(*args), expected, atol=1e-4, rtol=1e-4)
    assert_the_same(twin, model, args)


def test_autocast_is_refused(name, model):
    with torch.autocast("cpu", torch.bfloat16):
        text = refused(lambda: twin_of(model)(*call_of(name)))
    assert "leave autocast" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_another_default_type(name, model, dtype):
    args = call_of(name)
    x, *rest = args
    expected = with_gradient(model, *args)
    torch.set_default_dtype(dtype)
    try:
        found = with_gradient(twin_of(model), *args)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)
    assert_gradients_agree(found[1], expected[1])


def test_another_default_device(name, model):
    """Where tensors are made without numbers, compiled code has none to read."""
    args = call_of(name)
    expected = model(*args)
    with torch.device("meta"):
        found = twin_of(model)(*args)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_counting_and_transforms_are_refused(name, model):
    x, *rest = call_of(name)
    twin = twin_of(model)
    with FlopCounterMode(display=False):
        assert "use the plain module" in refused(lambda: twin(x, *rest))
    assert "plain module" in refused(lambda: torch.func.grad(lambda x: loss_of(twin, x, *rest))(x))
    assert "plain module" in refused(lambda: vmap(lambda x: twin(x[None], *rest))(x))
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        assert "plain module" in refused(lambda: twin(x, *rest))


@pytest.mark.filterwarnings("ignore")
def test_tracing_is_refused(name, model):
    twin = twin_of(model)
    refused(lambda: torch.jit.trace(twin, call_of(name), check_trace=False))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_refuses_or_is_right(name, model, backend):
    torch._dynamo.reset()
    twin, args = twin_of(model), call_of(name)
    compiled = torch.compile(twin, backend=backend)
    try:
        found = with_gradient(compiled, *args)
    except REFUSED:
        return
    expected = with_gradient(model, *args)
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)
    assert_gradients_agree(found[1], expected[1])


def test_channels_that_fill_no_vectors_go_the_plain_way():
    from diffusion.models.blocks import Style, run, unet

    net = unet(5, 3, [12, 20], Style(cond_dim=8), depth=1, attention_from=9)
    x, cond = torch.randn(2, 5, 8, 8), torch.randn(2, 8)
    torch.testing.assert_close(
        run(accelerate(net), x, cond), run(net, x, cond), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("make_twin", [checkpointed, lambda model: accelerate(model, True)])
def test_checkpointing_keeps_less(make_twin):
    kept = []
    model = make("emoji_64")
    for one in (model, make_twin(model)):
        sizes = []

        def pack_hook(x, sizes=sizes):
            sizes.append(x.numel())
            return x

        x, *rest = call_of("emoji_64")
        with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda x: x):
            out = one(x.requires_grad_(), *rest)
        kept.append(sum(sizes))
        assert torch.autograd.grad(out.sum(), x)[0].abs().sum() > 0
    assert 0 < kept[1] < kept[0] / 2


def test_without_kernels_it_is_the_model_in_channels_last(name, model, monkeypatch):
    monkeypatch.setattr(kernels, "obstacle", lambda: "off")
    twin = twin_of(model)
    assert {type(one) for one in twin.modules()} == {type(one) for one in model.modules()}
    assert_the_same(twin, model, call_of(name))
