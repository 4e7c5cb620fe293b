"""The tensors of a TorchScript archive, as CLIP's files are published, without its code.

An archive is an uncompressed zip file: `data.pkl` is a pickle of the modules' attributes,
`data/KEY` the bytes of each tensor, and `code/` the modules' classes, of which only the names of
their parameters and buffers are read.
"""

import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Bag:
    """A module's attributes; its own ways to be restored are left alone."""

    kind = ""  # the full name of its class

    def __setstate__(self, state: object) -> None:
        self.attributes: dict[str, Any] = state if isinstance(state, dict) else {}


def is_archive(path: Path) -> bool:
    """Return whether a zip file is a TorchScript archive and not what torch.save writes."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def rebuild(storage: Tensor, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    """Return a tensor of a storage, which raises RuntimeError where that is too short."""
    return storage.as_strided(size, stride, offset)


class Reader(pickle.Unpickler):
    """Reads `data.pkl` in an archive's folder `root/`, and refuses names that it doesn't need."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self._archive, self._root = archive, root
        size = path.stat().st_size
        self._bytes = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.".startswith("__torch__."):
            return type(name, (Bag,), {"kind": f"{module}.{name}"})
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild
        if module == "torch.jit._pickle":  # a list that comes with its type
            return lambda value, *_: value
        if module == "torch" and re.fullmatch(r"[A-Z][A-Za-z0-9]+Storage", name):
            return getattr(torch, name).dtype
        # As PyTorch's own reader says it.
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the elements of a storage, mapped from the file."""
        _, dtype, key, _, _ = pid
        info = self._archive.getinfo(f"{self._root}data/{key}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError("compressed")
        # A member's bytes come after a header of 30 bytes, its name and padding.
        header = bytes(self._bytes[info.header_offset : info.header_offset + 30].tolist())
        start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        return torch.empty(0, dtype=dtype).set_(self._bytes[start : start + info.file_size])


def declared(archive: zipfile.ZipFile, root: str, kind: str) -> list[str] | None:
    """Return the names of a class's parameters and buffers, None where its code lists none."""
    module, _, name = kind.rpartition(".")
    code = archive.read(f"{root}code/{module.replace('.', '/')}.py").decode()
    body = re.search(rf"^class {re.escape(name)}\(.*?(?=^class |\Z)", code, re.M | re.S)
    lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*?)\]", body[0] if body else "", re.M)
    return re.findall('"(.*?)"', " ".join(lists)) if lists else None


def walk(
    bag: Bag, names: Callable[[str], list[str] | None], prefix: str = ""
) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module and of those in it, by dotted name."""
    listed = names(bag.kind)
    for name, value in bag.attributes.items():
        if isinstance(value, Bag):
            yield from walk(value, names, f"{prefix}{name}.")
        elif isinstance(value, Tensor) and (listed is None or name in listed):
            yield prefix + name, value


def read(path: Path) -> dict[str, Tensor]:
    """Return what the state_dict() of the archive's module would be, mapped from the disk.

    Raises UnpicklingError for a name that has nothing to do with tensors, and nearly anything for a
    damaged file.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0] + "/"
        module = Reader(archive, path, root).load()
        return dict(walk(module, partial(declared, archive, root)))
