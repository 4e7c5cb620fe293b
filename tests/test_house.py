"""The house: who may import whom, that nobody goes in a circle, and that no room is a drawer."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, run_python

SCRIPTS = ("clip_sample", "make_grid")
# What each room may import besides itself.
BELOW = {
    "CLIP": {"v_diffusion"},
    "diffusion": {"v_diffusion"},
    "v_diffusion": {"CLIP", "diffusion"},
    **{script: {"v_diffusion", "CLIP"} for script in SCRIPTS},
}
LONGEST = 300  # lines


def sources(room: str) -> list[Path]:
    return [ROOT / f"{room}.py"] if room in SCRIPTS else sorted((ROOT / room).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for room in BELOW for path in sources(room)}


def imported(module: str) -> Iterator[str]:
    """The modules of ours that one names in an import, wherever in it that stands."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *filter(None, [node.module])]) if node.level else node.module
            names = [f"{base}.{alias.name}" for alias in node.names]
            found = [name if name in FILES else base for name in names]
            yield from found


@pytest.mark.parametrize("room", BELOW)
def test_imports_go_one_way(room):
    for module in (name for name in FILES if name.split(".")[0] == room):
        rooms = {name.split(".")[0] for name in imported(module)} & set(BELOW)
        assert rooms <= BELOW[room] | {room}, module


def test_there_is_no_circle():
    arrows = {module: set(imported(module)) & set(FILES) - {module} for module in FILES}
    while ground := [module for module, below in arrows.items() if not below]:
        for module in ground:
            del arrows[module]
        for below in arrows.values():
            below.difference_update(ground)
    assert arrows == {}


# What is compiled is kept in a folder, and the threads' library is found by its file. Scripts open
# files and addresses by `utils.fetch`.
FILES_ARE_KNOWN = {
    "diffusion.utils": {"io", "os", "pathlib", "requests"},
    "v_diffusion.compute.kernels.compiler": {"os", "pathlib"},
    "v_diffusion.compute.kernels.threads": {"pathlib"},
}


def test_diffusion_and_compute_know_no_file_and_no_shell():
    strangers = {"argparse", "io", "json", "os", "pathlib", "requests", "shutil", "sys"}
    for module in FILES:
        if module.startswith(("diffusion", "v_diffusion.compute")):
            found = strangers & set(imported(module))
            assert found <= FILES_ARE_KNOWN.get(module, set()), module


def test_no_room_is_a_drawer():
    lengths = {
        path: len(path.read_text().splitlines())
        for path in [*FILES.values(), *ROOT.glob("training/*.py"), *ROOT.glob("benchmark/*.py")]
    }
    assert {path.name: n for path, n in lengths.items() if n > LONGEST} == {}
    assert lengths[ROOT / "clip_sample.py"] < 100


def test_a_start_that_needs_no_torch_has_none(tmp_path):
    quick = [
        "v_diffusion",
        "v_diffusion.cli.arguments",
        "v_diffusion.run.run",
        "v_diffusion.weights.command",
        "clip_sample",
    ]
    code = f"import sys, {', '.join(quick)}; print({{'torch', 'numpy'}} & {{*sys.modules}})"
    assert run_python("-c", code, cwd=tmp_path).stdout == "set()\n"


@pytest.mark.parametrize("package", ["v_diffusion", "CLIP", "diffusion"])
def test_a_package_that_is_no_program_says_so(tmp_path, package):
    done = run_python("-m", package, cwd=tmp_path)
    assert done.returncode in (1, 2) and done.stdout == ""
    (line,) = done.stderr.splitlines()
    if package == "v_diffusion":
        programs = "clip_sample.py, cfg_sample.py, cfg_modify_image.py and make_grid.py"
        assert line == f"python -m v_diffusion: it is a library; the programs are {programs}"
