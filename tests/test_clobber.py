"""Files that are there already, and those that another process is drawing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import script
from conftest import DATA, ROOT
from PIL import Image

from v_diffusion.run.destinations import Destinations, sweep_locks
from v_diffusion.shell.errors import RunError

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "1", "-cs", "0")
INIT = DATA / "later" / "init.png"


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
    assert "clip_sample.py: --resume and --no-clobber exclude each other" in done.stderr


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_prompt_is_not_written_over_under_another_name(clip_sample, tmp_path, link):
    shutil.copy(INIT, tmp_path / "self.png")
    link(tmp_path / "self.png", tmp_path / "other.png")
    for words in (("--images", "self.png"), ("a", "--init", "self.png")):
        for name in ("self.png", "other.png"):
            done = clip_sample(*words, *QUICK, "--output", name)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == (
                f"clip_sample.py: --output: {name}: {name} is an input picture; give another name\n"
            )
    done = clip_sample("--images", "self.png", *QUICK, "--grid", "other.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "the contact sheet would replace an input picture; give --grid another name" in done.stderr
    )
    done = script.start("self.png", "-o", "other.png", cwd=tmp_path, script="make_grid.py").wait()
    assert done.returncode == 2 and "it is one of the images; give another name" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["other.png", "self.png"]
    assert (tmp_path / "self.png").read_bytes() == INIT.read_bytes()


# Two at a time


def take(locks: Destinations, path: Path, keep: bool = False) -> None:
    locks.lock([SimpleNamespace(path=path)], keep_first=keep)


@pytest.fixture
def drawing(tmp_path):
    """`drawing(*names)` starts a process that locks these files, and gives it."""
    started = []

    def start(*names: str) -> subprocess.Popen:
        code = (
            "import sys; from pathlib import Path; from types import SimpleNamespace as Task\n"
            "from v_diffusion.run.destinations import Destinations\n"
            "tasks = [Task(path=Path(name)) for name in sys.argv[1:]]\n"
            "locks = Destinations((), None); locks.lock(tasks, keep_first=False)\n"
            "print('locked', flush=True); sys.stdin.read()"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tmp_path}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, *names]
        started.append(subprocess.Popen(command, env=environment, **pipes))
        assert started[-1].stdout.readline() == b"locked\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_lock_is_its_processs_until_that_ends(tmp_path, drawing):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    other = drawing("one.png")
    locks = Destinations((), None)
    take(locks, two)
    take(locks, two)
    with pytest.raises(RunError) as caught:
        take(locks, one)
    why = "another process is drawing it; wait for it to end, or give another --output"
    assert str(caught.value) == f"{one}: {why}"
    other.kill()
    other.wait()
    take(locks, one)
    locks.release()
    assert os.listdir(tmp_path) == []
    drawing("one.png", "two.png")


def test_what_is_released_is_anybodys_but_what_is_kept(tmp_path, drawing):
    first, second = tmp_path / "0.png", tmp_path / "1.png"
    locks = Destinations((), None)
    take(locks, first, keep=True)
    take(locks, second, keep=True)
    locks.release()
    assert os.listdir(tmp_path) == [".0.png.lock"]
    drawing("1.png")
    with pytest.raises(RunError, match="1.png: another process"):
        take(locks, second)
    locks.close()
    drawing("0.png")


def test_a_file_has_one_lock_under_all_its_names(tmp_path, drawing):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "b.png").symlink_to("folder/a.png")
    drawing("folder/a.png")
    locks = Destinations((), None)
    for name in ("link/a.png", "b.png"):
        with pytest.raises(RunError, match=f"/{name}: another process"):
            take(locks, tmp_path / name)
    take(locks, tmp_path / "a.png")
    locks.release()
    assert not (tmp_path / ".a.png.lock").exists()


def test_locks_of_killed_processes_are_swept(tmp_path, drawing):
    names = ["a.png", "x" * 250 + ".jpg"]
    drawing(*names, "c.png").kill()
    drawing("b.png")
    (tmp_path / ".others.lock").touch()
    assert len(os.listdir(tmp_path)) == 5
    sweep_locks(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".b.png.lock", ".others.lock"]
    sweep_locks(tmp_path / "none")


def test_where_nothing_can_be_locked_all_can_draw(tmp_path):
    locks = Destinations((), None)
    take(locks, tmp_path / "none" / "a.png")
    locks.release()


def test_the_same_run_twice_is_told_before_it_draws(clip_sample, tmp_path):
    words = ("a", *QUICK, "--steps", "5", "-n", "100000")
    first = script.start(*words, cwd=tmp_path)
    try:
        first.wait_for((tmp_path / "out_00005.png").exists)
        done = clip_sample(*words)
        assert (done.returncode, done.stdout) == (1, "")
        text = "out_00000.png: another process is drawing it; wait for it to end, or give another"
        assert done.stderr == f"clip_sample.py: {text} --output\n"
        assert clip_sample(*words[:-1], "2", "-o", "{seed}.png").returncode == 0  # other names
        assert (tmp_path / ".out_00000.png.lock").exists()
    finally:
        first.process.kill()
        first.process.join()
    done = clip_sample(*words[:-1], "2")  # it is dead, and leaves nothing in the way
    assert (done.returncode, done.stdout) == (0, "out_00000.png\nout_00001.png\n"), done.stderr
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("delay", [0, 0.1, 0.5])
def test_an_interrupted_run_leaves_no_lock(tmp_path, name, delay):
    running = script.start("a", *QUICK, "-n", "100000", cwd=tmp_path)
    running.wait_for((tmp_path / ".out_00000.png.lock").exists)
    time.sleep(delay)
    running.signal(signal.Signals[name])
    done = running.wait()
    assert done.returncode == 128 + signal.Signals[name] and "Traceback" not in done.stderr
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_fails_leaves_no_lock(clip_sample, tmp_path):
    (tmp_path / "bad.pth").write_text("")
    done = clip_sample("a", *QUICK, "--checkpoint", "bad.pth", "-n", "3")
    assert done.returncode == 2 and os.listdir(tmp_path) == ["bad.pth"]
