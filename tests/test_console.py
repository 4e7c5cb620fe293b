"""What is said on a console: lines, and nothing that a terminal obeys."""

import io

import pytest
import script
from conftest import run_python

from v_diffusion.shell import console
from v_diffusion.shell.errors import NoDevice, OutputClosed, RunError
from v_diffusion.shell.program import exit_status

QUICK = ("--model", "emoji_64", "--device", "cpu", "--steps", "2", "-cs", "0")
CLEAR = "\x1b[2J\x9b2J\u202e"
SHOWN = "\\x1b[2J\\x9b2J\\u202e"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("fox: naïve 狐 🦊 👩\u200d🚀", "fox: naïve 狐 🦊 👩\u200d🚀"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        (CLEAR, SHOWN),
        ("\x00\x7f\u2028\u2029\u2066", "\\x00\\x7f\\u2028\\u2029\\u2066"),
        ("caf\udce9 \\x1b", "caf\udce9 \\x1b"),
    ],
)
def test_control_characters_are_escaped(text, expected, capsys):
    assert console.escaped(text) == expected
    if text.isprintable():
        console.note(text)
        assert capsys.readouterr() == ("", expected + "\n")


LIBRARY = """
import logging
from v_diffusion.shell.console import log
log.info("fetching")
log.warning("waiting")
logging.getLogger("v_diffusion").setLevel(logging.ERROR)
log.warning("again")
"""
PROGRAM = """
from v_diffusion.shell import console, program
program.begin("x", [])
for quiet in (False, True):
    console.log.setLevel("WARNING" if quiet else "INFO")
    console.log.info("fetching \\x1b")
    console.log.warning("waiting")
"""


def test_a_library_says_as_much_as_python_does_by_default(tmp_path):
    done = run_python("-c", LIBRARY, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "waiting\n")


def test_a_program_shows_progress_unless_it_is_quiet(tmp_path):
    done = run_python("-c", PROGRAM, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "fetching \\x1b\nwaiting\nwaiting\n")


@pytest.mark.parametrize(
    "error, status", [(NoDevice("no GPU"), 2), (RunError("full"), 1), (OutputClosed("shut"), 1)]
)
def test_an_error_is_one_line_and_a_status(capsys, error, status):
    def fail() -> None:
        raise error

    assert exit_status("x.py", fail) == status
    assert capsys.readouterr() == ("", f"x.py: {error}\n")


SIGNALLED = """
import os, signal, sys
from v_diffusion.shell import program

def run():
    try:
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    except BaseException:
        raise ValueError("a library's own")

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
program.begin("x", [])
program.clean_up_on_interrupt()
sys.exit(program.end(program.exit_status("x", run)))
"""


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_comes_out_as_another_exception(tmp_path, name, status):
    done = run_python("-c", SIGNALLED, name, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_options_are_not_abbreviated(capsys):
    parser = console.Parser(prog="x.py")
    parser.add_argument("--steps")
    with pytest.raises(SystemExit):
        parser.parse_args(["--step", "1"])
    assert capsys.readouterr().err == "x.py: unrecognized arguments: --step 1\n"


def test_a_path_on_stdout_is_as_it_is(capsys):
    console.print_line("a\x1b.png")
    assert capsys.readouterr() == ("a\x1b.png\n", "")


def test_what_stdout_cannot_carry(tmp_path, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", "surrogateescape")
    console.write_line("fox\t🦊 caf\udce9", stream)
    assert stream.buffer.getvalue() == b"fox\t\\U0001f98a caf\xe9\n"
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    words = ["clip_sample.py", "--list-prompts", "--model", "emoji_64", "--quiet"]
    done = run_python(str(script.ROOT / words[0]), *words[1:], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fox\t\\U0001f98a\n" in done.stdout


@pytest.mark.parametrize(
    "args, status",
    [
        ([CLEAR + " fox" * 90], 0),  # is cut, with a warning
        (["fox", "-o", CLEAR + ".png"], 0),  # the name of the finished image
        (["fox", "--model", CLEAR], 2),
        (["fox", f"--{CLEAR}"], 2),
        (["fox", "--checkpoint", CLEAR], 2),
        (["--images", CLEAR], 2),
        ([CLEAR + ":1", "fox:-1"], 2),
    ],
)
def test_no_control_character_comes_to_stderr(tmp_path, args, status):
    done = script.start(*QUICK, *args, cwd=tmp_path).wait()
    assert done.returncode == status and done.stderr
    assert not any(c in done.stderr for c in CLEAR if not c.isprintable())
