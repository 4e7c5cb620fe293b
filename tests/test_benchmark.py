"""The benchmark: that it runs, that its baseline does the same work, that docs/ tells it."""

import json

import pytest
import torch
from conftest import assert_gradients_agree, run_python

from benchmark import plain, weights
from benchmark.methods import report, steps_within
from benchmark.timing import Taken, show
from CLIP import guidance
from diffusion import noise
from diffusion.methods import EVALUATIONS, METHODS
from training import evaluate


@pytest.mark.slow
def test_the_short_form(tmp_path):
    """On the model that ships: every part of which the numbers depend on the machine alone."""
    done = run_python("-m", "benchmark", "--short", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## Start of emoji_64",
        "## A step of emoji_64",
        "## Batches of emoji_64",
        "## Memory of emoji_64, bytes that one more takes, as the cards have it",
        "## Runs of emoji_64 in company",
    ]
    rows = [line.split(" | ")[:2] for line in lines if line.startswith("| ")]
    assert ["| to the end of the first step", "plain"] in rows
    assert ["| a guided step", "--checkpointing"] in rows


def test_a_part_that_is_none(tmp_path):
    done = run_python("-m", "benchmark", "stepp", cwd=tmp_path)
    assert done.returncode == 2
    parts = "start, step, batches, memory, company, precision"
    assert done.stderr == f"python -m benchmark: no part 'stepp', only {parts}\n"


@pytest.mark.slow
def test_what_a_gpu_is_asked_runs_on_a_cpu(tmp_path):
    """With small models: the samplers' golden numbers, and whatever else is a number."""
    out = tmp_path / "cuda.json"
    parts = ("card", "samplers", "guided", "steps", "waits", "asked")
    done = run_python("-m", "benchmark", "cuda", "--dry", "--out", out, *parts, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert max(found["samplers"].values()) < 1e-4 and len(found["samplers"]) == 22
    assert found["guided at 500, fp16"]["finite"] is True
    assert found["asked for, fp16"] == {"asked": 2, "nearest": 2}
    assert found["waits"] == {f"ddpm, guidance {n}, here": "no" for n in (0, 500)}
    assert {name: figures["off"] for name, figures in found["steps"].items() if "here" in name} == {
        "step, batch 1, here": 0.0,
        "guided step, batch 1, here": 0.0,
    }


def test_a_gpu_is_needed(tmp_path):
    done = run_python("-m", "benchmark", "cuda", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "python -m benchmark cuda: no CUDA device is here; use --dry\n"


def test_the_baseline_does_the_same_work():
    _, model_file, clip_file = weights.emoji_64()
    baseline = plain.load_model("emoji_64", model_file), plain.load_clip(clip_file)
    x = noise.randn(noise.streams([2, 3]), (3, 64, 64), torch.device("cpu"))
    t, embed = torch.tensor([0.3, 0.8]), torch.randn(2, 256)
    found = []
    for (model, clip_model), make in (
        (evaluate.load()[:2], guidance.make_cond_fn),
        (baseline, plain.make_cond_fn),
    ):
        y = x.clone().requires_grad_()
        v = model(y, t, embed)
        grad = make(clip_model, embed, 50.0, noise.streams([2, 3]))(y, t, y - v)
        found.append((v.detach(), grad))
    (ours, our_grad), (theirs, their_grad) = found
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert_gradients_agree(our_grad, their_grad)


@pytest.mark.parametrize("method", METHODS)
def test_steps_within_a_budget(method):
    steps = steps_within(method, 20)
    assert EVALUATIONS[method](steps) <= 20 < EVALUATIONS[method](steps + 1)


def test_what_was_measured_is_a_table(tmp_path, capsys):
    pieces = [
        {"method": "ddim", "budget": 10, "distance": [0.1, 0.3], "nearest": [True, False],
         "ranked": [True, True]},
        {"method": "prk", "budget": 5, "distance": [2.0], "nearest": [False], "ranked": [False]},
    ]  # fmt: skip
    path = tmp_path / "methods_0.jsonl"
    path.write_text("\n".join(map(json.dumps, pieces)))
    report(path)
    title, _, head, _, ddpm, ddim, prk, *_ = capsys.readouterr().out.splitlines()
    assert title == "## 2 prompts"
    assert head == "| evaluations | 5 | 10 | 15 | 20 | 30 | 50 | 100 | 250 | 1000 |"
    assert ddim == "| `ddim` |  | 0.2 50/100 |" + "  |" * 7
    assert prk == "| `prk` | 2 0/0 (1) |" + "  |" * 8


def test_precisions_in_turn(tmp_path):
    done = run_python("-m", "benchmark", "precision", "--short", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[:2] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        [f"| {task}", way]
        for task in ("the first step", "a step", "a guided step")
        for way in ("here", "--precision bf16")
    ]


def test_a_table_has_medians_and_the_ratios_of_the_rounds(capsys):
    plain_way, ours = ([Taken(n, 10**9) for n in times] for times in ((2, 9, 4), (1, 3, 4)))
    show("Steps", {"a step": {"plain": plain_way, "here": ours}})
    assert capsys.readouterr().out.splitlines()[2:-1] == [
        "|  |  | time | first / this | peak memory |",
        "| --- | --- | --- | --- | --- |",
        "| a step | plain | 4 (2-9) s | 1 | 1.00 GB |",
        "| a step | here | 3 (1-4) s | 2 (1-3) | 1.00 GB |",
    ]
