"""The benchmark: that it runs, that its baseline does the same work, that docs/ tells it."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import script
import torch
from conftest import assert_gradients_agree, run_python

from benchmark import plain, weights
from benchmark.methods import report, steps_within
from CLIP import guidance
from diffusion import noise
from diffusion.methods import EVALUATIONS, METHODS
from training import evaluate


def benchmark(*args: object, cwd: Path) -> CompletedProcess:
    code = "from benchmark.__main__ import main; main()"
    return script.start(*args, cwd=cwd, script="", code=code).wait()


@pytest.mark.slow
def test_the_short_form(tmp_path):
    """On the model that ships: every part, each configuration but the compiled one."""
    results = tmp_path / "speed.json"
    done = run_python("-m", "benchmark", "--short", "--json", results, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(results.read_text())
    assert list(found) == ["machine", "start", "step", "batches", "memory", "company"]
    assert found["machine"]["versions"]["torch"] and found["machine"]["kernels"]
    assert all(found["start"][kind][0]["begun"]["seconds"] > 0 for kind in ("plain", "ours"))
    assert list(found["step"]["guided"]) == ["plain", "ours", "checkpointing"]
    assert list(found["batches"][0]["guided"]) == ["1", "2"]
    assert all(found["company"][0]["seconds"]["briefly"].values())
    titles = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Start of emoji_64, files in the page cache",
        "## A step of emoji_64",
        "## Batches of emoji_64",
        "## Memory of emoji_64, bytes that one more takes, as the cards have it",
        "## Runs of emoji_64 in company",
    ]
    again = benchmark("--show", results, cwd=tmp_path)
    assert again.stdout == done.stdout


def test_a_part_that_is_none(tmp_path):
    done = benchmark("stepp", cwd=tmp_path)
    assert done.returncode == 2
    parts = "start, step, batches, memory, company"
    assert done.stderr == f"python -m benchmark: no part 'stepp', only {parts}\n"


@pytest.mark.parametrize(
    "name, why",
    [
        ("none.json", "--show: none.json: No such file or directory"),
        (".", "--show: .: Is a directory"),
        ("a.json", "--show: a.json has no figures of a benchmark"),
        ("b.json", "--show: b.json has no figures of a benchmark"),
        ("c.json", "--show: c.json has no figures of a benchmark"),
    ],
)
def test_a_file_that_has_no_figures(tmp_path, name, why):
    for file, text in (("a.json", "{"), ("b.json", "{}"), ("c.json", "[1]")):
        (tmp_path / file).write_text(text)
    done = benchmark("--show", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m benchmark: {why}\n"


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
    x = noise.randn(noise.streams([0, 1]), (3, 64, 64), torch.device("cpu"))
    t, embed = torch.tensor([0.3, 0.8]), torch.randn(2, 256)
    found = []
    for (model, clip_model), make in (
        (evaluate.load()[:2], guidance.make_cond_fn),
        (baseline, plain.make_cond_fn),
    ):
        y = x.clone().requires_grad_()
        v = model(y, t, embed)
        grad = make(clip_model, embed, 50.0, noise.streams([0, 1]))(y, t, y - v)
        found.append((v.detach(), grad))
    (ours, our_grad), (theirs, their_grad) = found
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert_gradients_agree(our_grad, their_grad)


@pytest.mark.parametrize("method", METHODS)
def test_steps_within_a_budget(method):
    steps = steps_within(method, 20)
    assert EVALUATIONS[method](steps) <= 20 < EVALUATIONS[method](steps + 1)


def test_what_was_measured_is_a_table(tmp_path):
    pieces = [
        {"method": "ddim", "budget": 10, "distance": [0.1, 0.3], "nearest": [True, False],
         "ranked": [True, True]},
        {"method": "prk", "budget": 5, "distance": [2.0], "nearest": [False], "ranked": [False]},
    ]  # fmt: skip
    path = tmp_path / "methods_0.jsonl"
    path.write_text("\n".join(map(json.dumps, pieces)))
    head, _, ddpm, ddim, prk, *_ = report(path)
    assert head == "| 2 prompts | 5 | 10 | 15 | 20 | 30 | 50 | 100 | 250 | 1000 |"
    assert ddim == "| `ddim` |  | 0.2 50/100 |" + "  |" * 7
    assert prk == "| `prk` | 2 0/0 (1) |" + "  |" * 8


def test_precisions_in_turn(tmp_path):
    done = run_python("-m", "benchmark", "precision", "--short", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    heads = [line for line in done.stdout.splitlines() if "times as fast" in line]
    assert [head.partition(":")[0] for head in heads] == [
        "emoji_64, step",
        "emoji_64, guided step",
    ]
