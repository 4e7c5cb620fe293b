import json
import re
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, run_python
from file_server import CONTENT, Served, files, serve, sha256

from v_diffusion.shell.errors import UserError
from v_diffusion.weights import cards, store
from v_diffusion.weights.cards import CheckpointError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty checkpoints/ with the project's cards."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "cards.json").write_bytes(store.CARDS.read_bytes())
    monkeypatch.setattr(store, "FOLDER", folder)
    monkeypatch.setattr(store, "CLIP_CACHE", tmp_path / "no cache")
    for module in (cards, store):
        monkeypatch.setattr(module, "CARDS", folder / "cards.json")
    return folder


def test_cards():
    cards = store.cards()
    assert {name: (card.kind, card.file) for name, card in cards.items()} == {
        "cc12m_1": ("diffusion", "cc12m_1.pth"),
        "cc12m_1_cfg": ("diffusion", "cc12m_1_cfg.pth"),
        "danbooru_128": ("diffusion", "danbooru_128.pth"),
        "imagenet_128": ("diffusion", "imagenet_128.pth"),
        "wikiart_128": ("diffusion", "wikiart_128.pth"),
        "wikiart_256": ("diffusion", "wikiart_256.pth"),
        "yfcc_1": ("diffusion", "yfcc_1.pth"),
        "yfcc_2": ("diffusion", "yfcc_2.pth"),
        "emoji_64": ("diffusion", "emoji_64.pth"),
        "ViT-B/16": ("clip", "ViT-B-16.pt"),
        "ViT-B/32": ("clip", "ViT-B-32.pt"),
        "ViT-L/14": ("clip", "ViT-L-14.pt"),
        "ViT-L/14@336px": ("clip", "ViT-L-14-336px.pt"),
        "emoji_64_clip": ("clip", "emoji_64_clip.pth"),
    }
    assert [name for name, card in cards.items() if card.shipped] == ["emoji_64", "emoji_64_clip"]
    assert cards["cc12m_1"].clip == "ViT-B/16" and cards["emoji_64"].clip == "emoji_64_clip"
    assert cards["cc12m_1"].sampling == {"steps": 1000, "eta": 1.0, "clip_guidance_scale": 500.0}
    for card in cards.values():
        assert bool(card.urls) != card.shipped
        assert all(url.endswith("/" + card.file) for url in card.urls)
        if not card.shipped:
            assert re.fullmatch(r"[0-9a-f]{64}", card.sha256) and card.bytes > 3e8
        if card.kind == "clip" and not card.shipped:
            assert card.sha256 in card.urls[0]


def test_importing_the_store_imports_nothing_heavy():
    code = "import sys; from v_diffusion.weights import store; "
    code += "print({'torch', 'requests', 'tqdm'} & {*sys.modules})"
    assert run_python("-c", code, cwd=ROOT).stdout == "set()\n"


def test_a_lock_keeps_another_process_out_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "net.lock"
    code = "import sys; from pathlib import Path; from v_diffusion.weights.store import locked\n"
    code += "with locked(Path(sys.argv[1])): print('mine', flush=True); input()"
    command = [sys.executable, "-c", code, path]
    said = []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as other:
        assert other.stdout.readline() == "mine\n"

        def note(text: str) -> None:
            said.append(text)
            other.communicate("\n")  # only now it lets go

        monkeypatch.setattr(store.log, "warning", note)
        with store.locked(path):
            assert said == ["waiting for another process that fetches net"]
            assert other.returncode == 0 and files(tmp_path) == ["net.lock"]
    assert files(tmp_path) == []


def test_the_home_is_what_the_variable_names_else_the_checkouts_else_the_users(
    monkeypatch, tmp_path
):
    monkeypatch.delenv(store.ELSEWHERE, raising=False)
    assert store.download_folder() == store.FOLDER == ROOT / "checkpoints"
    monkeypatch.setattr(store, "CHECKOUT", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.download_folder() == tmp_path / "v-diffusion"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.download_folder() == tmp_path / ".cache" / "v-diffusion"
    monkeypatch.setenv(store.ELSEWHERE, "~/weights")
    assert store.download_folder() == tmp_path / "weights"
    store.download_folder().mkdir()
    (store.download_folder() / "cc12m_1.pth").write_bytes(b"a")
    assert store.locate(store.cards()["cc12m_1"]) == tmp_path / "weights" / "cc12m_1.pth"
    assert store.locate(store.cards()["emoji_64"]) == ROOT / "checkpoints" / "emoji_64.pth"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_a_network_there_is_one_message(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address = f"http://127.0.0.1:{closed_port()}"
    cards = json.loads(store.CARDS.read_text())
    cards["ViT-B/16"]["urls"] = [f"{address}/a.pt", f"{address}/b.pt"]
    store.CARDS.write_text(json.dumps(cards))
    with pytest.raises(CheckpointError) as failure:
        store.obtain("ViT-B/16")
    assert str(failure.value) == (
        f"can't fetch ViT-B-16.pt: {address}/a.pt: Connection refused; {address}/b.pt: Connection "
        "refused; try again later, put the file with SHA-256 "
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f into "
        f"{home} yourself, or use --model emoji_64, which needs no download"
    )
    assert capsys.readouterr() == ("", "")
    assert files(home) == ["cards.json"]


def write_card(name: str, **fields) -> None:
    cards = json.loads(store.CARDS.read_text())
    cards[name].update(fields)
    store.CARDS.write_text(json.dumps(cards))


def test_obtain_looks_before_it_fetches(home, tmp_path):
    served = Served(CONTENT)
    with serve(net=served) as url:
        write_card("ViT-B/16", sha256=sha256(CONTENT), urls=[url + "net"])
        path = store.obtain("ViT-B/16", tmp_path / "cache")
        assert path == tmp_path / "cache" / "ViT-B-16.pt"
        assert store.obtain("ViT-B/16", tmp_path / "cache") == path
        assert len(served.requests) == 1
        assert store.obtain("ViT-B/16") == home / "ViT-B-16.pt"
        assert store.obtain("ViT-B/16", path.parent) == home / "ViT-B-16.pt"
        assert len(served.requests) == 2


def test_obtain_checks_a_clips_hash(home):
    (home / "ViT-B-16.pt").write_bytes(b"code")
    with pytest.raises(CheckpointError) as failure:
        store.obtain("ViT-B/16")
    assert sha256(b"code") in str(failure.value)
    assert store.cards()["ViT-B/16"].sha256 in str(failure.value)


def test_obtain_of_a_shipped_file(home):
    with pytest.raises(CheckpointError) as failure:
        store.obtain("emoji_64")
    assert str(failure.value) == (
        f"emoji_64.pth is part of the repository and not in {home}: check it out again"
    )
    (home / "emoji_64.pth").write_bytes(CONTENT)
    store.record("emoji_64")
    assert store.obtain("emoji_64") == home / "emoji_64.pth"


def test_obtain_of_an_unknown_name(home):
    with pytest.raises(UserError, match="no checkpoint 'cc12m': there are cc12m_1, cc12m"):
        store.obtain("cc12m")


def test_record_changes_one_card(home):
    before = json.loads(store.CARDS.read_text())
    (home / "emoji_64.pth").write_bytes(CONTENT)
    store.record("emoji_64")
    before["emoji_64"].update(sha256=sha256(CONTENT), bytes=100_000)
    assert store.CARDS.read_text() == json.dumps(before, indent=2) + "\n"
    assert files(home) == ["cards.json", "emoji_64.pth"]
