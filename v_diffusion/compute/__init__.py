"""Frozen twins of the models, for speed on a CPU: `accelerate(model)`."""

from .twin import accelerate as accelerate
from .twin import accelerate_in_bf16 as accelerate_in_bf16
from .twin import checkpointed as checkpointed
