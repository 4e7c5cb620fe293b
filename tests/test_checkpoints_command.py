import json
import logging
import os
import signal
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from conftest import ROOT, run_python
from file_server import CONTENT, Served, serve, sha256, wait_until

from v_diffusion.shell import console
from v_diffusion.weights import cards, command, store
from v_diffusion.weights.download import length

# The command on another folder of checkpoints.
MAIN = """
import sys
from collections import namedtuple
from pathlib import Path
from v_diffusion.weights import cards, command, store
store.FOLDER = Path(sys.argv[1])
cards.CARDS = store.FOLDER / "cards.json"
sys.argv[1:] = sys.argv[2:]
sys.exit(command.command("python -m v_diffusion.weights"))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A checkpoints/ with a published model, a shipped one and a CLIP in an outside cache."""
    folder, cache = tmp_path / "checkpoints", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    common = {"sha256": sha256(CONTENT), "bytes": 100_000, "urls": []}
    known = {
        "net": {"kind": "diffusion", "file": "net.pth", "shipped": False} | common,
        "small": {"kind": "diffusion", "file": "small.pth", "shipped": True} | common,
        "ViT": {"kind": "clip", "file": "ViT.pt", "shipped": False} | common,
    }
    (folder / "cards.json").write_text(json.dumps(known))
    (folder / "small.pth").write_bytes(CONTENT)
    (cache / "ViT.pt").write_bytes(CONTENT)
    monkeypatch.setattr(store, "FOLDER", folder)
    monkeypatch.setattr(cards, "CARDS", folder / "cards.json")
    monkeypatch.setattr(store, "CLIP_CACHE", cache)
    return folder


def set_urls(name: str, *urls: str) -> None:
    known = json.loads(cards.CARDS.read_text())
    known[name]["urls"] = urls
    cards.CARDS.write_text(json.dumps(known))


@pytest.mark.parametrize("argv", [[], ["list"]])
def test_list(home, capsys, argv):
    assert command.main(argv) == 0
    cache = home.parent / "cache"
    width = len(f"{home}/small.pth")
    assert capsys.readouterr() == (
        "name   option     size  where\n"
        "net    --model  100 kB  not here\n"
        f"small  --model  100 kB  {home}/small.pth  shipped\n"
        f"ViT    --clip   100 kB  {cache / 'ViT.pt'!s:{width}}".rstrip()
        + "\n",
        "",
    )


def test_each_option_takes_the_names_that_the_list_says():
    from v_diffusion.job.options import guides
    from v_diffusion.job.script import CLIP_SAMPLE

    taken = {name: command.option(card) for name, card in store.cards().items()}
    by = {way: [name for name in taken if taken[name] == way] for way in {*taken.values()}}
    assert sorted(by["--model"]) == sorted(CLIP_SAMPLE.models())
    assert by["--clip"] == guides() and len(by) == 2


@pytest.mark.parametrize(
    "source, target, status, message",
    [
        ("a.pth", "b.txt", 2, "b.txt: the name has to end with .safetensors, .pth or .pt"),
        ("a.pth", "a.pth", 2, "a.pth is there already; remove it, or give another name"),
        ("none.pth", "b.pth", 2, "none.pth: No such file or directory"),
        ("a.pth", "b.pth", 2, "a.pth"),
    ],
)
def test_what_can_not_be_converted(tmp_path, monkeypatch, capsys, source, target, status, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_text("no weights")
    assert command.main(["convert", source, target], "python -m v_diffusion.weights") == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"python -m v_diffusion.weights: {message}")
    assert err.count("\n") == 1 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_no_room_for_what_is_converted(tmp_path, monkeypatch, capsys, suffix):
    source, target = tmp_path / "a.pth", tmp_path / f"b{suffix}"
    torch.save({"x": torch.zeros(1000)}, source)

    usage = namedtuple("usage", "total used free")(0, 0, 100)
    monkeypatch.setattr("v_diffusion.weights.download.shutil.disk_usage", lambda folder: usage)
    assert command.main(["convert", str(source), str(target)], "checkpoints") == 1
    said = f"checkpoints: can't write {target}: it needs 4.0 kB more and 100 bytes are free\n"
    assert capsys.readouterr() == ("", said)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


@pytest.fixture
def progress():
    """Messages go to stderr, as in a program."""
    console.log_to_stderr()
    yield
    console.log.handlers.clear()
    console.log.propagate = True
    console.log.setLevel(logging.NOTSET)


def test_fetch_prints_paths(home, capsys, progress):
    with serve(net=Served(CONTENT)) as url:
        set_urls("net", url + "net")
        assert command.main(["fetch", "ViT", "net"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{home.parent}/cache/ViT.pt\n{home}/net.pth\n"
    assert err == f"fetching net.pth (100 kB) from {url}net\n"
    assert (home / "net.pth").read_bytes() == CONTENT


def test_fetch_goes_on_after_a_failure(home, capsys):
    with serve(net=Served(CONTENT, statuses=[404])) as url:
        set_urls("net", url + "net")
        assert command.main(["fetch", "net", "small"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{home}/small.pth\n"
    assert (
        err.count("\n") == 1
        and f"can't fetch net.pth: {url}net: the server answers 404 (Not Found); " in err
    )
    assert "use --model small, which needs no download" in err


def test_verify(home, capsys):
    right = f"small: {home}/small.pth is right\nViT: {home.parent}/cache/ViT.pt is right\n"
    assert command.main(["verify"]) == 0
    assert capsys.readouterr() == (right, "")
    (home / "net.pth").write_bytes(CONTENT[::-1])
    assert command.main(["verify"]) == 1
    out, err = capsys.readouterr()
    assert out == right and err.count("\n") == 1
    assert sha256(CONTENT[::-1]) in err
    assert sha256(CONTENT) in err
    assert command.main(["verify", "small"]) == 0


def test_verify_of_a_named_file_that_is_not_here(home, capsys):
    assert command.main(["verify", "net", "small"]) == 1
    assert capsys.readouterr() == (
        f"small: {home}/small.pth is right\n",
        "net: net.pth is not here\n",
    )


@pytest.mark.parametrize(
    "argv, message",
    [
        (["fetch", "nte"], ": no checkpoint 'nte': there are net, small, ViT"),
        (["verify", "x"], ": no checkpoint 'x': there are net, small, ViT"),
        (["fetch"], "fetch: the following arguments are required: NAME"),
        (["--all"], ": unrecognized arguments: --all"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(home, capsys, argv, message):
    with pytest.raises(SystemExit) as end:
        sys.exit(command.main(argv, "python -m v_diffusion.weights"))
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    separator = "" if message.startswith(":") else " "
    assert err == f"python -m v_diffusion.weights{separator}{message}\n"


def test_ctrl_c(home):
    with serve(net=Served(CONTENT, piece=1000, stall_after=6000)) as url:
        set_urls("net", url + "net")
        argv = [sys.executable, "-c", MAIN, str(home), "fetch", "net"]
        process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: length(home / "net.pth.partial") >= 5000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert err.splitlines() == [
        f"fetching net.pth (100 kB) from {url}net",
        "interrupted; the next fetch goes on where this one stopped",
    ]
    assert not (home / "net.pth").exists() and length(home / "net.pth.partial") >= 5000


def test_a_reader_that_leaves_early(home):
    argv = [sys.executable, "-c", MAIN, str(home), "list"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, timeout=600)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_command_itself():
    run = run_python("-m", "v_diffusion.weights", cwd=ROOT)
    lines = run.stdout.splitlines()
    assert run.returncode == 0 and run.stderr == ""
    assert [line.split()[0] for line in lines] == ["name", *store.cards()]
    assert lines[2].startswith("cc12m_1_cfg     --model  2.4 GB  ")


def test_the_command_imports_no_torch():
    code = (
        "from v_diffusion.weights import command; import sys; command.main(['convert', 'a', 'b']); "
        "print('torch' in sys.modules)"
    )
    assert run_python("-c", code, cwd=ROOT).stdout == "False\n"
