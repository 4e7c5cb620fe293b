"""State dicts: what is read, what is refused and why, and what fits a model."""

import io
import pickle
import zipfile

import pytest
import torch
from state_files import DAMAGED, NONE, STATE, Evil, message, saved
from torch import nn

from v_diffusion.weights import tensors
from v_diffusion.weights.cards import CheckpointError

ODD = "is no ordinary tensor; save the model's state_dict() alone"


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
def test_other_files(tmp_path, content, text):
    assert message(tmp_path, content) == text


def test_truncated_zip(tmp_path):
    content = saved(STATE)
    for size in (4, 40, len(content) // 2, len(content) - 30):
        assert message(tmp_path, content[:size]) == DAMAGED


def test_truncated_legacy(tmp_path):
    content = saved({"a": torch.zeros(1000)}, legacy=True)
    for size in (1, 40, len(content) // 2, len(content) - 30):
        assert message(tmp_path, content[:size]) == DAMAGED


def test_another_zip(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("picture.png", b"")
    assert message(tmp_path, file.getvalue()) == DAMAGED


def test_what_a_file_says_is_not_executed(tmp_path):
    bait = tmp_path / "executed"
    evil = {"a": torch.zeros(2), "b": Evil(bait)}
    asks = "refused: it asks for 'posix.mkdir', and only tensors are read; "
    asks += "save the model's state_dict() alone"
    assert message(tmp_path, saved(evil)) == asks
    assert message(tmp_path, saved(evil, legacy=True)) == asks
    for protocol in range(5):
        assert message(tmp_path, pickle.dumps({"b": Evil(bait)}, protocol)) in (asks, DAMAGED)
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
def test_only_a_plain_state_dict_will_do(tmp_path, data, text):
    assert message(tmp_path, saved(data)) == text


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.empty(3, device="meta"),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    ],
    ids=["sparse", "quantised", "meta", "nested"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_without_plain_numbers(tmp_path, make):
    assert message(tmp_path, saved({"a": make()})) == f"'a' {ODD}"


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
