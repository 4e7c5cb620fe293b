"""What a message says to do: that it is what helps."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import script
from conftest import DATA, ROOT, run_python
from PIL import Image

from v_diffusion.cli.jobfile import read_orders
from v_diffusion.images import metadata
from v_diffusion.job.job import LARGEST, Job, JobError
from v_diffusion.shell.addresses import fetch
from v_diffusion.shell.paths import expand_user, local

PICTURE = DATA / "later" / "init.png"
QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2")


def run(tmp_path, name: str, *args: object):
    return script.start(*args, cwd=tmp_path, script=f"{name}.py").wait()


@pytest.mark.parametrize(
    "name, args, message",
    [
        ("clip_sample", ["-fox"], "-fox; put -- before a prompt that begins with a dash"),
        ("clip_sample", ["a", "--steps", "3", "b"], "b; give all prompts together, each in quotes"),
        ("cfg_sample", ["a", "-cs", "5"], "--clip-guidance-scale is an option of clip_sample.py"),
        ("cfg_sample", ["a", "-mt=0.5"], "--max-timestep is an option of cfg_modify_image.py, not"),
        ("clip_sample", ["a", "--cfg-batch", "2"],
         "is an option of cfg_sample.py and cfg_modify_image.py, not of clip_sample.py; leave it"),
        ("clip_sample", ["a", "-n", str(2**64 + 1)], "--seed: the last image's would exceed"),
        ("clip_sample", ["a", "--steps", str(10**30)], "is not a whole number from 1 to 1000000"),
        ("clip_sample", ["a", "-cs", "1e999"], "'1e999' is not a finite number"),
        ("clip_sample", ["a", "-cs", "infinity"], "'infinity' is not a finite number"),
        ("clip_sample", ["--images", "a fox"],
         "image prompt a fox: there is no such file; text prompts go before --images"),
        ("clip_sample", ["--images", "file://elsewhere/a.png"],
         "image prompt file://elsewhere/a.png: there is no such file"),
    ],
)  # fmt: skip
def test_a_mistake_with_its_remedy(tmp_path, name, args, message):
    done = run(tmp_path, name, *args)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}.py: ") and message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none.png", "folder/none", "sketch"])
def test_a_files_name_is_not_taken_for_a_text(tmp_path, name):
    (tmp_path / "sketch").write_text("no picture")
    done = run(tmp_path, "clip_sample", "--images", name)
    assert done.returncode == 2 and "text prompts go" not in done.stderr


def test_behind_two_dashes_a_prompt_begins_with_one(tmp_path):
    done = run(tmp_path, "clip_sample", *QUICK, "-cs", "0", "--", "-fox")
    assert done.returncode == 0, done.stderr
    assert metadata.read(tmp_path / "out_00000.png")["prompts"][0]["text"] == "-fox"


@pytest.mark.parametrize(
    "line, message",
    [
        ({"script": "cfg_sample", "cutn": 3},
         "--cutn is an option of clip_sample.py, not of cfg_sample.py; leave it out"),
        ({"max-timestep": 0.5}, "--max-timestep is an option of cfg_modify_image.py, not of"),
        ({"sedd": 3}, "'sedd' is not an option of a job; use prompts, "),
        ({"steps": 10**30}, "is not a whole number from 1 to 1000000"),
        ({"prompts": "a:1e39"}, f"are too large; keep their sum below {LARGEST:g}"),
    ],
)  # fmt: skip
def test_a_job_line_with_its_remedy(tmp_path, line, message):
    (tmp_path / "jobs").write_text(json.dumps({"prompts": "a"} | line))
    (bad,) = read_orders(open(tmp_path / "jobs", "rb"), "jobs", {})
    assert message in str(bad.error)


def test_a_broken_line_has_one_number(tmp_path):
    (tmp_path / "jobs").write_text('a\n{"prompts": "a"')
    _, bad = read_orders(open(tmp_path / "jobs", "rb"), "jobs", {})
    said = f"{bad.line}: {bad.error}"
    assert said == "jobs:2: not a JSON object; mend it, or write a prompt without quotes"


def test_a_job_of_another_script():
    with pytest.raises(JobError) as caught:
        Job("a", script="cfg_sample", starting_timestep=0.5, cut_pow=2)
    assert (
        str(caught.value)
        == "--cut-pow is an option of clip_sample.py, not of cfg_sample.py; leave it out"
    )


@pytest.mark.parametrize(
    "name, path",
    [
        ("file:///a/b%20c.png", "/a/b c.png"),
        ("FILE://LocalHost/a.png", "/a.png"),
        ("file:///caf%E9.png", os.fsdecode(b"/caf\xe9.png")),
        ("file://elsewhere/a.png", "file:/elsewhere/a.png"),
        ("file:a.png", "file:a.png"),
        ("~/a.png", "/home/me/a.png"),
        ("./~/a.png", "~/a.png"),
        ("a~", "a~"),
    ],
)
def test_names_of_local_files(monkeypatch, name, path):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(local(name)) == path


def test_a_file_address_is_the_file(tmp_path):
    path = tmp_path / "100% this.png"
    path.write_bytes(b"content")
    assert fetch(path.as_uri()) == b"content"
    assert expand_user(path) == path


def test_a_tilde_in_quotes_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "a b").mkdir(parents=True)
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    shutil.copy(PICTURE, home / "a b" / "p.png")
    for weights in ("emoji_64", "emoji_64_clip"):
        (home / f"{weights}.pth").symlink_to(ROOT / "checkpoints" / f"{weights}.pth")
    (home / "jobs").write_text('{"images": ["~/a b/p.png:0.5"], "output": "~/job.png"}')
    files = ("--checkpoint", "~/emoji_64.pth", "--clip-checkpoint", "~/emoji_64_clip.pth")
    done = run(work, "clip_sample", *QUICK, *files, "--jobs", "~/jobs", "-cs", "0")
    assert (done.returncode, done.stdout) == (0, f"{home}/job.png\n"), done.stderr
    again = ("--again", "~/job.png", "--init", f"file://{home}/a%20b/p.png")
    done = run(work, "clip_sample", *again, "-o", "~/new/a.png", "--grid", "~/sheet.png")
    assert (done.returncode, done.stdout) == (0, f"{home}/new/a.png\n{home}/sheet.png\n")
    assert metadata.read(home / "new" / "a.png")["images"][0]["image"] == "~/a b/p.png"
    done = run(work, "make_grid", "~/job.png", "-o", "~/grid.png")
    assert (done.returncode, done.stdout) == (0, f"{home}/grid.png\n"), done.stderr
    for option in ("--images", "--init"):  # what is used is not written over
        done = run(work, "clip_sample", "a", option, "~/a b/p.png", "-o", f"{home}/a b/p.png")
        assert done.returncode == 2 and "is an input picture" in done.stderr
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "name, args, message",
    [
        ("clip_sample", ["a", "--init", PICTURE, "-st", "0"],
         "--starting-timestep: no step is below 0; raise it or --steps"),
        ("cfg_modify_image", [PICTURE, "a", "-mt", "0"],
         "--max-timestep: no step is below 0; raise it or --steps"),
        ("clip_sample", ["a", "--init", PICTURE, "-st", "0.01"],
         "--starting-timestep: no step is below 0.01; raise it or --steps"),
        ("cfg_modify_image", [PICTURE, "a", "-mt", "0.01", "--method", "ddim"],
         "--max-timestep: no step is below 0.01; raise it or --steps"),
        ("cfg_sample", ["a", "--device", "cpu:7"], "--device: there is no 'cpu:7' here; use one o"),
    ],
)  # fmt: skip
def test_a_mistake_comes_before_anything_else_is_said(tmp_path, name, args, message):
    quick = QUICK if "--device" not in args else QUICK[:2]
    done = run(tmp_path, name, *args, *quick)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}.py: ") and message in line
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_told_before_the_device_is(tmp_path):
    assert run(tmp_path, "clip_sample", "fox", *QUICK, "-cs", "0").returncode == 0
    done = run(tmp_path, "clip_sample", "owl", *QUICK, "-cs", "0", "--resume")
    assert done.returncode == 2
    assert done.stderr.startswith("clip_sample.py: --resume: out_00000.png has other settings: ")


LONG = "x" * 260


@pytest.mark.parametrize(
    "args, message",
    [
        (["-o", f"{LONG}.png"], f"{LONG}.png: it can't be used: File name too long; give another"),
        (["-o", f"{LONG}/a.png"], f"can't write to {LONG}: File name too long; give another name"),
        (["--seed", "abc"], f"'abc' is not a whole number from 0 to {2**64 - 1} or random"),
        (["--grid", "fox"], "; put prompts before the options, or after --"),
        (["--preview", "fox"], "--preview: 'fox' is not a whole number of at least 1"),
    ],
)  # fmt: skip
def test_what_an_option_was_given(tmp_path, args, message):
    done = run(tmp_path, "clip_sample", *QUICK, "-cs", "0", *args)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_name_too_long_is_told_before_it_is_drawn_in_a_folder_that_others_went_to(tmp_path):
    jobs = [{"prompts": "fox", "output": f"{name}.png"} for name in ("a", LONG, "b")]
    (tmp_path / "jobs").write_text("\n".join(map(json.dumps, jobs)))
    done = run(tmp_path, "clip_sample", *QUICK, "-cs", "0", "--jobs", "jobs")
    assert done.returncode == 2
    assert done.stdout == "a.png\nb.png\n"
    why = "it can't be used: File name too long; give another name"
    assert f"jobs:2: --output: {LONG}.png: {why}\n" in done.stderr


@pytest.mark.parametrize(
    "args, message",
    [
        (
            ["-o", "loop.png"],
            "loop.png: it can't be used: Too many levels of symbolic links; give another name",
        ),
        (
            ["--checkpoint", "text"],
            "text: damaged, or not a checkpoint; give another file",
        ),
    ],
)
def test_what_is_known_before_it_is_drawn(tmp_path, args, message):
    (tmp_path / "loop.png").symlink_to("other.png")
    (tmp_path / "other.png").symlink_to("loop.png")
    (tmp_path / "text").write_text("no weights at all")
    done = run(tmp_path, "clip_sample", "fox", *QUICK, "-cs", "0", *args)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line and (tmp_path / "loop.png").is_symlink()


@pytest.mark.parametrize("name", ["clip_sample", "make_grid"])
def test_a_folder_that_is_gone(tmp_path, name):
    command = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} {ROOT / name}.py fox"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    said = f"{name}.py: the current folder is no longer there; go to another\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("name", ["cfg_sample", "cfg_modify_image"])
def test_an_option_of_another_script_is_not_short_for_one_of_this(tmp_path, name):
    done = run(tmp_path, name, "fox", "--model", "emoji_64", "--clip", "ViT-B/16")
    said = f"--clip is an option of clip_sample.py, not of {name}.py; leave it out"
    assert (done.returncode, done.stderr) == (2, f"{name}.py: {said}\n")


def test_no_prompt_of_a_pattern_that_found_none(tmp_path):
    done = run(tmp_path, "clip_sample", *QUICK, "-cs", "0", "--images")
    assert (
        done.returncode == 0 and "warning: --images: no image follows" in done.stderr.splitlines()
    )


def test_a_mistake_in_every_line_needs_no_torch(tmp_path):
    (tmp_path / "jobs").write_text("fox")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import clip_sample; "
        "status = clip_sample.main(['--model', 'emoji_64', '--jobs', 'jobs', '-o', 'a']); "
        "print(status, 'torch' in sys.modules)"
    )
    assert run_python("-c", code, cwd=tmp_path).stdout == "2 False\n"


def test_a_picture_that_does_not_fit_into_memory(tmp_path):
    done = run(tmp_path, "clip_sample", "fox", *QUICK, "-cs", "0", "--size", "32768", "32768")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("clip_sample.py: --size 32768 32768: needs about ")
    assert last.endswith(" are free; use a smaller size")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_sheet_of_printers_colours(tmp_path, suffix):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    done = run(tmp_path, "make_grid", "a.jpg", "-o", f"sheet.{suffix}")
    assert done.returncode == 0, done.stderr
    red, *others = Image.open(tmp_path / f"sheet.{suffix}").convert("RGB").getpixel((4, 4))
    assert red > 240 and max(others) < 15


def test_a_sheet_of_what_is_too_large(tmp_path, monkeypatch):
    Image.new("1", (20000, 10000)).save(tmp_path / "a.png")
    done = run(tmp_path, "make_grid", "a.png")
    said = "a.png: it has too many pixels; scale it down"
    assert (done.returncode, done.stderr) == (2, f"make_grid.py: {said}\n")


def test_a_sheet_too_large_for_its_format(tmp_path):
    Image.new("L", (9000, 1)).save(tmp_path / "a.png")
    done = run(tmp_path, "make_grid", "a.png", "a.png", "--nrow", "2", "-o", "b.webp")
    said = "b.webp: encoding error 5: Image size exceeds WebP limit of 16383 pixels; write a .png"
    assert (done.returncode, done.stderr) == (2, f"make_grid.py: {said}\n")
