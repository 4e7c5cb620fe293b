import sys

import pytest
import script
from conftest import ROOT

FAULTS = '''
import resource
import torch
from v_diffusion.shell import program

def faults() -> int:
    """Page faults of a tensor where a larger one was before."""
    torch.ones(2**25)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
program.keep_freed_memory()
print(given_back > 10000, faults() < 1000)
'''


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's alone")
def test_kept_memory_is_not_faulted_in_again():
    done = script.start(cwd=ROOT, script="", code=FAULTS).wait()
    assert done.stdout == "True True\n", done.stderr
