"""Compiled convolutions, against PyTorch's in double precision."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_gradients_agree
from test_convolution import with_gradient

from diffusion import get_model
from diffusion.models.blocks import ConvBlock, PlainConvBlock, Style, use_checkpointing
from v_diffusion.compute import block, compiled, convolution, fused, tiling

pytestmark = pytest.mark.skipif(
    not (convolution.can_pack() and compiled.is_there()), reason="nothing can be compiled here"
)
SHAPES = [(1, 48, 64), (3, 10, 14), (1, 16, 16), (2, 9, 31), (31, 4, 8)]


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("c, k", [(64, 64), (128, 32), (16, 96), (19, 64), (64, 3)])
@pytest.mark.parametrize("batch, height, width", SHAPES)
def test_a_convolution(batch, height, width, c, k):
    """It rounds more than the usual way: to 2e-5 of the largest number, and the gradient."""
    torch.manual_seed(0)
    layer = convolution.Conv2d(c, k, 3, padding=1).requires_grad_(False)
    x = picture(batch, c, height, width)
    assert fused.pays(x.shape, layer.weight)
    exact = with_gradient(copy.deepcopy(layer).double(), x.double())
    found = with_gradient(convolution.pack(layer), x)
    assert "tiles" in layer.packed
    for truth, ours in zip(exact, found):
        assert (ours - truth).abs().max() < 2e-5 * truth.abs().max()


def test_it_is_the_same_in_any_number_of_threads():
    torch.manual_seed(0)
    layer = convolution.pack(convolution.Conv2d(64, 64, 3, padding=1).requires_grad_(False))
    x = picture(2, 64, 64, 64)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(layer.through(x, measured=True))
    finally:
        torch.set_num_threads(before)
    for out, sums in found[1:]:
        assert torch.equal(out, found[0][0]) and torch.equal(sums, found[0][1])


@pytest.mark.parametrize("side", [16, 7])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("c_in, c_out", [(64, 64), (96, 64), (19, 32)])
@pytest.mark.parametrize("kind", [ConvBlock, PlainConvBlock])
def test_a_block(kind, c_in, c_out, last, batch, side):
    torch.manual_seed(0)
    how = (256,) if kind is ConvBlock else (Style(),)
    model = kind(c_in, 64, c_out, *how, is_last=last).requires_grad_(False)
    x, cond = picture(batch, c_in, side, side), torch.randn(batch, 256)
    exact = with_gradient(copy.deepcopy(model).double(), x.double(), cond.double())
    convolution.pack(model)
    calls = []
    plain = block.FusedPair.forward
    with pytest.MonkeyPatch.context() as patch:
        counted = staticmethod(lambda *args: calls.append(args) or plain(*args))
        patch.setattr(block.FusedPair, "forward", counted)
        found = with_gradient(model, x, cond)
    assert len(calls) == 1
    assert (found[0] - exact[0]).abs().max() < 2e-5 * exact[0].abs().max()
    # At a ReLU's corner rounding decides.
    assert_gradients_agree(found[1], exact[1].float())


def test_a_whole_model_with_and_without():
    torch.manual_seed(0)
    model = get_model("emoji_64")().eval().requires_grad_(False)
    args = torch.randn(2, 3, 64, 48), torch.rand(2), torch.randn(2, 256)
    plain = with_gradient(model, *args)
    fast = with_gradient(convolution.pack(model), *args)
    use_checkpointing(model)
    spare = with_gradient(model, *args)
    for out, gradient in (fast, spare):
        torch.testing.assert_close(out, plain[0], atol=1e-4, rtol=1e-4)
        assert_gradients_agree(gradient, plain[1])


def test_what_is_not_a_number_stays_so():
    """A ReLU that made it 0 would hide it."""
    model = ConvBlock(32, 32, 32, 16).requires_grad_(False)
    x = torch.zeros(1, 32, 16, 16)
    x[0, 0, 0, 0] = float("nan")
    assert convolution.pack(model)(x, torch.zeros(1, 16)).isnan().all()


@pytest.mark.parametrize(
    "shape, kernel, filters, most",
    [
        ((1, 256, 12, 12), 3, 256, 1e9),  # few tiles, and large weights
        ((1, 64, 64, 64), 1, 64, 1e9),
        ((1, 512, 32, 32), 3, 512, 1),  # larger weights than pictures
    ],
)
def test_where_it_does_not_pay(shape, kernel, filters, most):
    weight = torch.empty(filters, shape[1], kernel, kernel, device="meta")
    assert not fused.pays(torch.Size(shape), weight, most)


def test_pieces_give_all_threads_as_much():
    for shape, threads in (((1, 64, 64, 64), 2), ((1, 64, 16, 16), 2), ((3, 64, 20, 20), 4)):
        tiles, per_image = tiling.pieces(torch.Size(shape), threads)
        assert tiles * per_image >= tiling.rows(torch.Size(shape))
        assert tiles <= tiling.MOST_TILES and tiles % 2 == 0
    assert tiling.pieces(torch.Size((1, 64, 16, 16)), 2)[1] == 2


def test_without_numba_the_program_goes_the_other_way_and_says_nothing(tmp_path):
    """As where it isn't installed: what stands first on the path raises ImportError."""
    (tmp_path / "numba.py").write_text("raise ImportError('none here')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from v_diffusion.compute import compiled\n"
        "print(compiled.is_there())\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_folder_that_cannot_be_written_to_is_no_reason_not_to_compile(tmp_path):
    (tmp_path / "file").write_text("")
    code = "from v_diffusion.compute import compiled; print(compiled.is_there())"
    root = Path(__file__).parent.parent
    import os

    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, env=env
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_picture_beyond_its_border_is_zero():
    """After the ReLU: what a shift would make of a zero before it is no part of the picture."""
    torch.manual_seed(0)
    x, weight = picture(1, 32, 16, 16), torch.randn(32, 32, 3, 3)
    through = fused.Rectifier(torch.ones(1, 32), torch.full((1, 32), 5.0))
    out, _ = fused.convolve(x, fused.pack(weight), 32, before=through)
    truth = F.conv2d((x.double() + 5).relu(), weight.double(), padding=1)
    assert (out - truth).abs().max() < 2e-5 * truth.abs().max()
