"""Several processes, as torchrun starts them."""

import os
import signal
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import pytest
import script
from conftest import ROOT, contents
from torch.distributed import TCPStore

from v_diffusion.run.ranks import Rank, this_rank
from v_diffusion.shell.errors import UserError

SCRIPT = ROOT / "clip_sample.py"
QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "0")
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


# What torchrun does, but for the starts of the script, which are forks.
LAUNCH = f"""
import runpy
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def worker():
    try:
        runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
    except SystemExit as stop:
        assert stop.code == 0

rendezvous = dict(run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0")
elastic_launch(LaunchConfig(1, 1, 2, **rendezvous, max_restarts=3, start_method="fork"), worker)()
"""


def both(*args: object, cwd: Path) -> list[CompletedProcess]:
    """Two processes in the environment that torchrun would give them."""
    host, started = "127.0.0.1", []
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": host, "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    for i in range(2):
        ranks = {"RANK": str(i), "LOCAL_RANK": str(i), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        with mock.patch.dict(os.environ, meeting | ranks):
            started.append(script.start(*args, cwd=cwd))
    return [running.wait() for running in started]


def test_the_rank_is_in_the_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert this_rank() == Rank(0, 1, 0) and this_rank().reports
    monkeypatch.setenv("RANK", "5")
    assert this_rank() == Rank()  # of whatever other program
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert this_rank() == Rank(5, 8, 1) and not this_rank().reports
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(UserError, match="the environment has RANK=8, WORLD_SIZE=8, "):
        this_rank()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    import torch

    from v_diffusion.studio.devices import pick_device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(pick_device(None, i)) for i in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [str(pick_device("cuda", i)) for i in range(2)] == ["cuda:0", "cuda:1"]
    with pytest.raises(UserError, match="--device: there is no '' here; use one of cuda:0, cuda:1"):
        pick_device("")
    assert str(pick_device("cuda:1", 0)) == "cuda:1" and str(pick_device("cpu", 1)) == "cpu"
    with pytest.raises(UserError, match="there is no 'cpu:1' here"):
        pick_device("cpu:1")


def workers_of(launcher: int) -> list[int]:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    return list(map(int, children.split()))


@linux
def test_a_killed_worker_loses_nothing_and_makes_nothing_twice(clip_sample, tmp_path):
    run = ("a red heart", *QUICK, "--eta", "1", "-n", "48", "-bs", "3")
    done = clip_sample(*run, "--output", "one/{i}.png")
    assert done.returncode == 0, done.stderr
    two = tmp_path / "two"
    words = (*run, "--output", "two/{i}.png", "--resume")
    running = script.start(*words, cwd=tmp_path, script="", code=LAUNCH)
    running.wait_for(lambda: len(list(two.glob("*.png"))) >= 8)
    os.kill(workers_of(running.process.pid)[1], signal.SIGKILL)
    # What is there when it is killed stays as it is.
    made = {path.name: path.stat().st_mtime_ns for path in two.glob("*.png")}
    done = running.wait()
    assert done.returncode == 0, done.stderr
    assert contents(two) == contents(tmp_path / "one")
    assert {name: (two / name).stat().st_mtime_ns for name in made} == made
    assert set(done.stdout.split()) == {f"two/{i}.png" for i in range(48)}


def test_a_job_file_for_two(tmp_path):
    """Its bad line is told once, and is no reason for one to end before the other has."""
    (tmp_path / "jobs").write_text('red apple\n{"steps": "x"}\nowl\nghost\n{"prompts": "fox"}\n')
    done = both("--jobs", "jobs", *QUICK, cwd=tmp_path)
    assert [one.returncode for one in done] == [2, 0]
    stdout, stderr = "".join(one.stdout for one in done), "".join(one.stderr for one in done)
    assert sorted(stdout.split()) == [f"out_0000{i}.png" for i in (0, 2, 3, 4)]
    assert stderr.count("jobs:2: --steps: 'x' is not a whole number from 1 to 1000000") == 1
    assert stderr.count("clip_sample.py: not drawn: jobs:2\n") == 1
    assert stderr.count("Using device: cpu") == 1


def test_a_contact_sheet_of_two_is_made_when_all_images_are_there(clip_sample, tmp_path):
    run = ("red apple", *QUICK, "-n", "5", "--grid", "grid.png")
    assert clip_sample(*run).returncode == 0
    alone = (tmp_path / "grid.png").read_bytes()
    (tmp_path / "grid.png").unlink()
    for path in tmp_path.glob("out*"):
        path.unlink()
    first, second = both(*run, cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.split()[-1] == "grid.png" and "grid.png" not in second.stdout
    assert (tmp_path / "grid.png").read_bytes() == alone


def test_lines_of_stdin_are_for_one_process(clip_sample, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = clip_sample("--jobs", "-")
    assert (done.returncode, done.stdout) == (2, "")
    why = "several processes have to read the same lines; give an ordinary file"
    assert done.stderr == f"clip_sample.py: --jobs: -: {why}\n"
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR), "wb"):
        done = clip_sample("--jobs", "pipe")
    assert done.stderr == f"clip_sample.py: --jobs: pipe: {why}\n"
