"""The README and docs/: the README is short, links lead somewhere, and the examples run."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import script
from conftest import ROOT

from docs import options

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ("clip_sample", "cfg_sample", "cfg_modify_image", "make_grid")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    """A page without its examples in Python."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """The words of each command line that runs one of the scripts."""
    lines = re.findall(r"^    ((?:\./|clip-sample|torchrun).*)$", text_of(page), re.MULTILINE)
    lines += re.findall(r"`(\./[^`]+)`", text_of(page))
    return [shlex.split(line, comments=True) for line in lines]


def script_in(words: list[str]) -> tuple[str, int]:
    """The script that a command line runs, and where its arguments begin."""
    names = [Path(word).stem.replace("-", "_") for word in words]
    first = next(i for i, name in enumerate(names) if name in SCRIPTS)
    return names[first], first + 1


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
    for words in commands(page):
        name, first = script_in(words)
        import_module(name).build_parser().parse_args(words[first:])


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "models.md"], ids=lambda page: page.name)
def test_the_examples_in_python_run(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    done = script.start(cwd=tmp_path, script="", code="\n".join(blocks)).wait()
    assert done.returncode == 0, done.stderr
    written = {"README.md": {"red_apple.png"}, "models.md": {"fox_0.png", "fox_1.png", "apple.png"}}
    assert {path.name for path in tmp_path.iterdir()} == written[page.name]


def test_the_job_file_is_drawn(clip_sample, tmp_path):
    text = (ROOT / "docs" / "batches.md").read_text()
    lines = re.findall(r"^    (\{.*|a plain line.*)$", text, re.MULTILINE)
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    shutil.copy(ROOT / "tests" / "data" / "e2e" / "prompt.png", tmp_path / "sketch.png")
    done = clip_sample("--jobs", "jobs.jsonl", "--model", "emoji_64", "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["foxes/7.png", *(f"out_{i:05}.png" for i in range(1, 6))]


def test_the_table_of_weights_is_right():
    from clip_sample import parse_prompt

    rows = re.findall(
        r"^\| `(.+?)` \| `(.+?)` \| (\S+) \|$", (ROOT / "docs" / "prompts.md").read_text(), re.M
    )
    assert len(rows) == 8
    for written, prompt, weight in rows:
        expected = prompt, 1.0 if weight == "default" else float(weight)
        assert parse_prompt(written) == expected
