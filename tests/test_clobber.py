"""Files that are there already, and those that another process is drawing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import script
from conftest import DATA, ROOT, run_python
from PIL import Image

from v_diffusion.run.claims import Claims
from v_diffusion.shell.program import RunError

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "1", "-cs", "0")
INIT = DATA / "later" / "init.png"
posix = pytest.mark.skipif(os.name != "posix", reason="there are no such locks")


# Existing files


def test_no_clobber_leaves_out_what_is_there(clip_sample, tmp_path):
    (tmp_path / "out_00001.png").write_text("anybody's")
    (tmp_path / "out_00003.png").symlink_to("nowhere")  # whose file isn't there
    (tmp_path / "other").write_text("anybody's")
    (tmp_path / "out_00002.png").symlink_to("other")
    words = ("a", *QUICK, "-n", "4", "--no-metadata", "--no-clobber")
    done = clip_sample(*words, "-bs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"out_0000{i}.png\n" for i in range(4))
    assert (tmp_path / "out_00001.png").read_text() == "anybody's"
    assert (tmp_path / "other").read_text() == "anybody's"
    assert os.readlink(tmp_path / "out_00003.png") == "nowhere"
    assert Image.open(tmp_path / "nowhere").size == (64, 64)
    made = {name: (tmp_path / name).stat().st_mtime_ns for name in ("out_00000.png",)}
    assert clip_sample(*words).stdout == done.stdout
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in made} == made
    assert clip_sample("a", *QUICK, "-n", "2").returncode == 0  # which writes over
    assert Image.open(tmp_path / "out_00001.png").size == (64, 64)


def test_no_clobber_in_a_job_file_and_of_its_sheet(clip_sample, tmp_path):
    (tmp_path / "jobs").write_text("a\nb\n")
    shutil.copy(INIT, tmp_path / "out_00001.png")
    (tmp_path / "grid.png").write_text("anybody's")
    done = clip_sample(*QUICK, "--jobs", "jobs", "--no-clobber", "--grid")
    assert (done.returncode, done.stdout) == (0, "out_00000.png\nout_00001.png\ngrid.png\n")
    assert (tmp_path / "out_00001.png").read_bytes() == INIT.read_bytes()
    assert (tmp_path / "grid.png").read_text() == "anybody's"


def test_no_clobber_needs_no_weights_of_what_is_there(clip_sample, tmp_path):
    shutil.copy(INIT, tmp_path / "out.png")
    (tmp_path / "bad.pth").write_text("")
    words = ("a", "--model", "cc12m_1", "--checkpoint", "bad.pth", "--output", "out.png")
    done = clip_sample(*words, "--clip-checkpoint", "bad.pth", "--no-clobber")
    assert (done.returncode, done.stdout) == (0, "out.png\n")


def test_no_clobber_and_resume_are_two_things(clip_sample, tmp_path):
    done = clip_sample("a", *QUICK, "--no-clobber", "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert "clip_sample.py: --resume and --no-clobber: take one of the two" in done.stderr


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_prompt_is_not_written_over_under_another_name(clip_sample, tmp_path, link):
    shutil.copy(INIT, tmp_path / "self.png")
    link(tmp_path / "self.png", tmp_path / "other.png")
    for words in (("--images", "self.png"), ("a", "--init", "self.png")):
        for name in ("self.png", "other.png"):
            done = clip_sample(*words, *QUICK, "--output", name)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == (
                f"clip_sample.py: --output: {name}: {name} is a picture to use; give another name\n"
            )
    done = clip_sample("--images", "self.png", *QUICK, "--grid", "other.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the contact sheet would be written over a picture to use" in done.stderr
    done = script.start("self.png", "-o", "other.png", cwd=tmp_path, script="make_grid.py").wait()
    assert done.returncode == 2 and "it is one of the images; give another name" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["other.png", "self.png"]
    assert (tmp_path / "self.png").read_bytes() == INIT.read_bytes()


# Two at a time


@pytest.fixture
def claimed(tmp_path):
    """`claimed(*names)` starts a process that claims these files, and gives it."""
    started = []

    def start(*names: str) -> subprocess.Popen:
        code = (
            "import sys; from pathlib import Path; from v_diffusion.run.claims import Claims\n"
            "Claims(Path(sys.argv[1])).take(map(Path, sys.argv[2:]))\n"
            "print('claimed', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, tmp_path / "locks", *names]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        assert started[-1].stdout.readline() == b"claimed\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@posix
def test_a_claim_is_its_processs_until_that_ends(tmp_path, claimed):
    one, two = str(tmp_path / "one.png"), str(tmp_path / "two.png")
    other = claimed(one)
    claims = Claims(tmp_path / "locks")
    claims.take([Path(two)])
    text = f"one.png: process {other.pid} is drawing it at this moment; let that end, or"
    if sys.platform not in ("linux", "darwin"):
        text = "one.png: another process is drawing it"
    with pytest.raises(RunError, match=text):
        claims.take([Path(two), Path(one)])
    other.send_signal(signal.SIGKILL)
    other.wait()
    claims.take([Path(one)])
    claims.close()
    claimed(one, two)


@posix
def test_what_is_released_is_anybodys_but_what_is_kept(tmp_path, claimed):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    claims = Claims(tmp_path / "locks")
    claims.take(paths)
    claims.take(paths[:1], keep=True)
    claims.release()
    other = claimed(*map(str, paths[1:]))
    with pytest.raises(RunError, match=f"2.png: process {other.pid} is"):
        claims.take(paths[2:])
    code = "from v_diffusion.run.claims import Claims; from pathlib import Path; import sys\n" \
        "Claims(Path(sys.argv[1])).take([Path(sys.argv[2])])"  # fmt: skip
    done = run_python("-c", code, tmp_path / "locks", paths[0], cwd=ROOT)
    assert done.returncode == 1 and f"0.png: process {os.getpid()} is drawing" in done.stderr
    claims.close()


@posix
def test_a_file_has_one_claim_under_all_names_of_its_folder(tmp_path, claimed):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    claimed(str(tmp_path / "folder" / "a.png"))
    claims = Claims(tmp_path / "locks")
    with pytest.raises(RunError, match="link/a.png: process"):
        claims.take([tmp_path / "link" / "a.png"])
    claims.take([tmp_path / "a.png"])
    (tmp_path / "b.png").symlink_to("folder/a.png")
    with pytest.raises(RunError, match="/b.png: process"):
        claims.take([tmp_path / "b.png"])
    claims.close()


def test_where_nothing_can_be_locked_all_can_draw(tmp_path):
    claims = Claims(tmp_path / "none" / "locks")
    claims.take([tmp_path / "a.png"])
    claims.release()
    claims.close()


@posix
def test_the_same_run_twice_is_told_before_it_draws(clip_sample, tmp_path):
    words = ("a", *QUICK, "--steps", "5", "-n", "100000")
    first = script.start(*words, cwd=tmp_path)
    try:
        while not (tmp_path / "out_00005.png").exists():
            assert first.process.is_alive()
            time.sleep(0.01)
        done = clip_sample(*words)
        assert (done.returncode, done.stdout) == (1, "")
        text = f"out_00000.png: process {first.process.pid} is drawing it at this moment; let that"
        assert done.stderr == f"clip_sample.py: {text} end, or give another --output\n"
        assert clip_sample(*words[:-1], "2", "-o", "{seed}.png").returncode == 0  # other names
    finally:
        first.process.kill()
        first.process.join()
    done = clip_sample(*words[:-1], "2")  # it is dead, and leaves nothing in the way
    assert (done.returncode, done.stdout) == (0, "out_00000.png\nout_00001.png\n"), done.stderr
    assert not list(tmp_path.glob(".*"))
