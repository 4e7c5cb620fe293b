"""Files written whole or not at all."""

import os
from pathlib import Path

import pytest
from file_server import files

from v_diffusion.shell.writing import MACHINE, draft_of, drafted, sweep, write_whole

DEAD = 999_999_999  # no process has so large a number


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"old")
    with drafted(path) as draft:
        assert draft.name == f".a.json.{MACHINE}.{os.getpid()}.partial"
        draft.write_bytes(b"new")
        draft.chmod(0o600)  # as safetensors does
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and files(tmp_path) == ["a.json"]
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"old")
    with pytest.raises(KeyboardInterrupt), drafted(path) as draft:
        draft.write_bytes(b"ne")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and files(tmp_path) == ["a.json"]


def test_a_link_stays(tmp_path):
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"a")
    assert os.readlink(tmp_path / "link") == "real" and (tmp_path / "real").read_bytes() == b"a"


def test_drafts_of_killed_processes_are_swept(tmp_path):
    long = "x" * 255
    write_whole(tmp_path / long, b"a")
    mine = [draft_of(tmp_path / name, DEAD) for name in ("a", "b", long)]
    others = [
        draft_of(tmp_path / "a", os.getppid()),  # still being written
        tmp_path / f".a.{'0' * 8}.{DEAD}.partial",  # of another machine
        tmp_path / "a.partial",  # of nobody here
    ]
    for path in (*mine, *others):
        path.touch()
    sweep(tmp_path)
    assert files(tmp_path) == sorted([long, *(path.name for path in others)])


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(Path(tmp_path / "none" / "a"), b"")
