"""The processor's vectors as LLVM has them, to write kernels with.

numba compiles loops well, but leaves to LLVM what of them becomes vectors and what stays in
registers. A kernel here says both: it is a Python function that is run once, when it is compiled,
and gives LLVM's instructions for numbers of this many lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

FLOAT, INT, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
BYTES = 4  # of a number


def lanes() -> int:
    """The fp32 numbers of this processor's vectors."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


LANES = lanes()
VECTOR = ir.VectorType(FLOAT, LANES)
SIZE = BYTES * LANES  # of a vector


class Vector:
    """A vector of a kernel that is being compiled, with arithmetic."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def _of(self, other: Vector | float) -> ir.Value:
        if isinstance(other, Vector):
            return other.value
        return ir.Constant(VECTOR, [float(other)] * LANES)

    # With "contract" a product and a sum may become one instruction.
    def __add__(self, other: Vector | float) -> Vector:
        sum_ = self.builder.fadd(self.value, self._of(other), flags=("contract",))
        return Vector(self.builder, sum_)

    def __sub__(self, other: Vector | float) -> Vector:
        difference = self.builder.fsub(self.value, self._of(other), flags=("contract",))
        return Vector(self.builder, difference)

    def __mul__(self, other: Vector | float) -> Vector:
        product = self.builder.fmul(self.value, self._of(other), flags=("contract",))
        return Vector(self.builder, product)

    __radd__, __rmul__ = __add__, __mul__

    def where(self, condition: ir.Value) -> Vector:
        """This where a condition holds, 0 elsewhere."""
        value = self.builder.select(condition, self.value, ir.Constant(VECTOR, [0.0] * LANES))
        return Vector(self.builder, value)

    def positive(self) -> ir.Value:
        """Where it is above 0."""
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        return self.builder.fcmp_ordered(">", self.value, zero)

    def relu(self) -> Vector:
        """max(this, 0); what is not a number stays so."""
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        below = self.builder.fcmp_ordered("<", self.value, zero)
        return Vector(self.builder, self.builder.select(below, zero, self.value))


def zero(builder: ir.IRBuilder) -> Vector:
    return Vector(builder, ir.Constant(VECTOR, [0.0] * LANES))


def pointer(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value | int, to: ir.Type) -> Any:
    """An address and an offset in bytes as a pointer."""
    if isinstance(offset, int):
        offset = ir.Constant(LONG, offset)
    return builder.inttoptr(builder.add(address, offset), to.as_pointer())


def load(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value | int = 0) -> Vector:
    return Vector(builder, builder.load(pointer(builder, address, offset, VECTOR), align=BYTES))


def store(
    builder: ir.IRBuilder, vector: Vector, address: ir.Value, offset: ir.Value | int = 0
) -> None:
    builder.store(vector.value, pointer(builder, address, offset, VECTOR), align=BYTES)


def spread(builder: ir.IRBuilder, address: ir.Value, offset: ir.Value | int = 0) -> Vector:
    """One number at an address, in all lanes."""
    number = builder.load(pointer(builder, address, offset, FLOAT))
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, INT(0))
    everywhere = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
    return Vector(builder, builder.shuffle_vector(one, one, everywhere))


def load_long(builder: ir.IRBuilder, address: ir.Value, index: int) -> ir.Value:
    """The 64-bit integer of an index in an array of such."""
    return builder.load(pointer(builder, address, 8 * index, LONG))


def variables(builder: ir.IRBuilder, at_first: Sequence[Vector]) -> Sequence[ir.Value]:
    """Vectors that a loop changes; LLVM keeps them in registers."""
    slots = [cgutils.alloca_once(builder, VECTOR) for _ in at_first]
    for slot, vector in zip(slots, at_first):
        builder.store(vector.value, slot)
    return slots
