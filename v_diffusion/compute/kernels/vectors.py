"""The processor's vectors as LLVM has them, to write kernels with.

numba compiles loops well, but leaves to LLVM what of them becomes vectors and what stays in
registers. A kernel here says both: it is a Python function that is run once, when it is compiled,
and gives LLVM's instructions for numbers of this many lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

FLOAT, INT, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
BYTES = 4  # of a number


def lanes() -> int:
    """Return the count of fp32 numbers in this processor's vectors."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


LANES = lanes()
VECTOR = ir.VectorType(FLOAT, LANES)
SIZE = BYTES * LANES  # of a vector
ZERO = ir.Constant(VECTOR, [0.0] * LANES)
Float = ir.Value


@dataclass(frozen=True)
class Vector:
    """A vector of a kernel that is being compiled, with arithmetic."""

    builder: ir.IRBuilder
    value: ir.Value

    def _with(self, operation: Callable[..., ir.Value], other: Vector | float) -> Vector:
        if not isinstance(other, Vector):
            other = Vector(self.builder, ir.Constant(VECTOR, [float(other)] * LANES))
        # With "contract" a product and a sum may become one instruction.
        return Vector(self.builder, operation(self.value, other.value, flags=("contract",)))

    def __add__(self, other: Vector | float) -> Vector:
        return self._with(self.builder.fadd, other)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._with(self.builder.fsub, other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._with(self.builder.fmul, other)

    __radd__, __rmul__ = __add__, __mul__

    def where(self, condition: ir.Value) -> Vector:
        """Return this where a condition holds, 0 elsewhere."""
        return Vector(self.builder, self.builder.select(condition, self.value, ZERO))

    def is_positive(self) -> ir.Value:
        return self.builder.fcmp_ordered(">", self.value, ZERO)

    def relu(self) -> Vector:
        """Return max(this, 0); what is not a number stays so."""
        below = self.builder.fcmp_ordered("<", self.value, ZERO)
        return Vector(self.builder, self.builder.select(below, ZERO, self.value))


@dataclass(frozen=True)
class Long:
    """A 64-bit integer of a kernel that is being compiled, and what lies there as an address."""

    builder: ir.IRBuilder
    value: ir.Value

    def _with(self, operation: Callable[..., ir.Value], other: Long | int) -> Long:
        value = LONG(other) if isinstance(other, int) else other.value
        return Long(self.builder, operation(self.value, value))

    def __add__(self, other: Long | int) -> Long:
        return self._with(self.builder.add, other)

    def __mul__(self, other: Long | int) -> Long:
        return self._with(self.builder.mul, other)

    def is_not(self, other: Long) -> ir.Value:
        return self.builder.icmp_signed("!=", self.value, other.value)

    def pointer(self, kind: ir.Type) -> Any:
        return self.builder.inttoptr(self.value, kind.as_pointer())

    def number(self, kind: ir.Type = FLOAT) -> ir.Value:
        return self.builder.load(self.pointer(kind))

    def long(self) -> Long:
        return Long(self.builder, self.number(LONG))

    def load(self) -> Vector:
        return Vector(self.builder, self.builder.load(self.pointer(VECTOR), align=BYTES))

    def store(self, vector: Vector) -> None:
        self.builder.store(vector.value, self.pointer(VECTOR), align=BYTES)

    def spread(self) -> Vector:
        """Return one number in all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, self.number(), INT(0))
        everywhere = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
        return Vector(self.builder, self.builder.shuffle_vector(one, one, everywhere))


def accumulate(
    count: Long, at_first: Sequence[Vector], terms: Callable[[Long], Iterable[Vector]]
) -> list[Vector]:
    """Return sums over a loop, which LLVM keeps in registers; `terms` gives what each turn adds."""
    builder = count.builder
    slots = [cgutils.alloca_once(builder, VECTOR) for _ in at_first]
    for slot, vector in zip(slots, at_first):
        builder.store(vector.value, slot)
    with cgutils.for_range(builder, count.value, intp=LONG) as loop:
        for slot, term in zip(slots, terms(Long(builder, loop.index))):
            builder.store((Vector(builder, builder.load(slot)) + term).value, slot)
    return [Vector(builder, builder.load(slot)) for slot in slots]


def rectified(scale: Long, shift: Long) -> Callable[[Vector], Vector]:
    """Return relu(scale h + shift) as a function of h; normalisation and modulation are in it."""
    a, b = scale.load(), shift.load()
    return lambda h: (h * a + b).relu()


def unrectified(scale: Long, shift: Long, more: Long) -> Callable[[Vector, Vector], Vector]:
    """Return the gradient to h as a function of g, that to `rectified`, and h.

    At `more` is what h has through its normalisation: a number to add, and another for each unit.
    """
    a, b = scale.load(), shift.load()
    base, slope = more.spread(), (more + BYTES).spread()
    return lambda g, h: (g * a).where((h * a + b).is_positive()) + base + slope * h
