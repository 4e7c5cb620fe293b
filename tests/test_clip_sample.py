"""The script as a process, on the model that ships."""

import functools
import http.server
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import script
from conftest import ROOT, levels, run_python

from diffusion import methods
from v_diffusion.images import metadata
from v_diffusion.images.record import SAMPLERS
from v_diffusion.weights import store

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "3")


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
    assert "--model MODEL cc12m_1, cc12m_1_cfg, danbooru_128, imagenet_128, " in usage
    assert "[--clip-checkpoint FILE [FILE ...]]" in usage
    assert re.search(r"default: 1000; emoji_64: \d+\)", usage)


def test_a_python_without_the_requirements_is_told_what_to_do(tmp_path):
    done = run_python("-S", ROOT / "clip_sample.py", "a", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("clip_sample.py: torch, torchvision, requests, tqdm, ftfy, regex, PIL ")
    assert line.endswith("pip install -r requirements.txt")


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


@pytest.mark.parametrize("method", ["ddpm", "plms", "dpmpp_2m_sde"])
def test_a_method_is_drawn_with_and_recorded(clip_sample, tmp_path, method):
    done = clip_sample("red apple", *QUICK, "-cs", "0", "--method", method)
    assert done.returncode == 0, done.stderr
    made = levels(tmp_path / "out_00000.png")
    record = metadata.read(tmp_path / "out_00000.png")
    assert record["sampler"] == SAMPLERS[method]
    assert record["eta"] == (1.0 if method in methods.STOCHASTIC else 0.0)
    again = shlex.split(record["command"])[1:]
    assert again[again.index("--method") + 1] == method
    assert clip_sample("--device", "cpu", *again).returncode == 0
    np.testing.assert_array_equal(levels(tmp_path / "out_00000.png"), made)


def test_without_a_method_eta_picks_between_ddim_and_ddpm(clip_sample, tmp_path):
    for eta, method in (("0", "ddim"), ("1", "ddpm")):
        clip_sample("red apple", *QUICK, "-cs", "0", "--eta", eta)
        made = (tmp_path / "out_00000.png").read_bytes()
        done = clip_sample("red apple", *QUICK, "-cs", "0", "--method", method, "--resume")
        assert done.returncode == 0, done.stderr  # made with the same settings
        assert (tmp_path / "out_00000.png").read_bytes() == made


def test_checkpointing_gives_the_same_picture(clip_sample, tmp_path):
    pictures = []
    for options in ((), ("--checkpointing",)):
        done = clip_sample("red apple", *QUICK, *options)
        assert done.returncode == 0, done.stderr
        pictures.append(levels(tmp_path / "out_00000.png"))
    assert (np.abs(pictures[0] - pictures[1]) <= 1).mean() >= 0.999


def test_compile_is_left_out_where_it_gains_nothing(clip_sample, tmp_path):
    done = clip_sample("red apple", *QUICK, "--compile")
    assert done.returncode == 0, done.stderr
    assert "warning: --compile has no effect on cpu; it is for CUDA" in done.stderr


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


def test_an_address_without_a_picture_is_told(clip_sample, tmp_path, address):
    done = clip_sample("--images", f"{address}/none.png", *QUICK)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"image prompt {address}/none.png: the server answers 404 (Not Found)" in line


@pytest.mark.skipif((store.FOLDER / "cc12m_1.pth").exists(), reason="cc12m_1.pth is here")
def test_without_a_network_one_message_says_it_all(clip_sample, tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    done = clip_sample("a")
    assert (done.returncode, done.stdout) == (1, "")
    line = done.stderr.splitlines()[-1]
    card = store.cards()["cc12m_1"]
    for part in ("cc12m_1.pth", str(store.FOLDER), *card.urls, card.sha256, "--model emoji_64"):
        assert part in line
    assert not list(store.FOLDER.glob("cc12m_1*"))


def test_a_text_beyond_77_tokens_is_cut_with_a_warning(clip_sample, tmp_path):
    done = clip_sample("fox " * 100, *QUICK)
    assert done.returncode == 0
    warning = "warning: a prompt exceeds CLIP's 77 tokens and is cut after \"..."
    (line,) = (line for line in done.stderr.splitlines() if line.startswith(warning))
    assert line.endswith('fox fox fox"')


MISTAKES = [
    ((), "no prompt: give at least one text"),
    (("a:1", "b:-1"), "the prompts' weights sum to 0; change one of them"),
    (("  :2",), "prompts: '  :2' is empty; complete it or leave it out"),
    (("--images", ":2"), "images: ':2' is empty; complete it or leave it out"),
    (("--images", "none.png:0.5", "--seed", "1"), "image prompt none.png: there is no such file"),
    (("a", "--model", "nothing"), "invalid choice: 'nothing'"),
    (("a", "--steps", "many"), "'many' is not a whole number from 1 to 1000000"),
    (("a", "-n", "0"), "'0' is not a whole number of at least 1"),
    (("a", "-bs", "-1"), "'-1' is not a whole number of at least 1"),
    (("a", "--eta", "1.5"), "'1.5' is not a number from 0 to 1"),
    (("a", "--eta", "nan"), "'nan' is not a number from 0 to 1"),
    (("a", "--method", "euler"), "invalid choice: 'euler'"),
    (
        ("a", "--method", "plms", "--eta", "0.5"),
        "the method plms always has eta 0; leave --eta out",
    ),
    (("a", "--method", "ddpm", "--eta", "0.5"), "the method ddpm always has eta 1; leave --eta"),
    (("a", "--seed", "-2"), "'-2' is not a whole number from 0 to 18446744073709551615"),
    (
        ("a", "--resume", "--no-metadata"),
        "--resume and --no-metadata exclude each other; drop one of them",
    ),
    (("a", "--checkpoint", "none.pth"), "--checkpoint: none.pth is not a file"),
    (("a", "--clip-checkpoint", "."), "--clip-checkpoint: . is not a file"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES)
def test_a_mistake_is_told_in_one_line(clip_sample, tmp_path, arguments, message):
    done = clip_sample(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("clip_sample.py: ") and message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a:1e39", "b:1"), "the prompts' weights are too large; keep their sum below 3.4e+38"),
        (("a", "--device", "cuda:99"), "there is no 'cuda:99' here; use one of "),
        (("a", "--device", "abacus"), "there is no 'abacus' here; use one of "),
    ],
)
def test_a_mistake_that_needs_torch_to_be_seen(clip_sample, tmp_path, arguments, message):
    done = clip_sample(*arguments, "--model", "emoji_64")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def quiet(stderr: str) -> bool:
    """Whether nothing is said but the device and finished images."""
    lines = stderr.splitlines()
    return lines[:1] in ([], ["Using device: cpu"]) and all(
        re.fullmatch(r"image \d+ of 100000: out_\d+\.png, [\d.]+ s", line) for line in lines[1:]
    )


@pytest.mark.parametrize("seconds", [0, 0.4, 1.0, 2.0])
def test_ctrl_c_at_any_moment_is_quiet(tmp_path, seconds):
    """While Python imports, while the model loads, and while it samples. Before the program's first
    line Ctrl-C is Python's.
    """
    told = ["-X", "importtime"]  # a line on stderr for each module
    command = [sys.executable, *told, ROOT / "clip_sample.py", "a", *QUICK, "-n", "100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        # The first of ours that is imported after that line.
        while "v_diffusion.cli.jobfile" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130
    said = [line for line in stderr.splitlines() if not line.startswith("import time:")]
    assert quiet("\n".join(said))
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*"))


def test_ctrl_c_leaves_the_finished_images_and_no_traceback(tmp_path):
    running = script.start("a", *QUICK, "-n", "100000", cwd=tmp_path)
    running.wait_for(lambda: running.stdout.read_text().startswith("out_00000.png\n"))
    running.signal(signal.SIGINT)
    done = running.wait()
    assert done.returncode == 130
    assert quiet(done.stderr)
    finished = done.stdout.split()
    assert sorted(path.name for path in tmp_path.iterdir()) == finished
    for name in finished:
        assert levels(tmp_path / name).shape == (64, 64, 3)


def test_building_a_model_does_not_import_the_compiler(tmp_path):
    """PyTorch does so, for a second of every start, if numbers are drawn on the device "meta"."""
    code = """
import sys, torch, clip_sample
from v_diffusion.studio.models import Models, for_drawing, load_clip
from v_diffusion.weights import store
device = torch.device("cpu")
model = clip_sample.load_model("emoji_64", None, device)
clip = load_clip(store.obtain(model.clip_model), device)
for_drawing(Models(model, clip), device, False)
print([name for name in ("torch._dynamo", "sympy", "torchvision") if name in sys.modules])
"""
    done = run_python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
