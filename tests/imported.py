"""What the server that `script` forks its processes from has ready: no threads, no models."""

import gc
import importlib

from CLIP import tokenizer

MODULES = """
    v_diffusion.cli.program v_diffusion.compute.block v_diffusion.compute.memory
    v_diffusion.images.decode v_diffusion.run.run v_diffusion.studio.studio
    ftfy requests torchvision
"""

for module in MODULES.split():
    importlib.import_module(module)
tokenizer.vocabulary()
gc.freeze()  # what a child doesn't look through isn't copied
