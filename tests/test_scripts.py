"""The later release's scripts and options, on the model that ships."""

import json
import shlex
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import script
import torch
from conftest import DATA, levels
from PIL import Image

from diffusion.guidance import make_cfg_model_fn
from v_diffusion import Studio
from v_diffusion.images import metadata
from v_diffusion.images.decode import resize_and_center_crop
from v_diffusion.job.job import Job, JobError
from v_diffusion.job.script import CFG_MODIFY_IMAGE, CFG_SAMPLE, CLIP_SAMPLE, SCRIPTS

QUICK = ("--model", "emoji_64", "--device", "cpu")
INIT = str(DATA / "later" / "init.png")


@pytest.fixture
def run(tmp_path):
    """`run(script, *args)` runs a script in the test's own folder."""

    def run(name: str, *args: object) -> CompletedProcess:
        words = ["--steps", "3", *args] if "--steps" not in args else args
        return script.start(*words, *QUICK, cwd=tmp_path, script=f"{name}.py").wait()

    return run


def test_conditions_are_weighed():
    """A model whose v is its condition times x, plus t."""
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.25, 0.5])
    weights = torch.tensor([[-1.0, 0.0], [2.0, 0.5], [0.0, 0.5]])
    c = torch.arange(6.0)

    def model(x, t, c):
        asked.append(len(x))
        return c[:, None, None, None] * x + t[:, None, None, None]

    expected = (weights * c.view(3, 2)).sum(0)[:, None, None, None] * x + t[:, None, None, None]
    for at_once, calls in ((None, [6]), (4, [4, 2]), (1, [1] * 6)):
        asked: list[int] = []
        torch.testing.assert_close(make_cfg_model_fn(model, weights, at_once)(x, t, c=c), expected)
        assert asked == calls


def test_a_prompt_of_weight_1_is_the_models_own_idea(run, tmp_path):
    assert run("cfg_sample", "fox:1", "--method", "ddim", "-o", "cfg.png").returncode == 0
    assert run("clip_sample", "fox", "-cs", "0", "-o", "clip.png").returncode == 0
    assert np.abs(levels(tmp_path / "cfg.png") - levels(tmp_path / "clip.png")).max() <= 1
    assert run("cfg_sample", "fox", "--method", "ddim", "-o", "cfg_3.png").returncode == 0
    assert np.abs(levels(tmp_path / "cfg.png") - levels(tmp_path / "cfg_3.png")).max() > 10


@pytest.mark.parametrize("name", ["clip_sample", "cfg_sample"])
def test_no_prompt_draws_something(run, tmp_path, name):
    done = run(name, "--seed", "2")
    assert done.returncode == 0, done.stderr
    assert metadata.read(tmp_path / "out_00000.png")["clip"] is None
    assert levels(tmp_path / "out_00000.png").std() > 10


@pytest.mark.parametrize("name, more", [("clip_sample", ["--eta", "1"]), ("cfg_sample", [])])
def test_every_image_has_a_stream_of_its_own(run, tmp_path, name, more):
    words = ["owl", "--init", INIT, "-st", "0.8", "--images", f"{INIT}:0.5", "--no-metadata", *more]
    done = run(name, *words, "-n", "3", "--seed", "4")
    assert done.returncode == 0, done.stderr
    third = levels(tmp_path / "out_00002.png")
    assert run(name, *words, "-n", "3", "--seed", "4", "-bs", "3", "-o", "b{i}.png").returncode == 0
    assert run(name, *words, "--seed", "6", "-o", "alone.png").returncode == 0
    np.testing.assert_array_equal(levels(tmp_path / "alone.png"), third)
    assert np.abs(levels(tmp_path / "b2.png") - third).max() <= 1
    assert np.abs(levels(tmp_path / "out_00001.png") - third).max() > 10


def test_an_init_picture_shows_through(run, tmp_path):
    """The less noise, the more of it."""
    start = np.asarray(resize_and_center_crop(Image.open(INIT).convert("RGB"), (64, 64))).astype(
        int
    )
    off = []
    for t in ("0.2", "0.9"):
        done = run("clip_sample", "owl", "-cs", "0", "--steps", "10", "--init", INIT, "-st", t)
        assert done.returncode == 0, done.stderr
        off.append(np.abs(levels(tmp_path / "out_00000.png") - start).mean())
    assert off[0] < 0.5 * off[1]


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio("cpu")


@pytest.fixture(scope="module")
def apple(studio, tmp_path_factory) -> Path:
    """The picture of something that the model knows."""
    path = tmp_path_factory.mktemp("apple") / "apple.png"
    job = Job("red apple", model="emoji_64", clip_guidance_scale=0, steps=20)
    studio.draw(job).save(path)
    return path


@pytest.mark.parametrize("method", CFG_MODIFY_IMAGE.methods())
def test_a_picture_modified_without_words_is_itself(studio, apple, method):
    """There and back are one ODE."""
    options = {"method": method, "steps": 10, "max_timestep": 0.7, "init": str(apple)}
    picture = studio.draw(Job(model="emoji_64", script="cfg_modify_image", **options))
    assert np.abs(np.asarray(picture).astype(int) - levels(apple)).mean() < 8


def test_sizes(run, tmp_path):
    done = run("clip_sample", "owl", "--size", "96", "48", "--cutn", "2", "--cut-pow", "0.5")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out_00000.png").size == (96, 48)
    done = run("cfg_modify_image", INIT, "owl", "--size", "40", "64")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out.png").size == (40, 64)


@pytest.mark.parametrize(
    "name, args",
    [
        ("clip_sample", ["owl", "--init", INIT, "-st", "0.8", "--size", "64", "32", "--cutn", "3"]),
        ("cfg_sample", ["owl:2", "fog:-0.5", "--method", "ddim", "--eta", "0.5", "--seed", "9"]),
        ("cfg_modify_image", [INIT, "owl", "--method", "ddim", "-mt", "0.9"]),
    ],
)
def test_again_and_resume(run, tmp_path, name, args):
    first = run(name, *args, "-o", "a.png")
    assert first.returncode == 0, first.stderr
    found = metadata.read(tmp_path / "a.png")
    done = script.start("--again", "a.png", "-o", "b.png", cwd=tmp_path, script=f"{name}.py").wait()
    assert done.returncode == 0, done.stderr
    assert metadata.read(tmp_path / "b.png") == found
    np.testing.assert_array_equal(levels(tmp_path / "b.png"), levels(tmp_path / "a.png"))
    line = shlex.split(found["command"])[1:]
    done = script.start("-o", "c.png", *line, cwd=tmp_path, script=f"{name}.py").wait()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    done = run(name, *args, "-o", "a.png", "--resume")
    assert (done.returncode, done.stdout) == (0, "a.png\n") and "image 1" not in done.stderr
    done = run(name, *args, "--size", "72", "64", "-o", "a.png", "--resume")
    assert done.returncode == 2 and "has other settings" in done.stderr
    other = next(other for other in SCRIPTS if other != name)
    done = script.start("--again", "a.png", cwd=tmp_path, script=f"{other}.py").wait()
    assert done.returncode == 2
    assert f"a.png was made by {name}.py; use that script" in done.stderr


def test_one_job_file_for_all_scripts(run, tmp_path):
    lines = [
        {"prompts": ["owl"], "clip-guidance-scale": 0, "output": "a.png"},
        {"script": "cfg_sample", "prompts": ["owl:2"], "output": "b.png", "size": [32, 64]},
        {"script": "cfg_modify_image", "init": INIT, "prompts": "owl", "output": "c.png"},
        {"script": "cfg_sample", "prompts": ["owl"], "cutn": 3},
        {"script": "paint"},
    ]
    (tmp_path / "jobs").write_text("\n".join(map(json.dumps, lines)))
    done = run("clip_sample", "--jobs", "jobs")
    assert (done.returncode, done.stdout.split()) == (2, ["a.png", "b.png", "c.png"])
    assert "jobs:4: --cutn is an option of clip_sample.py, not of cfg_sample.py;" in done.stderr
    assert "jobs:5: script: 'paint' is not a script; use one of clip_sample, cfg" in done.stderr


@pytest.mark.parametrize(
    "name, args, message",
    [
        ("clip_sample", ["a", "--size", "60", "64"], "--size: 60 is not a multiple of 8, which em"),
        ("clip_sample", ["a", "--size", "4", "64"], "which emoji_64 needs; use 8"),
        ("clip_sample", ["a", "--size", "x", "64"], "argument --size: 'x' is not a whole number"),
        ("clip_sample", ["a", "--cutn", "0"], "argument --cutn: '0' is not a whole number from 1"),
        ("clip_sample", ["--clip", "ViT-B/32", "a"], "argument --clip: 'a' is not available; use"),
        ("clip_sample", ["a", "--init", "none.png"], "init image none.png: there is no such file"),
        ("cfg_sample", ["a", "--method", "plms", "--eta", "1"], "--eta: the method plms always ha"),
        ("cfg_sample", ["a:1e39"], "weights are too large; keep their sum below 3.4e+38"),
        ("clip_sample", ["a", "--checkpoint", ""], "--checkpoint: '' is not a file; give the path"),
        ("cfg_modify_image", [], "no picture to modify; name it before prompts"),
        ("cfg_modify_image", [INIT, "a", "--method", "ddpm"], "argument --method: invalid choice"),
    ],
)  # fmt: skip
def test_mistakes(run, tmp_path, name, args, message):
    done = run(name, *args)
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"{name}.py: ") and message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"prompts": "a", "model": "wikiart_128", "clip_guidance_scale": 0}, "wikiart_128 follows"),
        ({"model": "cc12m_1"}, "no prompt: give at least one text, or an image with --images"),
        ({"prompts": "a", "model": "yfcc_1", "size": (500, 512)}, "use 384 or 512"),
        ({"prompts": "a", "model": "yfcc_1", "size": 512}, "--size: 512 is not a list of two numb"),
        ({"prompts": "a", "clip": "RN50"}, "--clip: 'RN50' is not available; use one of ViT-B/16"),
        ({"prompts": "a", "model": "yfcc_1", "clip": "RN50"}, "--clip: 'RN50' is not available; u"),
        ({"prompts": "a", "script": "cfg_sample", "model": "cc12m_1"}, "--model: 'cc12m_1' is not"),
        ({"prompts": "a", "script": "cfg_sample", "cutn": 2}, "--cutn is an option of clip_sample"),
        ({"script": "paint"}, "script: 'paint' is not a script; use one of clip_sample, cfg_sampl"),
    ],
)  # fmt: skip
def test_jobs_that_can_not_be(fields, message):
    with pytest.raises(JobError) as caught:
        Job(**fields)
    assert message in str(caught.value)


def test_the_names_that_scripts_import():
    import cfg_modify_image
    import cfg_sample
    import clip_sample

    assert clip_sample.parse_prompt("a") == ("a", 1)
    for module in (cfg_sample, cfg_modify_image):
        assert module.parse_prompt("a") == ("a", 3) and module.parse_prompt("a:2") == ("a", 2)
        assert module.parse_prompt("a", 5) == ("a", 5) == module.parse_prompt("a:5")
    assert clip_sample.resize_and_center_crop is resize_and_center_crop


def test_what_is_left_unsaid():
    job = Job("a", model="danbooru_128")
    assert (job.clip, job.size, job.method) == ((("ViT-B/16", 1.0),), (128, 128), "ddpm")
    assert (job.clip_guidance_scale, job.cutn, job.cut_pow) == (500, 16, 1)
    assert Job(model="danbooru_128").clip_guidance_scale == 0
    job = Job("a", script="cfg_sample")
    assert (job.model, job.method, job.steps, job.eta) == ("cc12m_1_cfg", "plms", 50, 0)
    assert [one.prompt_weight for one in SCRIPTS.values()] == [1, 3, 3]
    assert CLIP_SAMPLE.models()[1:3] == ["cc12m_1_cfg", "danbooru_128"]
    assert CFG_SAMPLE.models() == ["cc12m_1_cfg", "emoji_64"]


def test_a_picture_fills_a_size_as_the_originals():
    """The larger factor, sides cut to whole numbers, the centre; a side too short gets black."""
    ramp = np.tile(np.arange(100, dtype=np.uint8), (50, 1))
    picture = Image.fromarray(ramp).convert("RGB")
    assert resize_and_center_crop(picture, (64, 64)).size == (64, 64)
    middle = np.asarray(resize_and_center_crop(picture, (50, 50)))[25, :, 0].astype(int)
    assert abs(middle[0] - 25) <= 1 and abs(middle[-1] - 74) <= 1
    # 64 / 49 of 49 is less than 64 where it is rounded down.
    thin = Image.new("RGB", (147, 49), "white")
    assert resize_and_center_crop(thin, (64, 64)).size == (64, 64)


def test_an_animation_is_its_first_frame(run, tmp_path):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.png")
    for suffix in ("gif", "png"):
        words = ["--images", f"a.{suffix}", "--init", f"a.{suffix}", "-cs", "0"]
        done = run("clip_sample", *words, "--no-metadata", "-o", f"of_{suffix}.png")
        assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(levels(tmp_path / "of_gif.png"), levels(tmp_path / "of_png.png"))
    shutil.rmtree(tmp_path)


def test_no_picture_is_written_over_one_that_is_used(run, tmp_path):
    shutil.copy(INIT, tmp_path / "out.png")
    shutil.copy(INIT, tmp_path / "out_00001.png")
    before = (tmp_path / "out.png").read_bytes()
    for name, args in (
        ("cfg_modify_image", ["out.png", "owl"]),
        ("clip_sample", ["owl", "--images", "out_00001.png:0.5", "-n", "3"]),
        ("cfg_sample", ["owl", "--init", "./out_00001.png", "-n", "2"]),
    ):
        done = run(name, *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert ".png is an input picture; give another name" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "out_00001.png"]
    assert (
        (tmp_path / "out_00001.png").read_bytes() == before == (tmp_path / "out.png").read_bytes()
    )


def test_pictures_named_by_several_options_are_all_taken():
    from cfg_sample import build_parser

    words = ["a", "--images", "a.png", "--images", "b.png:2", "c.png"]
    assert build_parser().parse_args(words).images == ["a.png", "b.png:2", "c.png"]
    words = ["--again", "a.png", "b.png", "--again", "c.png"]
    for _ in range(2):  # and none of them stays for the next command
        assert build_parser().parse_args(words).again == ["a.png", "b.png", "c.png"]
    assert "again" not in build_parser().parse_args([])
