import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from v_diffusion.weights import store, tensors
from v_diffusion.weights.convert import convert
from v_diffusion.weights.store import CheckpointError


class Evil:
    """Makes the folder `path` when a pickle of it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.register_buffer("size", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


def saved(data, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(data, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


@pytest.fixture
def message(tmp_path):
    """`message(content)` is what `read` says of a file with these bytes, without its path."""

    def read(content: bytes, **options) -> str:
        path = tmp_path / "net.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as failure:
            tensors.read(path, **options)
        text = str(failure.value)
        assert text.startswith(f"{path}: ") and "\n" not in text
        return text.removeprefix(f"{path}: ")

    return read


def safe(state_dict) -> bytes:
    return safetensors.torch.save(state_dict)


STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


@pytest.mark.parametrize("legacy", [False, True])
def test_both_formats_are_read(tmp_path, legacy):
    path = tmp_path / "net.pth"
    path.write_bytes(saved(STATE, legacy))
    read = tensors.read(str(path))
    assert list(read) == ["a", "b"]
    assert all(torch.equal(read[name], STATE[name]) for name in STATE)
    assert read["b"].dtype == torch.float16


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError) as failure:
        tensors.read(tmp_path / "net.pth")
    assert str(failure.value) == f"{tmp_path}/net.pth: there is no such file"
    with pytest.raises(CheckpointError) as failure:
        tensors.read(tmp_path)
    assert str(failure.value) == f"{tmp_path}: not a file"


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html>", "a web page (HTML), not a checkpoint"),
        (b"<HTML><body>404", "a web page (HTML), not a checkpoint"),
        (b'<?xml version="1.0"?><Error>', "a web page (HTML), not a checkpoint"),
        (b"hello\n" * 100, "not a checkpoint: neither a zip archive nor a pickle"),
        (bytes(range(256)), "not a checkpoint: neither a zip archive nor a pickle"),
    ],
    ids=["empty", "doctype", "html", "xml", "text", "bytes"],
)
def test_other_files(message, content, text):
    assert message(content) == text


def test_truncated_zip(message):
    content = saved(STATE)
    for size in (4, 40, len(content) // 2, len(content) - 30):
        assert message(content[:size]) == "truncated: the end of the zip archive is missing"


def test_truncated_legacy(message):
    content = saved({"a": torch.zeros(1000)}, legacy=True)
    for size in range(1, len(content), 97):
        assert message(content[:size]).startswith("truncated")


def test_another_zip(message):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("picture.png", b"")
    assert message(file.getvalue()) == "a zip archive, but not one that torch.save wrote"


def test_what_a_file_says_is_not_executed(message, tmp_path):
    bait = tmp_path / "executed"
    evil = {"a": torch.zeros(2), "b": Evil(bait)}
    asks = "refused: it asks for 'posix.mkdir', and only tensors are read"
    assert message(saved(evil)) == asks
    assert message(saved(evil, legacy=True)) == asks
    for protocol in range(5):
        text = message(pickle.dumps({"b": Evil(bait)}, protocol))
        assert text == "refused: a pickle that torch.save did not write"
    assert not bait.exists()


@pytest.mark.parametrize(
    "data, text",
    [
        ({"model": STATE}, "not a plain state dict: 'model' is of type dict"),
        ({"a": torch.zeros(1), "step": 3}, "not a plain state dict: 'step' is of type int"),
        ({0: torch.zeros(1)}, "not a plain state dict: 0 is of type Tensor"),
        ([torch.zeros(1)], "not a state dict: it holds a list"),
        ({}, "not a state dict: it holds no tensor"),
    ],
    ids=["nested", "number", "name", "list", "nothing"],
)
def test_only_a_plain_state_dict_will_do(message, data, text):
    assert message(saved(data)) == text


@pytest.fixture(scope="module")
def torchscript() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Scale()), file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_torchscript_is_refused_unless_allowed(message, torchscript):
    text = "refused: a TorchScript archive, which holds code, not a state dict"
    assert message(torchscript) == text


@pytest.mark.filterwarnings("ignore:.*jit.(script|save):FutureWarning")
def test_torchscript_is_read_where_allowed(message, torchscript, tmp_path, recwarn):
    path = tmp_path / "clip.pt"
    path.write_bytes(torchscript)
    read = tensors.read(path, torchscript=True)
    assert {name: tensor.tolist() for name, tensor in read.items()} == {
        "weight": [1.0, 2.0],
        "size": 3,
    }
    assert len(recwarn) == 0
    assert message(saved({}), torchscript=True) == "not a state dict: it holds no tensor"
    cut = torchscript[: len(torchscript) // 2]
    assert message(cut, torchscript=True).startswith("truncated")


def small_model() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))


def small_state() -> dict[str, torch.Tensor]:
    return {name: torch.zeros(tensor.shape) for name, tensor in small_model().state_dict().items()}


def misfit(state: dict[str, torch.Tensor]) -> str:
    with pytest.raises(CheckpointError) as failure:
        tensors.load_into(small_model(), state, "net.pth")
    return str(failure.value)


def test_load_into_a_model_on_meta():
    model, state = small_model(), small_state()
    tensors.load_into(model, state, "net.pth")
    assert model(torch.ones(1, 2)).tolist() == [[0.0, 0.0]]
    assert model[0].weight.data_ptr() == state["0.weight"].data_ptr()


def test_a_missing_an_unexpected_and_a_misshapen_name():
    state = small_state()
    del state["3.bias"]
    state["head.bias"] = torch.zeros(1)
    state["1.weight"] = torch.zeros(2, 3)
    assert misfit(state) == (
        "net.pth: does not fit the model: missing: 3.bias; unexpected: head.bias; "
        "of another shape: 1.weight (expected [2, 2], found [2, 3])"
    )


def test_another_models_file():
    state = {f"tower.{i}": torch.zeros(1) for i in range(9)} | {"0.bias": torch.zeros(2)}
    assert misfit(state) == (
        "net.pth: does not fit the model: missing: 0.weight, 1.weight, 1.bias and 4 more; "
        "unexpected: tower.0, tower.1, tower.2 and 6 more; this looks like another model's file"
    )


def test_a_tensor_that_no_parameter_can_be():
    state = small_state() | {"0.bias": torch.zeros(2, dtype=torch.int64)}
    assert misfit(state).startswith("net.pth: does not fit the model: ")


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(safe(STATE))
    found = tensors.read(path)
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_damaged_safetensors(message):
    for cut in (40, len(safe(STATE)) - 1):
        assert message(safe(STATE)[:cut]).startswith("truncated or damaged safetensors: ")


@pytest.mark.parametrize("way", [("a.pth", "b.safetensors"), ("a.safetensors", "b.pth")])
def test_convert(tmp_path, monkeypatch, way):
    """There and back, with tensors that share memory or have gaps in it."""
    monkeypatch.chdir(tmp_path)
    source, target = map(Path, way)
    row = torch.arange(12.0)
    given = {**STATE, "row": row, "also": row, "gaps": row.view(3, 4).T}
    if source.suffix == ".pth":
        torch.save(given, source)
    else:
        source.write_bytes(
            safe({name: tensor.clone().contiguous() for name, tensor in given.items()})
        )
    convert(source, target)
    found = tensors.read(target)
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    assert found.keys() == given.keys()
    assert target.stat().st_mode == source.stat().st_mode and len(os.listdir()) == 2
    with pytest.raises(CheckpointError, match=f"{target} is there already; remove it, or give ano"):
        convert(source, target)
    with pytest.raises(CheckpointError, match="c.txt: its end says no format; there are .safetens"):
        convert(source, Path("c.txt"))
    with pytest.raises(CheckpointError, match="none is not a folder; make it, or name another"):
        convert(source, Path("none/c.pth"))
    assert len(os.listdir()) == 2


def test_the_model_that_ships_as_safetensors(clip_sample, tmp_path):
    """Both networks; and the picture is the same."""
    run = ("red apple", "--model", "emoji_64", "--device", "cpu", "--steps", "2", "--no-metadata")
    for name in ("emoji_64", "emoji_64_clip"):
        convert(store.obtain(name), tmp_path / f"{name}.safetensors")
    assert clip_sample(*run).returncode == 0
    files = (
        "--checkpoint",
        "emoji_64.safetensors",
        "--clip-checkpoint",
        "emoji_64_clip.safetensors",
    )
    done = clip_sample(*run, *files, "--output", "safe.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "safe.png").read_bytes() == (tmp_path / "out_00000.png").read_bytes()
