import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from v_diffusion.shell.errors import UserError
from v_diffusion.weights import store, tensors
from v_diffusion.weights.cards import CheckpointError
from v_diffusion.weights.convert import convert


class Evil:
    """Makes the folder `path` when a pickle of it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


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


DAMAGED = "damaged, or not a checkpoint"
ODD = "is no ordinary tensor; save the model's state_dict() alone"
NONE = "it holds no state dict; save the model's state_dict() alone"


def saved(data, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(data, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


@pytest.fixture
def message(tmp_path):
    """`message(content)` is what `read` says of a file with these bytes, without its path."""

    def read(content: bytes) -> str:
        path = tmp_path / "net.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as failure:
            tensors.read(path)
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
    assert str(failure.value) == f"{tmp_path}/net.pth: No such file or directory"
    with pytest.raises(CheckpointError) as failure:
        tensors.read(tmp_path)
    assert str(failure.value) == f"{tmp_path}: Is a directory"


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", DAMAGED),
        (b"\n<!DOCTYPE html><html>", DAMAGED),
        (b"hello\n" * 100, DAMAGED),
        (bytes(range(256)), DAMAGED),
    ],
    ids=["empty", "page", "text", "bytes"],
)
def test_other_files(message, content, text):
    assert message(content) == text


def test_truncated_zip(message):
    content = saved(STATE)
    for size in (4, 40, len(content) // 2, len(content) - 30):
        assert message(content[:size]) == DAMAGED


def test_truncated_legacy(message):
    content = saved({"a": torch.zeros(1000)}, legacy=True)
    for size in (1, 40, len(content) // 2, len(content) - 30):
        assert message(content[:size]) == DAMAGED


def test_another_zip(message):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("picture.png", b"")
    assert message(file.getvalue()) == DAMAGED


def test_what_a_file_says_is_not_executed(message, tmp_path):
    bait = tmp_path / "executed"
    evil = {"a": torch.zeros(2), "b": Evil(bait)}
    asks = "refused: it asks for 'posix.mkdir', and only tensors are read; "
    asks += "save the model's state_dict() alone"
    assert message(saved(evil)) == asks
    assert message(saved(evil, legacy=True)) == asks
    for protocol in range(5):
        assert message(pickle.dumps({"b": Evil(bait)}, protocol)) in (asks, DAMAGED)
    assert not bait.exists()


@pytest.mark.parametrize(
    "data, text",
    [
        ({"a": torch.zeros(1), "step": 3}, f"'step' {ODD}"),
        ({0: torch.zeros(1)}, f"0 {ODD}"),
        ([torch.zeros(1)], NONE),
        ({}, NONE),
    ],
    ids=["number", "name", "list", "nothing"],
)
def test_only_a_plain_state_dict_will_do(message, data, text):
    assert message(saved(data)) == text


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.empty(3, device="meta"),
    ],
    ids=["sparse", "quantised", "meta"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_without_plain_numbers(message, make):
    assert message(saved({"a": make()})) == f"'a' {ODD}"


WRAPPED = {
    "module.": {f"module.{name}": tensor for name, tensor in STATE.items()},
    "_orig_mod.": {f"_orig_mod.{name}": tensor for name, tensor in STATE.items()},
    "model": {"model": STATE, "step": 3},
    "state_dict, model_ema.": {
        "state_dict": {
            **{f"model.{name}": torch.zeros(1) for name in STATE},
            **{f"model_ema.{name}": tensor for name, tensor in STATE.items()},
        },
        "epoch": 1,
    },
}


@pytest.mark.parametrize("places", WRAPPED)
def test_what_a_training_program_saved(message, tmp_path, places):
    """It is told what to do, and that does it."""
    path = tmp_path / "net.pth"
    quoted = ", ".join(map(repr, places.split(", ")))
    assert message(saved(WRAPPED[places])) == (
        f"its weights are under {quoted}; take them out with python -m v_diffusion.weights convert "
        f"{path} NEW.pth"
    )
    convert(path, tmp_path / "new.pth")
    found = tensors.read(tmp_path / "new.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


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


def test_torchscript_is_read(message, torchscript, recwarn):
    path, expected = torchscript
    read = tensors.read(path)
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
    assert len(recwarn) == 0
    content = path.read_bytes()
    assert message(content[: len(content) // 2]) == DAMAGED


@pytest.mark.filterwarnings("ignore")
def test_an_archives_code_is_not_executed(message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(Writer()), "writer.pt")
    content = Path("writer.pt").read_bytes()
    assert message(content) == NONE
    assert not Path("written").exists()
    torch.jit.load("writer.pt")
    assert Path("written").exists()


def test_an_archive_that_asks_for_more_than_tensors(message, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a/constants.pkl", b"")
        made.writestr("a/data.pkl", pickle.dumps(Evil(tmp_path / "executed"), 2))
    text = message(file.getvalue())
    assert text.startswith("refused: it asks for 'posix.mkdir', and only tensors are read; ")
    assert not (tmp_path / "executed").exists()


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
        "of another shape or type: 1.weight (expected [2, 2], found [2, 3] of torch.float32)"
    )


def test_another_models_file():
    state = {f"tower.{i}": torch.zeros(1) for i in range(9)} | {"0.bias": torch.zeros(2)}
    assert misfit(state) == (
        "net.pth: does not fit the model: missing: 0.weight, 1.weight, 1.bias and 4 more; "
        "unexpected: tower.0, tower.1, tower.2 and 6 more"
    )


def test_a_tensor_that_no_parameter_can_be():
    state = small_state() | {"0.bias": torch.zeros(2, dtype=torch.int64)}
    assert misfit(state) == (
        "net.pth: does not fit the model: of another shape or type: "
        "0.bias (expected [2], found [2] of torch.int64)"
    )


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(safe(STATE))
    found = tensors.read(path)
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_damaged_safetensors(message):
    for cut in (40, len(safe(STATE)) - 1):
        assert message(safe(STATE)[:cut]) == DAMAGED


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
    with pytest.raises(UserError, match=f"{target} is there already; remove it, or give ano"):
        convert(source, target)
    with pytest.raises(UserError, match="c.txt: the name has to end with .safetensors, "):
        convert(source, Path("c.txt"))
    with pytest.raises(CheckpointError, match="can't write none/c.pth: No such file or directory"):
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
