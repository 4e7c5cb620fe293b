import json
import os
import shlex
import shutil
import subprocess

import pytest
from records import JOB, PLAIN, RECORD, texts

from diffusion import methods
from v_diffusion.images.metadata import infotext
from v_diffusion.images.record import SAMPLERS, difference, job_of
from v_diffusion.job.command import command_of
from v_diffusion.job.job import Job, JobError
from v_diffusion.job.prompt import Prompt, parse_prompt, write_prompt


def test_record():
    assert {
        "program": "v-diffusion",
        "version": "0.1.0",
        "torch": "2.14.0",
        "script": "clip_sample",
        "prompts": [
            {"text": "red apple", "weight": 1.0},
            {"text": "fog, thick", "weight": -0.5},
            {"text": "morning: 7 o'clock\nlight", "weight": 2.25},
        ],
        "images": [{"image": "http://localhost/a,b.png", "weight": 1.5, "sha256": "c" * 64}],
        "model": "emoji_64",
        "model_sha256": "a05dd37d" + "0" * 56,
        "checkpoint": None,
        "clip": "emoji_64_clip",
        "clip_sha256": "912732a1" + "0" * 56,
        "clip_checkpoint": None,
        "guides": [],
        "sampler": "DDIM",
        "seed": 7,
        "index": 3,
        "steps": 50,
        "eta": 0.5,
        "clip_guidance_scale": 500.0,
        "cutn": 16,
        "cut_pow": 1.0,
        "cut_batches": 1,
        "init": None,
        "starting_timestep": None,
        "max_timestep": None,
        "mask": None,
        "guide_between": None,
        "threshold": None,
        "width": 64,
        "height": 48,
        "precision": None,
        "command": shlex.join(
            ["./clip_sample.py", "--images", "http://localhost/a,b.png:1.5", "--model", "emoji_64"]
            + [
                "--method",
                "ddim",
                "--steps",
                "50",
                "--eta",
                "0.5",
                "--size",
                "64",
                "48",
                "--seed",
                "7",
            ]
            + ["--clip-guidance-scale", "500.0", "--", *map(write_prompt, JOB.prompts)]
        ),
    } == RECORD


def test_the_command_is_one_line_of_a_shell():
    job = Job(images=["it's.png:1.5"], model="emoji_64", method="plms", steps=9, checkpoint="a b")
    assert command_of(job) == (
        """./clip_sample.py --images 'it'"'"'s.png:1.5' --model emoji_64 --checkpoint 'a b' """
        "--method plms --steps 9 --eta 0.0 --clip-guidance-scale 50.0"
    )


JOBS = [
    JOB,
    Job("-odd: prompt:2.0", images="x:y.png", model="emoji_64", seed=2**64 - 1),
    *(Job("a", model="emoji_64", method=method, steps=3) for method in methods.METHODS),
    Job("--", model="emoji_64", checkpoint="a b.pth", clip_checkpoint="--clip.pth", eta=0.1),
    Job("a:1e-30", model="emoji_64", clip_guidance_scale=1e300, images="caf\udce9.png"),
]


@pytest.mark.parametrize("job", JOBS, ids=range(len(JOBS)))
def test_the_job_comes_back_from_its_record(job):
    from records import SOURCES

    from v_diffusion.images.inputs import Input, Inputs
    from v_diffusion.images.record import record

    inputs = Inputs(tuple(Input(None, "c" * 64) for _ in job.images))
    made = json.loads(json.dumps(record(job, inputs, SOURCES, 0)))
    assert job_of(made) == job
    # Records were without these fields at first, and had the paths in the command alone.
    old = {name: value for name, value in made.items() if not name.endswith("checkpoint")}
    assert job_of(old) == job


@pytest.mark.parametrize(
    "text, weight",
    [
        ("Dune: 2", 1.0),
        ("a", 2.5),
        ("a:b", 1.0),
        ("a:1", 1.0),
        ("", -1e-3),
        ("at 12:30", 1.0),
        ("at 12:30", 25.0),
        ("at 12", 30.0),
        ("http://h:80", 1.0),
        ("http://h:80", 2.0),
        ("http://h", 80.0),
    ],
)
def test_a_prompt_is_written_so_that_it_is_parsed_back(text, weight):
    assert parse_prompt(write_prompt(Prompt(text, weight))) == (text, weight)
    assert write_prompt(Prompt("plain", 1.0)) == "plain"


def test_a_record_of_another_programs_sampler():
    with pytest.raises(JobError, match="'Euler a' is not a sampler; known are DDIM, PRK, "):
        job_of(RECORD | {"sampler": "Euler a"})


@pytest.mark.parametrize("broken", [{}, {"prompts": 3}, RECORD | {"prompts": 3}])
def test_what_is_no_record_has_no_job(broken):
    with pytest.raises((KeyError, TypeError, AttributeError, ValueError)):
        job_of(broken)


@pytest.mark.parametrize(
    "change, found",
    [
        (
            {"prompts": texts(("green apple", 1))},
            ("list of prompts", '["red apple"]', '["green apple"]'),
        ),
        (
            {"prompts": texts(("red apple", 2.5))},
            ("list of prompts", '["red apple"]', '["red apple:2.5"]'),
        ),
        (
            {"prompts": texts(("red apple", 1), ("fog", 1))},
            ("list of prompts", '["red apple"]', '["red apple", "fog"]'),
        ),
        ({"prompts": []}, ("list of prompts", '["red apple"]', "[]")),
        (
            {"images": [{"image": "x.png", "weight": 1.0, "sha256": "c" * 64}]},
            ("list of image prompts", "[]", f'["{"c" * 64}"]'),
        ),
        (
            {"init": {"image": "x.png", "sha256": "c" * 64}},
            ("init image", "null", f'"{"c" * 64}"'),
        ),
        ({"cutn": 8}, ("cutn", "16", "8")),
        ({"model_sha256": "b" * 8}, ("model sha256", f'"a05dd37d{"0" * 56}"', '"bbbbbbbb"')),
        ({"clip_sha256": "b" * 8}, ("clip sha256", f'"912732a1{"0" * 56}"', '"bbbbbbbb"')),
        ({"seed": 8}, ("seed", "7", "8")),
        ({"steps": 25}, ("steps", "50", "25")),
        ({"eta": 1.0}, ("eta", "0.0", "1.0")),
        ({"clip_guidance_scale": 0.0}, ("clip guidance scale", "500.0", "0.0")),
        ({"width": 32}, ("width", "64", "32")),
        ({"height": 32}, ("height", "48", "32")),
        ({"version": "0.2.0"}, ("version", '"0.1.0"', '"0.2.0"')),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_difference(change, found):
    assert difference(json.loads(json.dumps(PLAIN)), PLAIN | change) == found


def test_what_makes_no_difference():
    moved = RECORD | {
        "images": [RECORD["images"][0] | {"image": "b.png"}],
        "torch": "2.6.0",
        "command": "x",
        "clip_guidance_scale": 500,
        "model": "renamed",
        "index": 0,
    }
    assert difference(json.loads(json.dumps(RECORD)), moved) is None
    later = (
        "script",
        "cutn",
        "cut_pow",
        "cut_batches",
        "guides",
        "init",
        "starting_timestep",
        "max_timestep",
    )
    old = {name: value for name, value in RECORD.items() if name not in later}
    assert difference(old, RECORD) is None


def test_every_method_has_a_name():
    assert tuple(SAMPLERS) == methods.METHODS
    assert "Sampler: DPM++ 2M," in infotext(PLAIN | {"sampler": SAMPLERS["dpmpp_2m"]})


@pytest.mark.parametrize("text", ["bell\a", "it's\x1b[31m \\ red\x9b\x7f", "two\nlines\tof it"])
def test_a_shell_reads_the_commands_prompt(text):
    if not (bash := shutil.which("bash")):
        pytest.skip("needs bash")
    command = command_of(Job(text, model="emoji_64"))
    line = command.replace("./clip_sample.py", "printf '%s\\0'")
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run([bash, "-c", line], env=environment, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().split("\0")[-2] == text
