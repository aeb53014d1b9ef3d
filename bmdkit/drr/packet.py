"""Sixteen rays at once: the inner loop of Joseph's method, written as vectors of LLVM.

The loop over planes is emitted as vector code because compilers do not vectorise its loads well: the two neighbours
of a sample along x come in one 64-bit load, and the pairs of sixteen rays are told apart by two shuffles. LLVM lowers
the vectors to what the machine has. Every multiply-add is fused explicitly, so each ray's bits are the same whatever
packet it is in, and whether its packet touches the border or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Rays in a packet."""

SUMS = 5
"""Sums of a march with gradient: the samples f, f_x, f_y, k f_x and k f_y, x and y in the plane k."""

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)


def _all(value: float, vector: ir.VectorType) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    vector = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, _all(0, _INTS))


def _call(builder: ir.IRBuilder, name: str, *operands: ir.Value) -> ir.Value:
    vector = operands[0].type
    kind = "f32" if vector.element == _F32 else "i32"
    function = ir.FunctionType(vector, [vector] * len(operands))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.v{LANES}{kind}"), operands
    )


def _addresses(builder: ir.IRBuilder, base: ir.Value, offsets: ir.Value) -> list[ir.Value]:
    lanes = (builder.extract_element(offsets, ir.Constant(_I32, lane)) for lane in range(LANES))
    return [builder.gep(base, [builder.sext(lane, _I64)]) for lane in lanes]


def _load(builder: ir.IRBuilder, base: ir.Value, offsets: ir.Value) -> ir.Value:
    """base[offset] of every lane."""
    values = ir.Constant(_FLOATS, ir.Undefined)
    for lane, address in enumerate(_addresses(builder, base, offsets)):
        values = builder.insert_element(values, builder.load(address, align=4), ir.Constant(_I32, lane))
    return values


def _load_pairs(builder: ir.IRBuilder, base: ir.Value, offsets: ir.Value) -> tuple[ir.Value, ir.Value]:
    """base[offset] and base[offset + 1] of every lane."""
    pair = ir.VectorType(_F32, 2).as_pointer()
    parts = [builder.load(builder.bitcast(a, pair), align=4) for a in _addresses(builder, base, offsets)]
    size = 2
    while len(parts) > 2:
        size *= 2
        joined = ir.Constant(ir.VectorType(_I32, size), list(range(size)))
        parts = [builder.shuffle_vector(a, b, joined) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    even, odd = (ir.Constant(_INTS, list(range(start, 2 * LANES, 2))) for start in (0, 1))
    return builder.shuffle_vector(*parts, even), builder.shuffle_vector(*parts, odd)


def _within(
    builder: ir.IRBuilder, low: ir.Value, high: ir.Value, index: ir.Value, last: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Neighbours loaded at an index clamped to 0 .. last - 1, made 0 where they lie outside 0 .. last."""
    zero = _all(0.0, _FLOATS)
    before = builder.icmp_signed("==", index, _all(-1, _INTS))
    far = builder.or_(builder.icmp_signed("<", index, _all(-1, _INTS)), builder.icmp_signed(">", index, last))
    first = builder.select(builder.icmp_signed("==", index, last), high, low)
    first = builder.select(builder.or_(before, far), zero, first)
    second = builder.select(before, low, high)
    second = builder.select(
        builder.or_(builder.icmp_signed(">=", index, last), builder.icmp_signed("<", index, _all(-1, _INTS))),
        zero,
        second,
    )
    return first, second


def _neighbours(
    builder: ir.IRBuilder,
    base: ir.Value,
    i: ir.Value,
    j: ir.Value,
    steps: tuple[ir.Value, ir.Value],
    lasts: Sequence[ir.Value],
    paired: bool,
    border: bool,
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """Values at (i, j), (i+1, j), (i, j+1), (i+1, j+1) of every lane; 0 outside if `border`, else all are inside."""
    (step_x, step_y), (last_x, last_y) = steps, lasts
    at_x, at_y = i, j
    if border:
        low = _all(0, _INTS)
        at_x, at_y = (
            _call(builder, "smin", _call(builder, "smax", index, low), builder.sub(last, _all(1, _INTS)))
            for index, last in ((i, last_x), (j, last_y))
        )
    offsets = builder.mul(at_y, _splat(builder, builder.trunc(step_y, _I32)))
    below = builder.gep(base, [step_y])
    if paired:
        offsets = builder.add(offsets, at_x)
        f00, f10 = _load_pairs(builder, base, offsets)
        f01, f11 = _load_pairs(builder, below, offsets)
    else:
        offsets = builder.add(offsets, builder.mul(at_x, _splat(builder, builder.trunc(step_x, _I32))))
        f00, f01 = _load(builder, base, offsets), _load(builder, below, offsets)
        f10 = _load(builder, builder.gep(base, [step_x]), offsets)
        f11 = _load(builder, builder.gep(below, [step_x]), offsets)
    if border:
        f00, f10 = _within(builder, f00, f10, i, last_x)
        f01, f11 = _within(builder, f01, f11, i, last_x)
        f00, f01 = _within(builder, f00, f01, j, last_y)
        f10, f11 = _within(builder, f10, f11, j, last_y)
    return f00, f10, f01, f11


def _plane(
    builder: ir.IRBuilder,
    base: ir.Value,
    k: ir.Value,
    rays: Sequence[ir.Value],
    steps: tuple[ir.Value, ir.Value],
    lasts: Sequence[ir.Value],
    *,
    paired: bool,
    border: bool,
    gradient: bool,
) -> list[ir.Value]:
    """What each of the sums gains in one plane."""
    x0, slope_x, y0, slope_y = rays
    x, y = _call(builder, "fma", k, slope_x, x0), _call(builder, "fma", k, slope_y, y0)
    if border:
        low = _all(-2.0, _FLOATS)
        x, y = (
            _call(builder, "minnum", _call(builder, "maxnum", value, low), builder.sitofp(top, _FLOATS))
            for value, top in ((x, builder.add(lasts[0], _all(2, _INTS))), (y, builder.add(lasts[1], _all(2, _INTS))))
        )
    floor_x, floor_y = _call(builder, "floor", x), _call(builder, "floor", y)
    f00, f10, f01, f11 = _neighbours(
        builder, base, builder.fptosi(floor_x, _INTS), builder.fptosi(floor_y, _INTS), steps, lasts, paired, border
    )
    wx, wy = builder.fsub(x, floor_x), builder.fsub(y, floor_y)
    rise0, rise1 = builder.fsub(f10, f00), builder.fsub(f11, f01)
    at0, at1 = _call(builder, "fma", wx, rise0, f00), _call(builder, "fma", wx, rise1, f01)
    along_y = builder.fsub(at1, at0)
    gains = [_call(builder, "fma", wy, along_y, at0)]
    if gradient:
        along_x = _call(builder, "fma", wy, builder.fsub(rise1, rise0), rise0)
        gains += [along_x, along_y, builder.fmul(k, along_x), builder.fmul(k, along_y)]
    return gains


def _emitter(paired: bool, border: bool, gradient: bool) -> Any:
    """The march of a packet through planes first <= k < stop.

    Its arguments: volume, flat; where the channel starts in it; steps of k, x and y in it; last indices of x and y;
    first, stop; rays, (4, LANES): x and y at plane 0 and per plane; sums, (1 or SUMS, LANES), added to.
    """
    count = SUMS if gradient else 1

    @intrinsic
    def march(
        typing: Any,
        volume: types.Type,
        start: types.Type,
        step_k: types.Type,
        step_x: types.Type,
        step_y: types.Type,
        last_x: types.Type,
        last_y: types.Type,
        first: types.Type,
        stop: types.Type,
        rays: types.Type,
        sums: types.Type,
    ) -> tuple[Any, Any]:
        whole = types.int64

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
            volume, start, step_k, step_x, step_y, last_x, last_y, first, stop, rays, sums = arguments
            arrays = zip((volume, rays, sums), (signature.args[n] for n in (0, 9, 10)), strict=True)
            data, ray_data, sum_data = (
                context.make_array(kind)(context, builder, value).data for value, kind in arrays
            )

            def lanes(pointer: ir.Value, row: int) -> ir.Value:
                return builder.bitcast(builder.gep(pointer, [ir.Constant(_I64, row * LANES)]), _FLOATS.as_pointer())

            ray = [builder.load(lanes(ray_data, row), align=4) for row in range(4)]
            before = [builder.load(lanes(sum_data, row), align=4) for row in range(count)]
            lasts = [_splat(builder, builder.trunc(last, _I32)) for last in (last_x, last_y)]
            plane = builder.gep(data, [builder.add(start, builder.mul(first, step_k))])
            entry, loop, done = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.cbranch(builder.icmp_signed("<", first, stop), loop, done)

            builder.position_at_end(loop)
            k, base = builder.phi(_I64), builder.phi(_F32.as_pointer())
            running = [builder.phi(_FLOATS) for _ in range(count)]
            gains = _plane(
                builder,
                base,
                _splat(builder, builder.sitofp(k, _F32)),
                ray,
                (step_x, step_y),
                lasts,
                paired=paired,
                border=border,
                gradient=gradient,
            )
            after = [builder.fadd(total, gain) for total, gain in zip(running, gains, strict=True)]
            following = builder.add(k, ir.Constant(_I64, 1))
            starts, ends = [first, plane, *before], [following, builder.gep(base, [step_k]), *after]
            for phi, begin, end in zip([k, base, *running], starts, ends, strict=True):
                phi.add_incoming(begin, entry)
                phi.add_incoming(end, loop)
            builder.cbranch(builder.icmp_signed("<", following, stop), loop, done)

            builder.position_at_end(done)
            for row, (begin, end) in enumerate(zip(before, after, strict=True)):
                total = builder.phi(_FLOATS)
                total.add_incoming(begin, entry)
                total.add_incoming(end, loop)
                before[row] = total
            for row, total in enumerate(before):
                builder.store(total, lanes(sum_data, row), align=4)
            return context.get_dummy_value()

        return types.void(volume, whole, whole, whole, whole, whole, whole, whole, whole, rays, sums), emit

    return march


inside_x = _emitter(paired=True, border=False, gradient=False)
border_x = _emitter(paired=True, border=True, gradient=False)
inside = _emitter(paired=False, border=False, gradient=False)
border = _emitter(paired=False, border=True, gradient=False)
gradient_x = _emitter(paired=True, border=True, gradient=True)
gradient = _emitter(paired=False, border=True, gradient=True)
