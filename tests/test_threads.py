"""How threads wait for work."""

import pytest
from conftest import run_python

from v_diffusion.shell import program


@pytest.mark.parametrize(
    "before, after",
    [
        ({}, {"GOMP_SPINCOUNT": "2000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_what_nobody_has_decided_is_set(before, after):
    environment = dict(before)
    program.wait_briefly(environment)
    assert environment == after


def test_the_program_sets_it_before_torch_is_there(monkeypatch, tmp_path):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    code = (
        "import os, sys; from v_diffusion.shell import program; program.begin('x')\n"
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)\n"
    )
    assert run_python("-c", code, cwd=tmp_path).stdout == "2000 False\n"
