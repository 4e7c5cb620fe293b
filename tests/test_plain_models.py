"""What a PyTorch program does with a module, with the models as `get_model` and CLIP give them."""

import copy
import io
import pickle

import pytest
import torch
from conftest import assert_gradients_agree
from networks import call_of, loss_of, make
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode


def layers(model: nn.Module) -> list[nn.Conv2d]:
    return [one for one in model.modules() if isinstance(one, nn.Conv2d)]


def test_every_parameter_and_input_gets_its_gradient(name, model):
    """As differences say, in double precision."""
    model = model.double()
    args = [a.double().requires_grad_() for a in call_of(name)]
    loss_of(model, *args).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    for x in [*args, *model.parameters()][:: 1 if name == "clip" else 3]:
        if x.grad is None:
            continue
        direction = torch.randn_like(x) / x.numel() ** 0.5 * x.detach().std().clamp_min(1e-3)
        step, found = 1e-5, (x.grad * direction).sum()
        with torch.no_grad():
            x += step * direction
            above = loss_of(model, *args)
            x -= 2 * step * direction
            below = loss_of(model, *args)
            x += step * direction
        expected = (above - below) / (2 * step)
        # In single steps a ReLU's corner may lie.
        assert (found - expected).abs() <= 1e-3 * expected.abs() + 1e-6 * x.grad.norm()


@sdpa_kernel(SDPBackend.MATH)  # PyTorch's other kernels have no second derivatives, and say so
def test_second_derivatives(name, model):
    model = model.double()
    x, *rest = (a.double() for a in call_of(name))
    x.requires_grad_()

    def grad_norm(x):
        (grad,) = torch.autograd.grad(loss_of(model, x, *rest), x, create_graph=True)
        return grad.square().sum()

    (found,) = torch.autograd.grad(grad_norm(x), x)
    direction, step = torch.randn_like(x), 1e-6
    ends = [grad_norm((x + sign * step * direction).detach().requires_grad_()) for sign in (1, -1)]
    expected = (ends[0] - ends[1]).detach() / (2 * step)
    assert ((found * direction).sum() - expected).abs() <= 0.02 * expected.abs()


def changed_by_data(model):
    for p in model.parameters():
        p.data.mul_(1.1)


def changed_by_numpy(model):
    for p in model.parameters():
        array = p.detach().numpy()
        array *= 1.1


def changed_by_adamw(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()


def changed_by_an_average(model):
    average = torch.optim.swa_utils.AveragedModel(copy.deepcopy(model))
    changed_by_data(model)
    average.update_parameters(model)
    model.load_state_dict(average.module.state_dict())


CHANGES = [changed_by_data, changed_by_numpy, changed_by_adamw, changed_by_an_average]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_count_at_once(name, model, change):
    model.requires_grad_(False)
    args = call_of(name)
    before = model(*args)
    change(model)
    after = model(*args)
    fresh = make(name)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(after, fresh(*args)) and not torch.allclose(after, before)


def test_functional_call(name, model):
    args = call_of(name)
    model(*args)
    weights = {key: tensor * 1.1 for key, tensor in model.state_dict().items()}
    fresh = make(name)
    fresh.load_state_dict(weights)
    assert torch.equal(functional_call(model, weights, args), fresh(*args))


class LowRank(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.down = nn.Parameter(torch.randn(2, weight[0].numel()) / 10)
        self.up = nn.Parameter(torch.randn(len(weight), 2) / 10)

    def forward(self, weight):
        return weight + (self.up @ self.down).view_as(weight)


class Wrapped(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.scale = layer, nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.layer(x) * self.scale


def with_low_rank(model):
    for layer in layers(model):
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))


def with_wrappers(model):
    for module in list(getattr(model, "clip", model).modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, (nn.Conv2d, nn.Linear)) and not isinstance(module, Wrapped):
                setattr(module, key, Wrapped(child))


def with_sequentials(model):
    for module in list(getattr(model, "clip", model).modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, (nn.Conv2d, nn.Linear)):
                setattr(module, key, nn.Sequential(child))


def with_weight_norm(model):
    for layer in layers(model):
        torch.nn.utils.parametrizations.weight_norm(layer)


@pytest.mark.parametrize("change", [with_low_rank, with_wrappers, with_weight_norm])
def test_replaced_layers_are_used_and_trained(name, model, change):
    args = call_of(name)
    before = model(*args).detach()
    old = {id(p) for p in model.parameters()}
    change(model)
    out = model(*args)
    assert torch.allclose(out, before, atol=1e-4) == (change is with_weight_norm)
    out.square().mean().backward()
    used = model.clip.visual if hasattr(model, "clip") else model
    new = [p for p in used.parameters() if id(p) not in old]
    assert new and all(p.grad is not None and p.grad.abs().sum() > 0 for p in new)


def test_copies_pickles_and_files_after_a_call(name, model):
    args = call_of(name)
    out = model(*args)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = make(name)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert torch.equal(other(*args), out)


def test_inference_mode(name, model):
    args = call_of(name)
    out = model(*args)
    with torch.inference_mode():
        inside = model(*args)
        made_inside = make(name)(*args)
    for other in (inside, made_inside, model(*args)):
        torch.testing.assert_close(other, out, atol=1e-6, rtol=1e-6)


def test_hooks_fire_on_every_convolution(name, model):
    seen = []
    for layer in layers(model):
        layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    model(*call_of(name))
    assert len(seen) == len(layers(model)) == len(set(seen))


def test_flops_are_counted(name, model):
    counted = []
    for layer in layers(model):

        def count(layer, _, out):
            counted.append(2 * out.numel() * layer.weight[0].numel())

        layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as flops:
        model(*call_of(name))
    assert flops.get_flop_counts()["Global"][torch.ops.aten.convolution] == sum(counted)


def test_torch_compile(name, model):
    """Its capture, and of the smaller models its gradients; what it then compiles is its own."""
    torch._dynamo.reset()
    backend = "aot_eager" if name in ("unconditional", "clip") else "eager"
    x, *rest = call_of(name)
    found = []
    for run in (model, torch.compile(model, backend=backend)):
        y = x.clone().requires_grad_()
        out = run(y, *rest)
        found.append((out.detach(), torch.autograd.grad(out.square().mean(), y)[0]))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-4, rtol=1e-4)
    assert_gradients_agree(found[1][1], found[0][1])


@pytest.mark.filterwarnings("ignore")
def test_tracing(name, model):
    args = call_of(name)
    model.requires_grad_(False)
    traced = torch.jit.trace(model, args, check_trace=False)
    torch.testing.assert_close(traced(*args), model(*args), atol=1e-5, rtol=1e-5)


def test_functorch(name, model):
    x, *rest = call_of(name)
    found = torch.func.grad(lambda x: loss_of(model, x, *rest))(x)
    y = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss_of(model, y, *rest), y)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(name, model, dtype):
    args = call_of(name)
    with torch.autocast("cpu", dtype):
        out = model(*args)
    exact = model(*args)
    assert (out.float() - exact).norm() < 0.1 * exact.norm()


def test_another_default_type(name, model):
    args = call_of(name)
    exact = model(*args)
    torch.set_default_dtype(torch.float16)
    try:
        assert torch.equal(model(*args), exact)
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_without_numbers(name, model):
    args = [a.to("meta") for a in call_of(name)]
    assert model.to("meta")(*args).is_meta


def test_emoji_64_draws_its_sketches_anew():
    model = make("emoji_64")
    x, t, zeros = torch.randn(1, 3, 16, 16), torch.rand(1), torch.zeros(1, 256)
    before = model(x, t, **model.conditions(zeros))
    model.sketch.pixels.bias.data += 1
    after = model(x, t, **model.conditions(zeros))
    again = copy.deepcopy(model)
    assert torch.equal(after, again(x, t, **again.conditions(zeros)))
    assert not torch.allclose(after, before, atol=1e-2)


def test_hooks_on_clips_blocks_see_what_the_originals_see():
    """[L, B, D] of both towers."""
    model, seen = make("clip").clip, []
    for tower in (model.visual.transformer, model.transformer):
        for block in tower.resblocks:
            block.register_forward_hook(lambda _, x, out: seen.append((x[0].shape, out.shape)))
    model.encode_image(torch.randn(2, 3, 32, 32))
    model.encode_text(torch.tensor([[1, 5, 3], [2, 1, 6], [1, 1, 6]]))
    image, text = torch.Size((17, 2, 128)), torch.Size((3, 3, 64))
    assert seen == [(image, image)] * 2 + [(text, text)] * 2
