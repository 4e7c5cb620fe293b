"""The script as a process, on the model that ships."""

import functools
import http.server
import re
import threading

import numpy as np
import pytest
from conftest import ROOT, run_python
from PIL import Image

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "3")


def levels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_help_imports_no_torch(tmp_path):
    code = (
        "import sys, clip_sample\n"
        "try: clip_sample.main(['--help'])\n"
        "except SystemExit as stop: print('status', stop.code)\n"
        "print('torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.stdout.endswith("status 0\nFalse False\n"), done.stderr
    usage = " ".join(done.stdout.split())
    assert "--model {cc12m_1,emoji_64}" in usage
    assert "[--clip-checkpoint FILE]" in usage
    assert re.search(r"default: 1000 for cc12m_1, \d+ for emoji_64", usage)


def test_a_run_writes_its_picture_and_says_where(clip_sample, tmp_path):
    done = clip_sample("red apple", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out_00000.png\n"
    assert done.stderr.splitlines()[0] == "Using device: cpu"
    assert "it/s" not in done.stderr and "%|" not in done.stderr  # no bar: stderr is no terminal
    assert levels(tmp_path / "out_00000.png").shape == (64, 64, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["out_00000.png"]


def test_images_do_not_depend_on_the_batch(clip_sample, tmp_path):
    """Four images at once, one by one, and each alone with its own seed."""
    prompt = ("red apple", *QUICK, "--eta", "1", "-cs", "50")
    clip_sample(*prompt, "-n", "4", "--batch-size", "4", "--seed", "3")
    at_once = [levels(tmp_path / f"out_{i:05}.png") for i in range(4)]
    clip_sample(*prompt, "-n", "4", "-bs", "1", "--seed", "3")
    one_by_one = [levels(tmp_path / f"out_{i:05}.png") for i in range(4)]
    done = clip_sample(*prompt, "--seed", "5")
    assert done.returncode == 0, done.stderr
    alone = levels(tmp_path / "out_00000.png")
    for a, b in zip([*at_once, alone], [*one_by_one, one_by_one[2]]):
        assert (np.abs(a - b) <= 1).mean() >= 0.999
    assert np.abs(at_once[0] - at_once[1]).max() > 1


def test_guidance_changes_the_picture_and_scale_0_still_conditions(clip_sample, tmp_path):
    pictures = {}
    for words, scale in (("red apple", 0), ("red apple", 200), ("blue heart", 0)):
        done = clip_sample(words, *QUICK, "-cs", scale)
        assert done.returncode == 0, done.stderr
        pictures[words, scale] = levels(tmp_path / "out_00000.png")
    apple = pictures["red apple", 0]
    assert np.abs(apple - pictures["red apple", 200]).max() > 1
    assert np.abs(apple - pictures["blue heart", 0]).mean() > 10


@pytest.fixture
def address():
    """Where the tests' data folder is served."""
    folder = ROOT / "tests" / "data" / "e2e"

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_image_prompt_over_http_is_the_one_on_disk(clip_sample, tmp_path, address):
    served = clip_sample("--images", f"{address}/prompt.png:0.5", *QUICK)
    assert served.returncode == 0, served.stderr
    over_http = levels(tmp_path / "out_00000.png")
    clip_sample("--images", ROOT / "tests" / "data" / "e2e" / "prompt.png", *QUICK)
    np.testing.assert_array_equal(over_http, levels(tmp_path / "out_00000.png"))


MISTAKES = [
    ((), "no prompt"),
    (("a:1", "b:-1"), "weights sum to 0"),
    (("a", "--model", "nothing"), "invalid choice: 'nothing'"),
    (("a", "--steps", "many"), "invalid int value: 'many'"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES)
def test_a_mistake_is_told_in_one_line(clip_sample, tmp_path, arguments, message):
    done = clip_sample(*arguments, *([] if "--model" in arguments else ["--model", "emoji_64"]))
    assert done.returncode == 2
    assert done.stdout == ""
    *_, last = done.stderr.splitlines()
    assert last.startswith("clip_sample.py: error: ") and message in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
