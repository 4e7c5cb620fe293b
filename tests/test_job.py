"""Jobs, and the tasks and batches that they become."""

from pathlib import Path

import numpy as np
import pytest
from conftest import run_python

from v_diffusion.job.job import Job, JobError, with_changes
from v_diffusion.job.prompt import Prompt
from v_diffusion.run.request import BadLine, Order
from v_diffusion.run.tasks import Task, in_batches, tasks_of
from v_diffusion.shell.errors import UserError


def test_a_job_has_the_defaults_of_its_models_card():
    job = Job("red apple", model="emoji_64")
    assert job.prompts == (Prompt("red apple", 1.0),) and job.images == ()
    assert (job.method, job.eta, job.steps) == ("ddim", 0.0, 25)
    assert (job.clip_guidance_scale, job.seed) == (50.0, 0)
    assert (Job(["a"]).method, Job(["a"]).eta, Job(["a"]).steps) == ("ddpm", 1.0, 1000)
    assert Job(["a"], steps="7", seed=3.0 if False else 3) == Job(("a",), steps=7, seed=3)
    assert hash(Job(["a"])) == hash(Job(("a",)))


def test_importing_jobs_imports_no_torch(tmp_path):
    code = "import sys; from v_diffusion import Job; Job('a'); print('torch' in sys.modules)"
    assert run_python("-c", code, cwd=tmp_path).stdout == "False\n"


@pytest.mark.parametrize(
    "given, settled",
    [
        ({}, ("ddim", 0.0)),
        ({"eta": 1}, ("ddpm", 1.0)),
        ({"eta": 0.5}, ("ddim", 0.5)),
        ({"method": "ddim"}, ("ddim", 0.0)),
        ({"method": "ddim", "eta": 0.5}, ("ddim", 0.5)),
        ({"method": "ddim", "eta": 1}, ("ddim", 1.0)),
        ({"method": "ddpm"}, ("ddpm", 1.0)),
        ({"method": "dpmpp_2m_sde"}, ("dpmpp_2m_sde", 1.0)),
        ({"method": "dpmpp_2m_sde", "eta": 0.25}, ("dpmpp_2m_sde", 0.25)),
        ({"method": "plms", "eta": 0}, ("plms", 0.0)),
    ],
)
def test_method_and_eta(given, settled):
    job = Job("a", model="emoji_64", **given)
    assert (job.method, job.eta) == settled


@pytest.mark.parametrize(
    "given, message",
    [
        ({"prompts": ()}, "no prompt: give at least one text, or an image with --images"),
        ({"prompts": ["a:1", "b:-1"]}, "the prompts' weights sum to 0; change one of them"),
        ({"prompts": 3}, "prompts: 3 is neither a text nor a list of texts"),
        ({"images": ["a", 1]}, "images: ['a', 1] is neither a text nor a list of texts"),
        ({"prompts": "  "}, "prompts: '  ' is empty; complete it or leave it out"),
        ({"prompts": ["a", ":2"]}, "prompts: ':2' is empty; complete it or leave it out"),
        ({"images": ""}, "images: '' is empty; complete it or leave it out"),
        (
            {"model": "x"},
            "--model: 'x' is not available in clip_sample.py; use one of cc12m_1, cc12m_1_cfg, ",
        ),
        (
            {"method": "euler"},
            "--method: 'euler' is not available in clip_sample.py; use one of ddpm, ddim, ",
        ),
        ({"steps": 0}, "--steps: 0 is not a whole number from 1 to 1000000"),
        ({"steps": 10**6 + 1}, "--steps: 1000001 is not a whole number from 1 to 1000000"),
        ({"steps": True}, "--steps: True is not a whole number from 1 to 1000000"),
        ({"steps": 2.5}, "--steps: 2.5 is not a whole number from 1 to 1000000"),
        ({"seed": 2**64}, "is not a whole number from 0 to 18446744073709551615"),
        ({"eta": float("nan")}, "--eta: nan is not a number from 0 to 1"),
        ({"clip_guidance_scale": "inf"}, "--clip-guidance-scale: 'inf' is not a finite number"),
        (
            {"method": "ddpm", "eta": 0.5},
            "--eta: the method ddpm always has eta 1; leave --eta out, or use --method ddim",
        ),
        (
            {"method": "plms", "eta": 0.5},
            "--eta: the method plms always has eta 0; leave --eta out",
        ),
    ],
)
def test_a_job_that_can_not_be(given, message):
    with pytest.raises(JobError) as caught:
        Job(**{"prompts": "a"} | given)
    assert message in str(caught.value)


def test_changes_of_method_and_eta_go_together():
    options = {"method": "plms", "eta": 0.0, "steps": 3}
    assert with_changes(options, {"method": "ddpm"}) == {"method": "ddpm", "steps": 3}
    assert with_changes(options, {"eta": 0.5}) == {"method": "plms", "eta": 0.5, "steps": 3}
    assert with_changes({"method": "ddpm", "eta": 1.0}, {"eta": 0.5}) == {"eta": 0.5}
    assert with_changes(options, {"steps": 4})["method"] == "plms"


def tasks(*jobs: Job | None, n: int = 1) -> list[Task | None]:
    return list(tasks_of([job and Order(job, n, "{i}.png") for job in jobs], None))


def numbers(batches) -> list[list[int]]:
    return [[task.index for task in batch] for batch in batches]


A, B = Job("a", steps=2), Job("b", steps=3)


@pytest.mark.parametrize(
    "jobs, size, expected",
    [
        ([A, A, A, A, A], 2, [[0, 1], [2, 3], [4]]),
        ([A, B, A, B, A], 2, [[0, 2], [1, 3], [4]]),
        ([A, B, A, B, A], 3, [[0, 2, 4], [1, 3]]),
        ([A, B, None, A, B], 2, [[0], [1], [2], [3]]),
        ([A, B], 1, [[0], [1]]),
    ],
)
def test_jobs_that_can_share_a_batch_do(jobs, size, expected):
    assert numbers(in_batches(tasks(*jobs), size)) == expected


def test_a_job_waits_for_company_only_so_long():
    others = [Job("b", steps=3 + i) for i in range(200)]
    first = next(iter(in_batches(tasks(A, *others), 2)))
    assert [task.job for task in first] == [A]
    assert len(numbers(in_batches(tasks(A, *others), 2))) == 201


def test_what_a_batch_has_in_common():
    same = Job("a:2", images="x.png", seed=5, clip_guidance_scale=3)
    assert same.batch_key == Job("b").batch_key
    for change in (
        {"model": "emoji_64"},
        {"steps": 3},
        {"eta": 0.5},
        {"method": "plms"},
        {"clip_guidance_scale": 0},
        {"checkpoint": "x"},
        {"clip_checkpoint": "x"},
    ):
        assert Job("b", **change).batch_key != same.batch_key


def test_numbers_go_on_past_what_is_refused():
    refused = []
    orders = [
        Order(A, 2, "{i}.png", "1"),
        BadLine("2", UserError("bad")),
        Order(A, 3, "x.png", "3"),
    ]
    found = tasks_of([*orders, Order(A, 1, "{i}.png", "4")], lambda line, _: refused.append(line))
    assert [(task.index, task.seed, task.path.name) for task in found] == [
        (0, 0, "0.png"),
        (1, 1, "1.png"),
        (6, 0, "6.png"),
    ]
    assert refused == ["2", "3"]


def test_two_lines_can_not_have_one_file():
    found = []
    orders = [Order(A, 1, "x.png", "1"), Order(B, 1, "./x.png", "2")]
    assert len(list(tasks_of(orders, lambda line, error: found.append((line, str(error)))))) == 1
    why = "images 0 and 1 would both be x.png; put {i} or {seed} in it"
    assert found == [("2", f"--output: ./x.png: {why}")]


def test_files_may_be_paths():
    assert Job("a", checkpoint=Path("b.pth"), init=Path("c.png")).checkpoint == "b.pth"


def test_image_prompts_may_be_paths():
    two = [Path("a/b.png"), "c.png:2"]
    assert Job(images=two, model="emoji_64").images == (("a/b.png", 1), ("c.png", 2))
    assert Job(images=Path("a.png"), model="emoji_64").images == (("a.png", 1),)
    with pytest.raises(JobError, match="neither a text nor a list of texts"):
        Job([Path("a.png")], model="emoji_64")


def test_numbers_may_be_numpys():
    job = Job("a", steps=np.int64(7), seed=np.int64(3), eta=np.float32(0))
    assert job == Job("a", steps=7, seed=3, eta=0)
