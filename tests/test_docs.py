"""The README and docs/: the README is short, links lead somewhere, and the examples run."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest
import script
from conftest import ROOT

from docs import options

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ("clip_sample", "cfg_sample", "cfg_modify_image", "make_grid")
DOWNLOADS = "# downloads "
# A script's line, and what makes a file for one: a line of Python, a printf or a here-document.
EXAMPLE = r"^ {4,}((?:\./|clip-sample|torchrun|python -c|printf|cat .*(?:\n.*)*?\n +END$).*)$"
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    """A page without its examples in Python."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(page: Path) -> list[str]:
    """A page's examples in the shell, from top to bottom."""
    return [dedent(f"    {text}") for text in re.findall(EXAMPLE, text_of(page), re.MULTILINE)]


def script_in(line: str) -> tuple[str, list[str]] | None:
    """The script that a command line runs, and its arguments."""
    words = shlex.split(line, comments=True)
    names = [Path(word).stem.replace("-", "_") for word in words]
    found = [i for i, name in enumerate(names) if name in SCRIPTS]
    return (names[found[0]], words[found[0] + 1 :]) if found else None


def test_the_readme_fits_on_a_page():
    assert len(README.read_bytes()) < 8000


def test_the_page_of_options_is_the_table():
    """`make docs` writes it."""
    assert (ROOT / "docs" / "options.md").read_text() == options.page()


@pages
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", text_of(page))
    for target in targets:
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if "://" in target:
            continue
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pages
def test_every_page_can_be_found_from_the_readme(page):
    assert page == README or f"(docs/{page.name})" in README.read_text()


@pages
def test_commands_are_understood(page):
    for line in examples(page):
        if found := script_in(line):
            args = import_module(found[0]).build_parser().parse_args(found[1])
            shipped = getattr(args, "model", "again") == "emoji_64"
            assert shipped or DOWNLOADS in line or "again" in args or found[0] == "make_grid"


@pages
def test_the_examples_run_from_top_to_bottom(page, tmp_path):
    """In fewer steps. Each finds the files that it reads, and replaces none of another example."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    written = set()
    for line in examples(page):
        if DOWNLOADS in line or line.startswith("torchrun"):
            continue
        if found := script_in(line):
            name, args = found
            quick = [] if name == "make_grid" else ["--steps", "2", "--method", "ddim"]
            args = re.sub(r"--(steps|method)\0.*?(\0|$)", "", "\0".join(args)).split("\0")
            done = script.start(*quick, *args, cwd=tmp_path, script=f"{name}.py").wait()
            paths = set(done.stdout.split())
            assert "--resume" in args or not paths & written, line
            written |= paths
        else:
            done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, timeout=600)
        assert done.returncode == 0, (line, done.stderr)


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "models.md"], ids=lambda page: page.name)
def test_the_examples_in_python_run(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    done = script.start(cwd=tmp_path, script="", code="\n".join(blocks)).wait()
    assert done.returncode == 0, done.stderr
    written = {"README.md": {"red_apple.png"}, "models.md": {"fox_0.png", "fox_1.png", "apple.png"}}
    assert {path.name for path in tmp_path.iterdir()} == written[page.name]


def test_the_names_of_the_original_are_there():
    text = (ROOT / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| (`.*`) \| (`.*`) \|$", text.partition("## Code written for")[2], re.M)
    assert len(rows) == 6
    for modules, names in (map(re.compile(r"`(.+?)`").findall, row) for row in rows):
        assert all(hasattr(import_module(module), name) for module in modules for name in names)


def test_the_table_of_weights_is_right():
    from clip_sample import parse_prompt

    rows = re.findall(
        r"^\| `(.+?)` \| `(.+?)` \| (\S+) \|$", (ROOT / "docs" / "prompts.md").read_text(), re.M
    )
    assert len(rows) == 8
    for written, prompt, weight in rows:
        expected = prompt, 1.0 if weight == "default" else float(weight)
        assert parse_prompt(written) == expected
