"""Compiled convolutions, and blocks of them, against PyTorch's in double precision."""

import copy
import os
from pathlib import Path
from unittest import mock

import pytest
import script
import torch
import torch.nn.functional as F
from conftest import assert_gradients_agree
from test_convolution import with_gradient
from torch import nn

from diffusion.models.blocks import ConvBlock, PlainConvBlock, Style
from v_diffusion.compute import block, kernels, pointwise, winograd
from v_diffusion.compute.convolution import Convolution
from v_diffusion.version import __version__

pytestmark = pytest.mark.skipif(bool(kernels.obstacle()), reason="nothing can be compiled here")
ROOT = Path(__file__).parent.parent
SHAPES = [(1, 48, 64), (3, 10, 14), (1, 16, 16), (2, 9, 31), (31, 4, 8)]


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("c, k", [(64, 64), (128, 32), (16, 96), (19, 64), (64, 3)])
@pytest.mark.parametrize("batch, height, width", SHAPES)
def test_a_convolution(batch, height, width, c, k):
    """It rounds more than the usual way: to 2e-5 of the largest number, and the gradient."""
    layer = nn.Conv2d(c, k, 3, padding=1).requires_grad_(False)
    x, twin = picture(batch, c, height, width), block.Layer(Convolution(layer, spare=False))
    assert winograd.is_faster(x.shape, layer.weight.shape)
    exact = with_gradient(copy.deepcopy(layer).double(), x.double())
    found = with_gradient(twin, x)
    assert "tiles" in twin.layer.packed
    for truth, ours in zip(exact, found):
        assert (ours - truth).abs().max() < 2e-5 * truth.abs().max()


def test_it_is_the_same_in_any_number_of_threads():
    layer = Convolution(nn.Conv2d(64, 64, 3, padding=1), spare=False)
    x = picture(2, 64, 64, 64)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(layer.measured(x, None, True))
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
    how = (256,) if kind is ConvBlock else (Style(),)
    model = kind(c_in, 64, c_out, *how, is_last=last).requires_grad_(False)
    x, cond = picture(batch, c_in, side, side), torch.randn(batch, 256)
    exact = with_gradient(copy.deepcopy(model).double(), x.double(), cond.double())
    assert block.supports(model)
    found = with_gradient(block.ConvBlock(model, spare=False), x, cond)
    assert (found[0] - exact[0]).abs().max() < 2e-5 * exact[0].abs().max()
    # At a ReLU's corner rounding decides.
    assert_gradients_agree(found[1], exact[1].float())


@pytest.mark.parametrize("mean, channels", [(1e3, 64), (1e3, 1024), (-1e4, 64)])
def test_what_is_far_from_0_is_normalised(mean, channels):
    """Sums of squares around 0 would be off by 5% in the standard deviation."""
    h = mean + picture(2, channels, 12, 16)
    found = pointwise.modulate(h, pointwise.measure(h), torch.zeros(1, 2 * channels))
    exact = 1 / h.double().flatten(1).std(1, correction=0)
    torch.testing.assert_close(found.moments[:, 1].double(), exact, rtol=1e-3, atol=0)
    layer = nn.Conv2d(32, channels, 3, padding=1)
    layer.bias.data += mean
    x = picture(2, 32, 48, 21)
    out, moments = Convolution(layer, spare=False).measured(x, None, True)
    found = pointwise.modulate(out, moments, torch.zeros(1, 2 * channels))
    exact = 1 / out.double().flatten(1).std(1, correction=0)
    torch.testing.assert_close(found.moments[:, 1].double(), exact, rtol=1e-3, atol=0)


def test_what_is_not_a_number_stays_so():
    """A ReLU that made it 0 would hide it."""
    model = ConvBlock(32, 32, 32, 16).requires_grad_(False)
    x = torch.zeros(1, 32, 16, 16)
    x[0, 0, 0, 0] = float("nan")
    assert block.ConvBlock(model, spare=False)(x, torch.zeros(1, 16)).isnan().all()


@pytest.mark.parametrize(
    "shape, kernel, filters, most",
    [
        ((1, 256, 12, 12), 3, 256, 1e9),  # few tiles, and large weights
        ((1, 64, 64, 64), 1, 64, 1e9),
        ((1, 512, 32, 32), 3, 512, 1),  # larger weights than pictures
    ],
)
def test_where_it_is_not_faster(shape, kernel, filters, most):
    weight = torch.empty(filters, shape[1], kernel, kernel, device="meta")
    assert not winograd.is_faster(torch.Size(shape), weight.shape, most)


def test_pieces_give_all_threads_as_much():
    for shape, threads in (((1, 64, 64, 64), 2), ((1, 64, 16, 16), 2), ((3, 64, 20, 20), 4)):
        tiles, per_image = winograd.pieces(torch.Size(shape), threads)
        assert tiles * per_image >= winograd.tiles_of(torch.Size(shape))
        assert tiles < winograd.MAX_PIECE + winograd.ROWS and tiles % winograd.ROWS == 0
    assert winograd.pieces(torch.Size((1, 64, 16, 16)), 2)[1] == 2


AVAILABLE = "from v_diffusion.compute import kernels; print(kernels.obstacle() is None)"


FORGET = """
import sys
for name in [*sys.modules]:
    if name.split(".")[0] in ("numba", "v_diffusion"):
        del sys.modules[name]
"""


def start(code: str, **environment: str) -> tuple[str, str]:
    """What code says that is the first to import numba and the kernels."""
    with mock.patch.dict(os.environ, environment):
        done = script.start(cwd=ROOT, script="", code=FORGET + code).wait()
    return done.stdout, done.stderr


def test_without_numba_a_twin_is_the_model(tmp_path):
    """As where it isn't installed: what stands first on the path raises ImportError."""
    (tmp_path / "numba.py").write_text("raise ImportError('none here')\n")
    assert start(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {AVAILABLE}") == (
        "False\n",
        "",
    )


def test_numba_that_may_not_compile():
    assert start(AVAILABLE, NUMBA_DISABLE_JIT="1") == ("False\n", "")


def test_a_folder_that_cannot_be_written_to_is_no_reason_not_to_compile(tmp_path):
    (tmp_path / "file").write_text("")
    found = start(AVAILABLE, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert found == ("True\n", "")


def test_a_damaged_file_of_compiled_code_is_made_anew(tmp_path):
    code = "from v_diffusion.compute.kernels import product"
    assert start(code, XDG_CACHE_HOME=str(tmp_path)) == ("", "")
    files = sorted(tmp_path.rglob("*.nbc"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert start(code, XDG_CACHE_HOME=str(tmp_path)) == ("", "")
    assert all(file.stat().st_size > 100 for file in files)


def test_a_bug_report_says_what_there_is():
    code = "from v_diffusion.__main__ import main; main()"
    out, error = start(code, NUMBA_DISABLE_JIT="1", V_DIFFUSION_CHECKPOINTS="/weights")
    assert not error
    versions, system, device, kernels, folders = out.splitlines()
    assert versions.startswith(f"v-diffusion {__version__}, Python 3.")
    assert f", torch {torch.__version__}, " in versions and f"{os.cpu_count()} cores" in system
    assert device.endswith(" threads")
    assert kernels == "compiled kernels: off, because NUMBA_DISABLE_JIT is set"
    assert folders == f"program: {ROOT / 'v_diffusion'}, weights: /weights"


def test_compiled_code_is_kept_by_the_processors_vectors():
    """Of a home that several machines share, each finds its own."""
    code = """
import llvmlite.binding as llvm
llvm.get_host_cpu_features = lambda: {feature: True for feature in [%r]}
from v_diffusion.compute.kernels import compiler
print(compiler.FOLDER.rpartition("/")[2].partition("-")[2].partition("-")[0])"""
    for feature, lanes in (("sse", "4"), ("avx", "8"), ("avx512f", "16")):
        assert start(code % feature, XDG_CACHE_HOME="/nowhere") == (f"{lanes}\n", "")


def test_a_second_openmp_runtime_is_left_alone(tmp_path):
    """Another library may have brought its own: ours is that in PyTorch's folder."""
    code = f"""
import ctypes, re, shutil, torch
from pathlib import Path
maps = Path("/proc/self/maps").read_text().splitlines()
(own,) = {{line.split()[-1] for line in maps if "libgomp" in line}}
assert own.startswith(str(Path(torch.__file__).resolve().parent)), "skip"
ctypes.CDLL(shutil.copy(own, {str(tmp_path / "libgomp-other.so.1")!r}))
{AVAILABLE}"""
    out, error = start(code)
    if "skip" in error:
        pytest.skip("PyTorch's own runtime is the system's")
    assert (out, error) == ("True\n", "")


def test_the_picture_beyond_its_border_is_zero():
    """After the ReLU: what a shift would make of a zero before it is no part of the picture."""
    x, weight = picture(1, 32, 16, 16), torch.randn(32, 32, 3, 3)
    through = pointwise.Rectifier(torch.ones(1, 32), torch.full((1, 32), 5.0))
    out, _ = winograd.convolve(x, winograd.pack(weight), 32, before=through.values)
    truth = F.conv2d((x.double() + 5).relu(), weight.double(), padding=1)
    assert (out - truth).abs().max() < 2e-5 * truth.abs().max()
