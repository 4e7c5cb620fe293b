"""Options that say, name and choose: seeds, names of files, quiet, version, threads, prompts."""

import json
import re
import shutil

import numpy as np
import pytest
import script
import torch
from conftest import ROOT, levels, run_python

from diffusion.methods import METHODS, MIN_STEPS, MIN_STEPS_BY_CLIP, MIN_STEPS_BY_WORDS
from v_diffusion.cli import orders as cli_orders
from v_diffusion.cli.jobfile import read_orders
from v_diffusion.cli.orders import order_of
from v_diffusion.images import metadata
from v_diffusion.job.hints import hints
from v_diffusion.job.job import Job
from v_diffusion.run.request import Order
from v_diffusion.run.tasks import tasks_of
from v_diffusion.shell.errors import UserError
from v_diffusion.version import __version__
from v_diffusion.weights import store

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "0")
SCRIPTS = ("clip_sample", "cfg_sample", "cfg_modify_image")


@pytest.mark.parametrize("said", ["-1", "random"])
def test_a_random_seed_is_told_and_recorded(clip_sample, tmp_path, said):
    done = clip_sample("fox", *QUICK, "--seed", said, "-n", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    (seed,) = map(int, re.fullmatch(r"seed: (\d+)\n", done.stderr).groups())
    found = [metadata.read(tmp_path / f"out_0000{i}.png")["seed"] for i in range(2)]
    assert found == [seed, seed + 1]
    done = clip_sample("--again", "out_00000.png", "-o", "again.png", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(
        levels(tmp_path / "again.png"), levels(tmp_path / "out_00000.png")
    )


def test_a_random_seed_is_another_each_time(monkeypatch):
    numbers = iter([5, 6])
    monkeypatch.setattr(cli_orders.secrets, "randbelow", lambda below: next(numbers))
    assert [order_of({"prompts": "a", "seed": "random"}).job.seed for _ in range(2)] == [5, 6]
    assert cli_orders.DRAWN_SEEDS == 2**32


def test_random_seeds_of_a_job_file(tmp_path, monkeypatch, caplog):
    numbers = iter([8, 7, 6])
    monkeypatch.setattr(cli_orders.secrets, "randbelow", lambda below: next(numbers))
    lines = [{"prompts": "a", "seed": -1}, {"prompts": "b", "seed": 3}, "c", {"seed": "random"}]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (tmp_path / "jobs").write_text(text)
    given = {"prompts": ["d"], "seed": "random", "model": "emoji_64"}
    orders = list(read_orders(open(tmp_path / "jobs", "rb"), "jobs", given))
    assert [order.job.seed for order in orders] == [8, 3, 7, 6]
    assert caplog.messages == ["jobs:1: seed: 8", "jobs:3: seed: 7", "jobs:4: seed: 6"]


def test_several_processes_do_not_draw_a_seed_each(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--seed: several processes would draw different seeds"):
        order_of({"prompts": "a", "seed": -1})
    assert order_of({"prompts": "a", "seed": 4}).job.seed == 4


def test_prompts_in_the_names_of_a_job_file():
    refused = []
    orders = [
        Order(Job(text), 1, "{prompt}.png", f"{i}") for i, text in enumerate(("a", "b", "a!"))
    ]
    found = list(tasks_of(orders, lambda line, error: refused.append((line, str(error)))))
    assert [str(task.path) for task in found] == ["a.png", "b.png"]
    why = "images 0 and 2 would both be a.png; put {i} or {seed} in it"
    assert refused == [("2", f"--output: {{prompt}}.png: {why}")]


def test_a_prompt_in_a_name(clip_sample, tmp_path):
    done = clip_sample("red apple", "../fog:0.1", *QUICK, "-o", "made/{prompt}_{seed}.png")
    assert (done.returncode, done.stdout) == (0, "made/red_apple_fog_0.png\n"), done.stderr
    assert (tmp_path / "made" / "red_apple_fog_0.png").is_file()


def test_quiet_says_only_what_is_wrong(clip_sample, tmp_path):
    words = ("red apple", *QUICK, "--quiet", "-n", "2", "--grid")
    done = clip_sample(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "out_00000.png\nout_00001.png\ngrid.png\n"
    done = clip_sample(*words, "--compile", "--method", "prk")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: --steps: prk needs at least 5 steps to get from noise to a picture, not 2; raise "
        "--steps, or use --method ddim",
        "warning: --compile has no effect on cpu; it is for CUDA",
    ]
    done = clip_sample("red apple", *QUICK, "--images", "none.png", "--quiet")
    assert done.stderr == "clip_sample.py: image prompt none.png: there is no such file\n"


@pytest.mark.parametrize("name", [*SCRIPTS, "make_grid"])
def test_version(tmp_path, name):
    done = script.start("--version", cwd=tmp_path, script=f"{name}.py").wait()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}.py {__version__}\n", "")


def test_version_of_the_checkpoints_command(tmp_path):
    done = run_python("-m", "v_diffusion.weights", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"python -m v_diffusion.weights {__version__}\n")


def test_threads():
    from v_diffusion.run.ranks import Rank
    from v_diffusion.run.request import Execution, OutputOptions, Request
    from v_diffusion.run.run import Run

    before = torch.get_num_threads()
    try:
        _ = Run(Request([], Execution("cpu", threads=before + 1), OutputOptions()), Rank()).studio
        assert torch.get_num_threads() == before + 1
        torch.set_num_threads(before)
        _ = Run(Request([], Execution("cpu"), OutputOptions()), Rank()).studio
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_threads_are_no_setting_of_a_picture(clip_sample, tmp_path):
    assert clip_sample("fox", *QUICK, "--threads", "1").returncode == 0
    done = clip_sample("fox", *QUICK, "--threads", "2", "--resume")
    assert (done.returncode, done.stdout) == (0, "out_00000.png\n"), done.stderr
    done = clip_sample("fox", *QUICK, "--threads", "0")
    assert done.returncode == 2 and "'0' is not a whole number from 1 to 1024" in done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_list_prompts(tmp_path, name):
    known = json.loads((store.FOLDER / "emoji_64.json").read_text())
    listed = known["names"]
    words = ("--list-prompts", "--model", "emoji_64")
    done = script.start(*words, cwd=tmp_path, script=f"{name}.py").wait()
    assert (done.returncode, done.stderr) == (0, f"emoji_64 {known['limits']}\n")
    assert "one thing a picture" in known["limits"] and "grey image prompts" in known["limits"]
    assert [line.split("\t") for line in done.stdout.splitlines()] == list(
        map(list, listed.items())
    )
    assert len(listed) == 496 and listed["fox"] == "🦊"
    done = script.start("--list-prompts", cwd=tmp_path, script=f"{name}.py").wait()
    assert (done.returncode, done.stdout) == (2, "")
    why = "has no list of what it knows; use --model emoji_64"
    assert re.fullmatch(rf"{name}.py: --list-prompts: cc12m_1\w* {why}\n", done.stderr)


def test_listing_prompts_imports_no_torch(tmp_path):
    code = (
        "import sys, clip_sample\n"
        "clip_sample.main(['--list-prompts', '--model', 'emoji_64'])\n"
        "print('torch' in sys.modules)"
    )
    assert run_python("-c", code, cwd=tmp_path).stdout.endswith("\nFalse\n")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "job, needed",
    [
        ({"clip_guidance_scale": 0}, MIN_STEPS),
        ({}, MIN_STEPS_BY_CLIP),
        ({"script": "cfg_sample"}, MIN_STEPS_BY_WORDS),
        ({"script": "cfg_sample", "prompts": ()}, MIN_STEPS),
    ],
)
def test_too_few_steps_for_a_method(method, job, needed):
    least, job = needed.get(method, 0), {"prompts": "a", "method": method, **job}
    for steps in range(1, 28):
        found = list(hints(Job(**job, steps=steps), {}))
        assert len(found) == (steps < least)
        start = f"warning: --steps: {method} needs at least {least} steps to get from noise to a "
        end = f"picture, not {steps}; raise --steps, or use --method ddim"
        assert all(text == start + end for text in found)
        # A picture with some noise is no noise, which these methods begin badly with.
        assert not list(hints(Job(**job, steps=steps, init="a.png"), {}))
    guided = set() if needed is MIN_STEPS else {"iplms"}
    assert set(needed) == {"prk", "plms", "pie", "plms2"} | guided


def test_too_few_steps_there_and_back():
    job = {"script": "cfg_modify_image", "init": "a.png", "method": "plms", "steps": 5}
    assert len(list(hints(Job(**job), {}))) == 1
    assert not list(hints(Job(**job, max_timestep=0.9), {}))


@pytest.mark.parametrize(
    "said, scale, told",
    [
        ({"cutn": 4}, 0, "warning: --cutn has no effect without prompts and a --clip-guidan"),
        ({"cut_pow": 2.0}, 0, "warning: --cut-pow has no effect without prompts and a --clip-gui"),
        ({"cutn": 16}, 0, None),  # as always, as a picture's record has it
        ({"cutn": 4, "cut_pow": 2.0}, 3, None),
    ],
)
def test_cutouts_that_nobody_looks_at(said, scale, told):
    job = Job("a", model="emoji_64", clip_guidance_scale=scale, **said)
    found = list(hints(job, said))
    assert found == [] if told is None else found[0].startswith(told) and len(found) == 1


@pytest.mark.parametrize("scale, told", [("0", True), ("5", False)])
def test_checkpointing_that_nothing_needs(clip_sample, tmp_path, scale, told):
    done = clip_sample("fox", *QUICK, "-cs", scale, "--checkpointing", "--steps", "10", "-n", "1")
    assert done.returncode == 0, done.stderr
    warning = "warning: --checkpointing has no effect without CLIP's guidance"
    assert (warning in done.stderr.splitlines()) == told


def test_a_warning_is_told_once(clip_sample, tmp_path):
    (tmp_path / "jobs").write_text("fox\nowl\n" + '{"prompts": "a", "init": "a.png"}')
    shutil.copy(ROOT / "tests" / "data" / "later" / "init.png", tmp_path / "a.png")
    done = clip_sample("--jobs", "jobs", *QUICK, "-st", "0.9")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == ["warning: --starting-timestep has no effect without --init"]
