"""Frozen twins of the models, for speed on a CPU: `accelerate(model)`."""

from .twin import accelerate as accelerate
from .twin import checkpointed as checkpointed
