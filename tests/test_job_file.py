"""Files that have a job a line, and pictures that are jobs again."""

import json
import os
import signal

import numpy as np
import pytest
import script
from conftest import ROOT, levels
from PIL import Image

from v_diffusion.cli.jobfile import read_orders
from v_diffusion.images import metadata
from v_diffusion.job.job import Job
from v_diffusion.run.request import BadLine, Order

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "0")


def orders(tmp_path, content: str | bytes, **given) -> list[Order | BadLine]:
    path = tmp_path / "jobs"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_orders(open(path, "rb"), "jobs", given))


def test_a_line_says_what_the_command_line_leaves_open(tmp_path):
    lines = """\ufeff{"prompts": ["a fox:2"], "seed": 7, "steps": 30, "output": "foxes/{seed}.png"}

  a plain text, weighted:0.5\r
{"prompts": "b", "clip-guidance-scale": 3, "clip_checkpoint": "c", "n": 4, "output": null}"""
    given = {"model": "emoji_64", "steps": 5, "prompts": ["left out"]}
    assert orders(tmp_path, lines, **given) == [
        Order(Job("a fox:2", model="emoji_64", seed=7, steps=30), 1, "foxes/{seed}.png", "jobs:1"),
        Order(
            Job("a plain text, weighted:0.5", model="emoji_64", steps=5),
            1,
            "out_{i:05}.png",
            "jobs:3",
        ),
        Order(
            Job("b", model="emoji_64", steps=5, clip_guidance_scale=3, clip_checkpoint="c"),
            4,
            "out_{i:05}.png",
            "jobs:4",
        ),
    ]


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"prompts": "a"', "not a JSON object; mend it, or write a prompt without quotes"),
        (
            '{"promts": "a"}',
            "'promts' is not an option of a job; use prompts, images, model, ",
        ),
        ('{"cut_pw": 1}', "'cut-pw' is not an option of a job; use prompts, "),
        ("[" * 10**5, "not a JSON object; mend it"),
        ('{"seed": ' + "[" * 10**5 + "}", "not a JSON object; mend it"),
        ('{"seed": ' + "9" * 6000 + "}", "not a JSON object; mend it"),
        ('{"steps": 2.5}', "--steps: 2.5 is not a whole number from 1 to 1000000"),
        ('{"colour": "red"}', "'colour' is not an option of a job; use prompts, images, model, "),
        ('{"batch-size": 3}', "'batch-size' is not an option of a job; use prompts, "),
        ('{"n": 0}', "n: 0 is not a whole number of at least 1"),
        ('{"output": 3}', "output: 3 is not a text"),
        ('{"model": ["emoji_64"]}', "--model: ['emoji_64'] is not a text"),
        (
            '{"seed": 18446744073709551615, "n": 2}',
            "--seed: the last image's would exceed 18446744073709551615; use a smaller one",
        ),
        ('{"steps": "many"}', "--steps: 'many' is not a whole number from 1 to 1000000"),
        ('{"prompts": [""]}', "prompts: '' is empty; complete it or leave it out"),
        (":2", "prompts: ':2' is empty; complete it or leave it out"),
        (b"\xff", "not UTF-8 text; save the file in UTF-8"),
    ],
)
def test_a_bad_line(tmp_path, line, message):
    found, after = orders(
        tmp_path, line + (b"\nb" if isinstance(line, bytes) else "\nb"), prompts=["a"]
    )
    assert isinstance(found, BadLine) and found.line == "jobs:1"
    assert message in str(found.error)
    assert after.job.prompts == (("b", 1.0),)


def test_a_line_of_another_script_takes_what_that_has(tmp_path):
    given = {"prompts": ["a"], "clip_guidance_scale": 0, "seed": 3, "model": "emoji_64", "n": 2}
    lines = ['{"script": "cfg_sample"}', '{"script": "cfg_modify_image", "init": "a.png"}']
    lines += ['{"script": "cfg_sample", "cutn": 3}', '{"script": "cfg_modify_image"}']
    drawn, modified, own, without = orders(tmp_path, "\n".join(lines), **given)
    assert (drawn.job.seed, drawn.job.model, drawn.n) == (3, "emoji_64", 2)
    assert (
        modified.job.init == "a.png" and modified.n == 1 and modified.job.prompts == (("a", 3.0),)
    )
    assert "--cutn is an option of clip_sample.py, not of cfg_sample.py; leave it out" in str(
        own.error
    )
    assert 'name it before prompts, or as "init" in a job line' in str(without.error)


LINES = """{"prompts": ["a fox:2"], "seed": 7, "output": "foxes/{seed}.png"}
{"prompts": "red apple", "steps": "x"}
blue heart
{"prompts": ["red apple"], "n": 2, "clip-guidance-scale": 20}
{"images": ["none.png"]}
{"prompts": "rocket", "method": "plms2"}
"""


def test_a_job_file(clip_sample, tmp_path):
    (tmp_path / "jobs").write_text(LINES)
    done = clip_sample("--jobs", "jobs", *QUICK)
    assert done.returncode == 2
    names = ["foxes/7.png", "out_00002.png", "out_00003.png", "out_00004.png", "out_00006.png"]
    assert done.stdout.split() == names
    said = done.stderr.splitlines()
    assert "jobs:2: --steps: 'x' is not a whole number from 1 to 1000000" in said
    assert "jobs:5: image prompt none.png: there is no such file" in said
    assert said[-1] == "clip_sample.py: not drawn: jobs:2, jobs:5"
    # Each as in a run of its own.
    for name, *alone in (
        ("foxes/7.png", "a fox:2", *QUICK, "--seed", "7"),
        ("out_00003.png", "red apple", *QUICK, "-cs", "20"),
        ("out_00006.png", "rocket", *QUICK, "--method", "plms2"),
    ):
        assert clip_sample(*alone, "--output", "alone.png").returncode == 0
        np.testing.assert_array_equal(levels(tmp_path / "alone.png"), levels(tmp_path / name))

    # Mended, in batches, resumed: what was there stays.
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in names}
    (tmp_path / "out_00002.png").unlink()
    (tmp_path / "jobs").write_text(LINES.replace('"x"', "3").replace("none.png", "alone.png"))
    done = clip_sample("--jobs", "jobs", *QUICK, "--resume")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted([*names, "out_00001.png", "out_00005.png"])
    now = {name: (tmp_path / name).stat().st_mtime_ns for name in names}
    assert now.pop("out_00002.png") != kept.pop("out_00002.png") and now == kept


def test_batches_of_a_job_file_are_the_pictures_of_runs_alone(clip_sample, tmp_path):
    texts = ["red apple", "fox", "ghost", "owl"]
    lines = [json.dumps({"prompts": text, "seed": i, "clip-guidance-scale": 10 * i + 5})
             for i, text in enumerate(texts)]  # fmt: skip
    (tmp_path / "jobs").write_text("\n".join(lines))
    for size in (1, 4):
        done = clip_sample("--jobs", "jobs", *QUICK, "-bs", size, "--output", f"{size}_{{i}}.png")
        assert done.returncode == 0, done.stderr
    for i in range(4):
        off = levels(tmp_path / f"1_{i}.png") - levels(tmp_path / f"4_{i}.png")
        assert (np.abs(off) <= 1).mean() >= 0.999
        assert metadata.read(tmp_path / f"4_{i}.png")["clip_guidance_scale"] == 10 * i + 5


def test_a_pipe_gets_a_path_for_each_line_before_it_sends_the_next(tmp_path):
    """Even in batches: nobody waits for company that may never come."""
    os.mkfifo(tmp_path / "pipe")
    running = script.start("--jobs", "-", *QUICK, "-bs", "4", cwd=tmp_path, stdin=tmp_path / "pipe")
    with open(tmp_path / "pipe", "w", buffering=1) as pipe:
        for line, paths in (
            ("red apple", ["out_00000.png"]),
            ('{"prompts": "fox", "output": "fox_{i}.webp"}', ["out_00000.png", "fox_1.webp"]),
        ):
            pipe.write(line + "\n")
            running.wait_for(lambda: running.stdout.read_text().split() == paths)  # noqa: B023
            assert levels(tmp_path / paths[-1]).shape == (64, 64, 3)
    assert running.wait().returncode == 0


def test_ctrl_c_while_a_pipe_says_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    running = script.start("--jobs", "-", *QUICK, cwd=tmp_path, stdin=tmp_path / "pipe")
    with open(tmp_path / "pipe", "w", buffering=1) as pipe:
        pipe.write("red apple\n")
        running.wait_for(lambda: running.stdout.read_text() == "out_00000.png\n")
        running.signal(signal.SIGINT)
        assert running.wait().returncode == 130  # though the pipe is still open
    assert sorted(os.listdir(tmp_path)) == ["out_00000.png", "pipe"]


def test_a_line_too_large_for_fp32_is_its_own_mistake(clip_sample, tmp_path):
    (tmp_path / "jobs").write_text("red apple\nfox:1e39\n" + '{"a":' + "[" * 100_000)
    done = clip_sample("--jobs", "jobs", *QUICK, "-bs", "2")
    assert (done.returncode, done.stdout) == (2, "out_00000.png\n")
    said = done.stderr.splitlines()
    assert "jobs:2: the prompts' weights are too large; keep their sum below 3.4e+38" in said
    assert said[-1] == "clip_sample.py: not drawn: jobs:2, jobs:3" and len(said) == 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--jobs", "none"), "--jobs: none: No such file or directory"),
        (("--jobs", ""), "--jobs: '': No such file or directory"),
        (
            ("a", "--output", "a.png.preview.png"),
            "--output: a.png.preview.png: names that end in "
            ".preview.png are reserved for previews; give another name",
        ),
        (
            ("--jobs", "-", "--again", "x.png"),
            "--jobs and --again exclude each other; drop one of them",
        ),
        (("--again", "none.png"), "--again: none.png: No such file or directory"),
        (
            ("--again", "fox"),
            "--again: fox: No such file or directory; put prompts before the options, or after --",
        ),
    ],
)
def test_mistakes(clip_sample, tmp_path, arguments, message):
    done = clip_sample(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == f"clip_sample.py: {message}"
    assert not os.listdir(tmp_path)


def test_again(clip_sample, tmp_path):
    picture = ROOT / "tests" / "data" / "e2e" / "prompt.png"
    run = ("fox:2", "fog:-0.5", "--images", f"{picture}:0.5", *QUICK, "--eta", "0.5", "-cs", "9")
    assert clip_sample(*run, "--seed", "4", "--output", "a.webp").returncode == 0
    assert clip_sample("owl", *QUICK, "--method", "plms2", "--output", "b.png").returncode == 0

    done = clip_sample("--again", "a.webp", "b.png", "--output", "again_{i}.png")
    assert done.returncode == 0, done.stderr
    for old, new in (("a.webp", "again_0.png"), ("b.png", "again_1.png")):
        np.testing.assert_array_equal(levels(tmp_path / old), levels(tmp_path / new))

    done = clip_sample("ghost", "--again", "a.webp", "--steps", "3", "--seed", "1", "-n", "2")
    assert done.returncode == 0, done.stderr
    record = metadata.read(tmp_path / "out_00001.png")
    assert (record["seed"], record["steps"], record["eta"]) == (2, 3, 0.5)
    assert record["prompts"] == [{"text": "ghost", "weight": 1.0}]
    assert record["images"][0]["weight"] == 0.5 and record["clip_guidance_scale"] == 9

    done = clip_sample("--again", "b.png", "--output", "b.png")
    assert (done.returncode, done.stdout) == (2, "")
    why = "b.png is an input picture; give another name"
    assert done.stderr.splitlines()[-1] == f"clip_sample.py: --output: b.png: {why}"

    assert clip_sample("a", *QUICK, "--no-metadata", "--output", "c.png").returncode == 0
    done = clip_sample("--again", "c.png")
    assert done.returncode == 2 and "--again: c.png does not say how it was made" in done.stderr


def test_a_job_file_that_is_no_text(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    done = script.start("--jobs", "a.png", *QUICK, cwd=tmp_path).wait()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "clip_sample.py: --jobs: a.png is not a text file; give one job a line\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
