"""A file of weights in another format."""

from pathlib import Path

from ..shell.console import log, one_line, printable
from ..shell.errors import UserError
from ..shell.writing import drafted, sweep
from .cards import CheckpointError
from .download import need_room

FORMATS = (".safetensors", ".pth", ".pt")


def convert(source: Path, target: Path) -> None:
    """Write the tensors of a file into a .safetensors, .pth or .pt, whole or not at all.

    The dict and the prefix that a training program has put around them are left out.

    Raises:
        UserError: the source has no weights, or the target is there already or of no format.
        CheckpointError: it can't be written.
    """
    name = printable(target)
    if target.suffix not in FORMATS:
        raise UserError(f"{name}: the name has to end with {', '.join(FORMATS[:-1])} or .pt")
    if target.exists():
        raise UserError(f"{name} is there already; remove it, or give another name")
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from . import tensors

    try:
        data, places = tensors.unwrapped(tensors.load(source))
        found = tensors.plain(source, data)
    except CheckpointError as error:
        raise UserError(str(error)) from None
    if places:
        log.info(f"{printable(source)}: took what is under {', '.join(map(repr, places))}")
    # Neither format wants two names in one piece of memory, or gaps.
    found = {key: tensor.detach().clone().contiguous() for key, tensor in found.items()}
    try:
        sweep(target.parent)
        need_room(target.parent, sum(tensor.nbytes for tensor in found.values()))
        with drafted(target) as draft:
            if target.suffix == ".safetensors":
                save_file(found, draft, metadata={"format": "pt"})
            else:
                torch.save(found, draft)
    # The latter two are how the libraries say that the disk is full.
    except (OSError, RuntimeError, SafetensorError) as error:
        why = one_line(getattr(error, "strerror", None) or str(error))
        raise CheckpointError(f"can't write {name}: {why}") from None
