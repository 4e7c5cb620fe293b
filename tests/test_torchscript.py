"""TorchScript archives, read without their code."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from state_files import DAMAGED, NONE, Evil, message
from torch import nn

from v_diffusion.weights import tensors


class Tower(nn.Module):
    """Of CLIP's kind: half precision, modules in modules, a mask that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Parameter(torch.randn(4, 2).half())
        self.register_buffer("positions", torch.arange(3))
        self.blocks = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.LayerNorm(4), nn.ReLU()))
        self.attn_mask = torch.zeros(3)
        self.sizes = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x) @ self.proj.float() + self.attn_mask.sum()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = Tower()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("input_resolution", torch.tensor(32))
        self.context_length = 77

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual(x) * self.logit_scale


class Writer(nn.Module):
    """Writes the file `written` when an archive of it is loaded by PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight = torch.from_file("written", shared=True, size=4)
        self.training = state[1]


@pytest.fixture(scope="module", params=["script", "trace"])
def torchscript(request, tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """An archive, and what PyTorch says is in it."""
    path = tmp_path_factory.mktemp("torchscript") / "clip.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = Small()
        compiled = torch.jit.script(small)
        if request.param == "trace":
            compiled = torch.jit.trace(small, torch.ones(1, 4))
        torch.jit.save(compiled, path)
        return path, torch.jit.load(path).state_dict()


def test_torchscript_is_read(tmp_path, torchscript, recwarn):
    path, expected = torchscript
    read = tensors.read(path)
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
    assert len(recwarn) == 0
    content = path.read_bytes()
    assert message(tmp_path, content[: len(content) // 2]) == DAMAGED


@pytest.mark.filterwarnings("ignore")
def test_an_archives_code_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(Writer()), "writer.pt")
    content = Path("writer.pt").read_bytes()
    assert message(tmp_path, content) == NONE
    assert not Path("written").exists()
    torch.jit.load("writer.pt")
    assert Path("written").exists()


def test_an_archive_that_asks_for_more_than_tensors(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a/constants.pkl", b"")
        made.writestr("a/data.pkl", pickle.dumps(Evil(tmp_path / "executed"), 2))
    text = message(tmp_path, file.getvalue())
    assert text.startswith("refused: it asks for 'posix.mkdir', and only tensors are read; ")
    assert not (tmp_path / "executed").exists()
