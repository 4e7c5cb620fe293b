"""Several CLIPs that guide together, and a CLIP that guides a model of another."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from records import SOURCES

from v_diffusion import Job, Studio
from v_diffusion.images import metadata
from v_diffusion.images.inputs import Inputs
from v_diffusion.images.metadata import infotext
from v_diffusion.images.record import difference, job_of, record
from v_diffusion.job.command import command_of
from v_diffusion.job.hints import hints
from v_diffusion.job.job import JobError
from v_diffusion.job.prompt import Prompt
from v_diffusion.studio.memory import needed
from v_diffusion.studio.targets import make_targets

OWN = "emoji_64_clip"
FILE = str(ROOT / "checkpoints" / "emoji_64_clip.pth")
QUICK = {"model": "emoji_64", "steps": 3, "clip_guidance_scale": 30, "cutn": 4, "seed": 5}
OPTIONS = ("--model", "emoji_64", "--device", "cpu", "--steps", "3", "-cs", "30", "--cutn", "4")


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("cpu")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """CLIP with other weights: it sees a picture as its red and blue exchanged."""
    tensors = torch.load(FILE, weights_only=True)
    tensors["visual.conv1.weight"] = tensors["visual.conv1.weight"].flip(1)
    path = tmp_path_factory.mktemp("other") / "clip.pth"
    torch.save(tensors, path)
    return str(path)


def test_two_equal_ones_at_half_weight_are_one(studio):
    """Where all cutouts are the whole picture, so that both see the same."""
    one = levels(studio.draw(Job("fox", cut_pow=0, **QUICK)))
    two = levels(studio.draw(Job("fox", cut_pow=0, clip=[f"{OWN}:0.5", f"{OWN}:0.5"], **QUICK)))
    assert (np.abs(one - two) <= 1).mean() >= 0.999
    plain = levels(studio.draw(Job("fox", **QUICK | {"clip_guidance_scale": 0})))
    assert np.abs(one - plain).max() > 5


def test_each_sees_the_next_cutouts_of_the_stream(studio):
    """Two equal ones, whose cutouts are those of one that sees twice as many: to the bit."""
    two = levels(studio.draw(Job("fox", clip=[OWN, OWN], **QUICK)))
    batches = levels(studio.draw(Job("fox", cut_batches=2, **QUICK)))
    np.testing.assert_array_equal(two, batches)
    assert (two != levels(studio.draw(Job("fox", **QUICK)))).any()


def test_weights_count_by_their_share(studio, other):
    files = {"clip_checkpoint": [FILE, other]}
    mixed, same, first, alone = (
        levels(studio.draw(Job("fox", cut_pow=0, **QUICK | options)))
        for options in (
            {"clip": [f"{OWN}:3", f"{OWN}:1"]} | files,
            {"clip": [f"{OWN}:0.75", f"{OWN}:0.25"]} | files,
            {"clip": [f"{OWN}:1", f"{OWN}:0"]} | files,
            {"clip_checkpoint": [FILE]},
        )
    )
    np.testing.assert_array_equal(mixed, same)
    assert (np.abs(first - alone) <= 1).mean() >= 0.999
    assert np.abs(mixed - alone).max() > 2


def test_one_by_its_name_is_the_default(studio):
    job, named = (Job("fox", clip=clip, **QUICK) for clip in (None, OWN))
    assert named == job and job.clip == ((OWN, 1.0),) and job.guides == ()
    assert command_of(named) == command_of(job) and "--clip " not in command_of(job)
    assert studio.load(named).guides == () and studio.files(job).guides == ()


def test_a_model_is_conditioned_by_its_own_clip(studio, other):
    job = Job("fox", clip=["ViT-B/32:2", "ViT-L/14"], clip_checkpoint=[other, FILE], **QUICK)
    assert job.own_clip == OWN and job.guides == (("ViT-B/32", 2.0), ("ViT-L/14", 1.0))
    models, plain = studio.load(job), Job("fox", **QUICK)
    assert studio.files(job).clip == studio.files(plain).clip
    assert studio.files(job).guides == (Path(other), Path(FILE))

    def targets(job: Job):
        def encode_text(clip, text):
            return studio._encode_text(clip, text)

        return make_targets([job], [Inputs()], studio.load(job), encode_text, studio.device)

    assert models.clips == [models.clip, models.guides[0]] and models.guides[1] is models.clip
    found = targets(job)
    assert torch.equal(found.embeds, targets(plain).embeds)
    # What is exchanged is of the images' side only.
    assert all(torch.allclose(found.embeds, guide, atol=1e-6) for guide in found.guides)
    weak = QUICK | {"clip_guidance_scale": 1e-30}
    pictures = [levels(studio.draw(Job("fox", clip=clip, clip_checkpoint=file, **weak)))
                for clip, file in ((["ViT-B/32"], [other]), (None, None))]  # fmt: skip
    np.testing.assert_array_equal(*pictures)


def test_a_file_of_two_names_is_loaded_once(studio):
    job = Job("fox", clip=[OWN, "ViT-B/32"], clip_checkpoint=[FILE, FILE], **QUICK)
    models = studio.load(job)
    assert models.guides == (models.clip, models.clip) and models.clips == [models.clip]


def test_the_largest_one_counts_for_memory():
    small, large = (Job("a", model="yfcc_1", clip=clip) for clip in ("ViT-B/32", "ViT-L/14"))
    both = Job("a", model="yfcc_1", clip=["ViT-B/32", "ViT-L/14"])
    assert needed(both, 2) == needed(large, 2) == needed(small, 2) + 2 * 16 * (160 - 12) * 10**6


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"clip": [OWN, f"{OWN}:-1"]}, "--clip: the weights sum to 0; change one of them"),
        ({"clip": ["ViT-B/16", "RN50:2"]}, "--clip: 'RN50' is not available; use one of ViT-B/16"),
        ({"clip": 3}, "--clip: 3 is not a text"),
        (
            {"clip_checkpoint": ["a", "b"]},
            "--clip-checkpoint: 2 files for 1 CLIP; name as many with --clip, and put prompts befo",
        ),
        (
            {"clip": [OWN] * 2, "clip_checkpoint": ["a"] * 3},
            "3 files for 2 CLIPs; name as many wit",
        ),
        ({"clip": OWN, "script": "cfg_sample"}, "--clip is an option of clip_sample.py, not of"),
    ],
)
def test_what_can_not_be(fields, message):
    with pytest.raises(JobError) as caught:
        Job("a", model="emoji_64", **fields)
    assert message in str(caught.value)


def test_without_guidance_no_other_clip_is_asked():
    given = {"clip": ["ViT-B/16:2", OWN], "clip_checkpoint": ["a", "b"], "model": "emoji_64"}
    job = Job("a", clip_guidance_scale=0, **given)
    assert (job.clip, job.clip_checkpoint) == (((OWN, 1.0),), ("b",))
    assert Job("a", clip_guidance_scale=0, **given | {"clip": ["ViT-B/16"] * 2}).guides == ()


JOBS = [
    Job("a", model="emoji_64", clip=[f"{OWN}:2", "ViT-L/14@336px:-0.5"], clip_checkpoint="a b.pt"),
    Job("a", model="yfcc_1", clip=["ViT-B/32", "ViT-B/16"], clip_checkpoint=["a", "-b"]),
    Job("a", model="yfcc_1", clip="ViT-L/14"),
    Job("a", model="cc12m_1", clip="ViT-L/14:-2"),
]


@pytest.mark.parametrize("job", JOBS, ids=range(len(JOBS)))
def test_the_job_comes_back_from_its_record(job):
    hashes = tuple(letter * 64 for letter in "abc"[: len(job.guides)])
    made = record(job, Inputs(), SOURCES._replace(guides_sha256=hashes), 0)
    assert job_of(json.loads(json.dumps(made))) == job
    assert made["clip"] == job.own_clip and len(made["guides"]) == len(job.guides)
    assert len(infotext(made).splitlines()) == 2


def test_what_a_record_says_of_them():
    hashes = ("a" * 64, "b" * 64)
    made = record(JOBS[0], Inputs(), SOURCES._replace(guides_sha256=hashes), 0)
    assert made["guides"][1] == {"clip": "ViT-L/14@336px", "weight": -0.5, "sha256": "b" * 64}
    text = 'Guide 1: "emoji_64_clip:2", Guide 1 hash: aaaaaaaaaa, Guide 2: "ViT-L/14@336px:-0.5"'
    assert text in infotext(made)
    other = json.loads(json.dumps(made))
    other["guides"][0]["weight"] = 3
    assert difference(other, made)[0] == "list of CLIPs"
    command = "--clip emoji_64_clip:2 ViT-L/14@336px:-0.5 --clip-checkpoint 'a b.pt'"
    assert command in command_of(JOBS[0])
    assert JOBS[3].clip == (Prompt("ViT-L/14", -2.0),)


def test_a_run_by_several(clip_sample, tmp_path, other):
    words = ("fox", *OPTIONS, "--clip", f"{OWN}:2", OWN, "--clip-checkpoint", FILE, other)
    done = clip_sample(*words, "-n", "2", "-bs", "2")
    assert done.returncode == 0, done.stderr
    made = metadata.read(tmp_path / "out_00001.png")
    assert [one["weight"] for one in made["guides"]] == [2.0, 1.0]
    assert made["clip_checkpoint"] == [FILE, other]
    assert made["guides"][0]["sha256"] == made["clip_sha256"] != made["guides"][1]["sha256"]
    done = clip_sample(*words, "-n", "2", "-bs", "2", "--resume")
    assert done.returncode == 0 and "image 1" not in done.stderr
    words = ("--again", "out_00000.png", "--model", "emoji_64", "-n", "2", "-bs", "2")
    done = clip_sample(*words, "-o", "again_{i}.png")
    assert done.returncode == 0, done.stderr
    pictures = [levels(Image.open(tmp_path / f"{name}.png")) for name in ("out_00001", "again_1")]
    np.testing.assert_array_equal(*pictures)
    for file in (FILE, other):
        assert f"--again: out_00000.png names --clip-checkpoint {file}\n" in done.stderr
    done = clip_sample("--again", "out_00000.png", "--clip", OWN, "-o", "own.png")
    assert done.returncode == 0 and "names" not in done.stderr
    assert metadata.read(tmp_path / "own.png")["clip_checkpoint"] is None
    line = {"prompts": "fox", "clip": [f"{OWN}:2", OWN], "clip-checkpoint": [FILE, other], "n": 2}
    (tmp_path / "jobs").write_text(json.dumps(line))
    done = clip_sample("--jobs", "jobs", *OPTIONS, "-bs", "2", "-o", "line_{i}.png")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(levels(Image.open(tmp_path / "line_1.png")), pictures[0])


def test_a_clip_that_has_no_effect_is_told():
    job = Job("a", model="emoji_64", clip=["ViT-B/16"], clip_guidance_scale=0)
    (hint,) = hints(job, {"clip": ["ViT-B/16"]})
    assert hint.startswith("warning: --clip has no effect without prompts and a --clip-g")
    assert list(hints(job, {"clip": job.clip})) == []
