"""What the server that `script` forks its processes from has ready: no threads, no models."""

import gc
import pkgutil
from importlib import import_module

import ftfy as ftfy
import requests as requests
import torchvision as torchvision

import v_diffusion
from CLIP import tokenizer

for module in pkgutil.walk_packages(v_diffusion.__path__, "v_diffusion."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
tokenizer.vocabulary()
gc.freeze()  # what a child doesn't look through isn't copied
