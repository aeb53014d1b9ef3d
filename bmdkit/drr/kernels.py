"""Joseph's method as Triton kernels: one program per view, channel and tile of pixels.

The contract is that of `cpu`: rays set up in float64 from the same affine views, samples in float32, bricks without
values skipped. Needs the package `triton`, which comes with CUDA builds of torch; set TRITON_INTERPRET=1 to run the
kernels on a CPU, slowly, as the tests do.
"""

from __future__ import annotations

import triton
import triton.language as tl

BRICK = tl.constexpr(8)


@triton.jit
def _dot(view: tl.tensor, offset: tl.constexpr, u: tl.tensor, v: tl.tensor) -> tl.tensor:
    """a[offset] + u a[offset + 3] + v a[offset + 6]."""
    return tl.load(view + offset) + u * tl.load(view + offset + 3) + v * tl.load(view + offset + 6)


@triton.jit
def _ray(view: tl.tensor, u: tl.tensor, v: tl.tensor) -> tuple[tl.tensor, ...]:
    """Main axis, direction (float64), origin along it, crossings and slopes (float64), and step of every ray."""
    d0, d1, d2 = _dot(view, 9, u, v), _dot(view, 10, u, v), _dot(view, 11, u, v)
    o0, o1, o2 = _dot(view, 0, u, v), _dot(view, 1, u, v), _dot(view, 2, u, v)
    m0, m1, m2 = _dot(view, 18, u, v), _dot(view, 19, u, v), _dot(view, 20, u, v)
    x_main = (tl.abs(d0) >= tl.abs(d1)) & (tl.abs(d0) >= tl.abs(d2))
    y_main = (tl.abs(d1) >= tl.abs(d2)) & (x_main == 0)
    axis = tl.where(x_main, 0, tl.where(y_main, 1, 2))
    ahead = tl.where(x_main, d0, tl.where(y_main, d1, d2))
    k = tl.where(x_main, o0, tl.where(y_main, o1, o2))
    slope_x, slope_y = tl.where(x_main, d1, d0) / ahead, tl.where(axis == 2, d1, d2) / ahead
    x0 = tl.where(x_main, o1, o0) - k * slope_x
    y0 = tl.where(axis == 2, o1, o2) - k * slope_y
    step = tl.sqrt(m0 * m0 + m1 * m1 + m2 * m2) / tl.abs(ahead)
    return axis, ahead, k, x0, slope_x, y0, slope_y, step


@triton.jit
def _by_axis(axis: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor) -> tl.tensor:
    """a, b or c as the axis is 0, 1 or 2."""
    return tl.where(axis == 0, a, tl.where(axis == 1, b, c))


@triton.jit
def _brick(
    bricks: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    k: tl.tensor,
    size_x: tl.tensor,
    size_y: tl.tensor,
    step_x: tl.tensor,
    step_y: tl.tensor,
    step_k: tl.tensor,
    valid: tl.tensor,
) -> tl.tensor:
    """Whether the brick that holds (x, y) in the plane k is occupied; past the grid its edge counts."""
    i = tl.minimum(tl.maximum(tl.floor(x).to(tl.int32), 0), size_x - 1) // BRICK
    j = tl.minimum(tl.maximum(tl.floor(y).to(tl.int32), 0), size_y - 1) // BRICK
    return tl.load(bricks + (i * step_x + j * step_y + k * step_k), mask=valid, other=0).to(tl.int32)


@triton.jit
def _sample(
    volume: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    plane: tl.tensor,
    size_x: tl.tensor,
    size_y: tl.tensor,
    step_x: tl.tensor,
    step_y: tl.tensor,
    valid: tl.tensor,
) -> tuple[tl.tensor, ...]:
    """The four neighbours, 0 outside, and the weights along x and y."""
    fx, fy = tl.floor(x), tl.floor(y)
    i, j = fx.to(tl.int32), fy.to(tl.int32)
    left, right = valid & (i >= 0) & (i < size_x), valid & (i >= -1) & (i < size_x - 1)
    top, bottom = (j >= 0) & (j < size_y), (j >= -1) & (j < size_y - 1)
    at = volume + (plane + i * step_x + j * step_y)
    f00 = tl.load(at, mask=left & top, other=0.0).to(tl.float32)
    f10 = tl.load(at + step_x, mask=right & top, other=0.0).to(tl.float32)
    f01 = tl.load(at + step_y, mask=left & bottom, other=0.0).to(tl.float32)
    f11 = tl.load(at + step_x + step_y, mask=right & bottom, other=0.0).to(tl.float32)
    return f00, f10, f01, f11, x - fx, y - fy


@triton.jit
def _pixels(
    window: tl.tensor, columns: tl.tensor, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Row and column of every lane of a program's tile, and whether they lie in the view's window."""
    tiles = tl.cdiv(columns, TILE_COLUMNS)
    lane = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    row = (tl.program_id(0) // tiles) * TILE_ROWS + lane // TILE_COLUMNS
    column = (tl.program_id(0) % tiles) * TILE_COLUMNS + lane % TILE_COLUMNS
    inside = (row >= tl.load(window)) & (row < tl.load(window + 1))
    inside &= (column >= tl.load(window + 2)) & (column < tl.load(window + 3))
    return row, column, inside


@triton.jit
def _march(
    volume: tl.tensor,
    occupied: tl.tensor,
    axis: tl.tensor,
    x0: tl.tensor,
    slope_x: tl.tensor,
    y0: tl.tensor,
    slope_y: tl.tensor,
    inside: tl.tensor,
    nx: tl.tensor,
    ny: tl.tensor,
    nz: tl.tensor,
    channel: tl.tensor,
    first_layer: tl.tensor,
    last_layer: tl.tensor,
    GRADIENT: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """The sums of the samples and, if asked for, of f_x, f_y, k f_x and k f_y along every ray."""
    x0, slope_x, y0, slope_y = x0.to(tl.float32), slope_x.to(tl.float32), y0.to(tl.float32), slope_y.to(tl.float32)
    bx, by, bz = tl.cdiv(nx, BRICK), tl.cdiv(ny, BRICK), tl.cdiv(nz, BRICK)
    size, size_x, size_y = _by_axis(axis, nx, ny, nz), _by_axis(axis, ny, nx, nx), _by_axis(axis, nz, nz, ny)
    step, step_x, step_y = (
        _by_axis(axis, 1, nx, nx * ny),
        _by_axis(axis, nx, 1, 1),
        _by_axis(axis, nx * ny, nx * ny, nx),
    )
    brick, brick_x, brick_y = (
        _by_axis(axis, 1, bx, bx * by),
        _by_axis(axis, bx, 1, 1),
        _by_axis(axis, bx * by, bx * by, bx),
    )
    data = volume + channel.to(tl.int64) * nz * ny * nx
    bricks = occupied + channel.to(tl.int64) * bz * by * bx
    total, sum_x, sum_y, far_x, far_y = x0 * 0, x0 * 0, x0 * 0, x0 * 0, x0 * 0
    for layer in range(first_layer, last_layer + 1):
        start = layer * BRICK
        xa, ya = x0 + start * slope_x, y0 + start * slope_y
        xb, yb = xa + (BRICK - 1) * slope_x, ya + (BRICK - 1) * slope_y
        near = inside & (start < size)
        near &= (tl.maximum(xa, xb) > -1) & (tl.minimum(xa, xb) < size_x)
        near &= (tl.maximum(ya, yb) > -1) & (tl.minimum(ya, yb) < size_y)
        hit = _brick(bricks, xa, ya, layer, size_x, size_y, brick_x, brick_y, brick, near)
        hit |= _brick(bricks, xb, ya, layer, size_x, size_y, brick_x, brick_y, brick, near)
        hit |= _brick(bricks, xa, yb, layer, size_x, size_y, brick_x, brick_y, brick, near)
        hit |= _brick(bricks, xb, yb, layer, size_x, size_y, brick_x, brick_y, brick, near)
        if tl.max(hit, axis=0) > 0:
            for k in range(start, start + BRICK):
                f00, f10, f01, f11, wx, wy = _sample(
                    data,
                    x0 + k * slope_x,
                    y0 + k * slope_y,
                    k * step,
                    size_x,
                    size_y,
                    step_x,
                    step_y,
                    near & (k < size) & (hit > 0),
                )
                low, high = f00 + wx * (f10 - f00), f01 + wx * (f11 - f01)
                total += low + wy * (high - low)
                if GRADIENT:
                    along_x = (f10 - f00) + wy * ((f11 - f01) - (f10 - f00))
                    sum_x += along_x
                    sum_y += high - low
                    far_x += k * along_x
                    far_y += k * (high - low)
    return total, sum_x, sum_y, far_x, far_y


@triton.jit
def render(
    volume: tl.tensor,
    occupied: tl.tensor,
    views: tl.tensor,
    windows: tl.tensor,
    images: tl.tensor,
    nx: tl.tensor,
    ny: tl.tensor,
    nz: tl.tensor,
    row0: tl.tensor,
    column0: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    first_layer: tl.tensor,
    last_layer: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
) -> None:
    """Images (P, C, rows, columns); the grid is (tiles, C, P)."""
    channel, pose = tl.program_id(1), tl.program_id(2)
    row, column, inside = _pixels(windows + 4 * pose, columns, TILE_ROWS, TILE_COLUMNS)
    u, v = (column + column0).to(tl.float64), (row + row0).to(tl.float64)
    axis, _ahead, _k, x0, slope_x, y0, slope_y, step = _ray(views + 27 * pose, u, v)
    total, _a, _b, _c, _d = _march(
        volume, occupied, axis, x0, slope_x, y0, slope_y, inside, nx, ny, nz, channel, first_layer, last_layer, False
    )
    image = images + (pose * tl.num_programs(1) + channel).to(tl.int64) * rows * columns
    tl.store(image + row * columns + column, total * step.to(tl.float32), mask=inside)


@triton.jit
def views_gradient(
    volume: tl.tensor,
    occupied: tl.tensor,
    views: tl.tensor,
    windows: tl.tensor,
    weights: tl.tensor,
    gradient: tl.tensor,
    nx: tl.tensor,
    ny: tl.tensor,
    nz: tl.tensor,
    row0: tl.tensor,
    column0: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    first_layer: tl.tensor,
    last_layer: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
) -> None:
    """Gradient (P, C, tiles, 27), float64: what each tile adds to the derivative by the views, as in `cpu_gradient`."""
    channel, pose = tl.program_id(1), tl.program_id(2)
    row, column, inside = _pixels(windows + 4 * pose, columns, TILE_ROWS, TILE_COLUMNS)
    u, v = (column + column0).to(tl.float64), (row + row0).to(tl.float64)
    view = views + 27 * pose
    axis, ahead, k, x0, slope_x, y0, slope_y, step = _ray(view, u, v)
    total, sum_x, sum_y, far_x, far_y = _march(
        volume, occupied, axis, x0, slope_x, y0, slope_y, inside, nx, ny, nz, channel, first_layer, last_layer, True
    )
    image = weights + (pose * tl.num_programs(1) + channel).to(tl.int64) * rows * columns
    weight = tl.load(image + row * columns + column, mask=inside, other=0.0).to(tl.float64)
    sums = total * weight, sum_x * weight, sum_y * weight, far_x * weight, far_y * weight
    place = (pose * tl.num_programs(1) + channel) * tl.num_programs(0) + tl.program_id(0)
    out = gradient + place.to(tl.int64) * 27
    for i in tl.static_range(3):
        by_origin, by_direction, length = _partials(i, view, axis, ahead, k, slope_x, slope_y, step, sums, u, v)
        _moments(out + i, by_origin, u, v)
        _moments(out + 9 + i, by_direction, u, v)
        _moments(out + 18 + i, length, u, v)


@triton.jit
def _partials(
    i: tl.constexpr,
    view: tl.tensor,
    axis: tl.tensor,
    ahead: tl.tensor,
    k: tl.tensor,
    slope_x: tl.tensor,
    slope_y: tl.tensor,
    step: tl.tensor,
    sums: tuple[tl.tensor, ...],
    u: tl.tensor,
    v: tl.tensor,
) -> tuple[tl.tensor, ...]:
    """Derivatives of every ray's value by component i of its origin, its direction, and its direction in mm."""
    total, sum_x, sum_y, far_x, far_y = sums
    turn_x, turn_y = far_x - k * sum_x, far_y - k * sum_y
    origin_x, origin_y = step * sum_x, step * sum_y
    origin = -(origin_x * slope_x + origin_y * slope_y)
    direction_x, direction_y = step * turn_x / ahead, step * turn_y / ahead
    direction = -(direction_x * slope_x + direction_y * slope_y) - step * total / ahead
    length = total / (step * ahead * ahead) * _dot(view, 18 + i, u, v)
    by_origin = tl.where(axis == i, origin, tl.where(_is_x(axis, i), origin_x, origin_y))
    by_direction = tl.where(axis == i, direction, tl.where(_is_x(axis, i), direction_x, direction_y))
    return by_origin, by_direction, length


@triton.jit
def derive(
    volume: tl.tensor,
    occupied: tl.tensor,
    views: tl.tensor,
    windows: tl.tensor,
    tangents: tl.tensor,
    images: tl.tensor,
    nx: tl.tensor,
    ny: tl.tensor,
    nz: tl.tensor,
    row0: tl.tensor,
    column0: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    first_layer: tl.tensor,
    last_layer: tl.tensor,
    motions: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
) -> None:
    """Derivatives (K, C, rows, columns) of the image of one view along K motions of it; the grid is (tiles, C, 1)."""
    channel = tl.program_id(1)
    row, column, inside = _pixels(windows, columns, TILE_ROWS, TILE_COLUMNS)
    u, v = (column + column0).to(tl.float64), (row + row0).to(tl.float64)
    axis, ahead, k, x0, slope_x, y0, slope_y, step = _ray(views, u, v)
    total, sum_x, sum_y, far_x, far_y = _march(
        volume, occupied, axis, x0, slope_x, y0, slope_y, inside, nx, ny, nz, channel, first_layer, last_layer, True
    )
    sums = (
        total.to(tl.float64),
        sum_x.to(tl.float64),
        sum_y.to(tl.float64),
        far_x.to(tl.float64),
        far_y.to(tl.float64),
    )
    for motion in range(motions):
        along = tangents + 27 * motion
        value = u * 0
        for i in tl.static_range(3):
            by_origin, by_direction, length = _partials(i, views, axis, ahead, k, slope_x, slope_y, step, sums, u, v)
            value += by_origin * _dot(along, i, u, v) + by_direction * _dot(along, 9 + i, u, v)
            value += length * _dot(along, 18 + i, u, v)
        image = images + (motion * tl.num_programs(1) + channel).to(tl.int64) * rows * columns
        tl.store(image + row * columns + column, value.to(tl.float32), mask=inside)


@triton.jit
def _is_x(axis: tl.tensor, i: tl.constexpr) -> tl.tensor:
    """Whether index axis i is the first of the two that span the planes."""
    return ((axis == 0) & (i == 1)) | ((axis != 0) & (i == 0))


@triton.jit
def _moments(out: tl.tensor, value: tl.tensor, u: tl.tensor, v: tl.tensor) -> None:
    """The sums of a value, and of it times u and v."""
    tl.store(out, tl.sum(value, axis=0))
    tl.store(out + 3, tl.sum(value * u, axis=0))
    tl.store(out + 6, tl.sum(value * v, axis=0))


@triton.jit
def backproject(
    volume: tl.tensor,
    views: tl.tensor,
    windows: tl.tensor,
    images: tl.tensor,
    nx: tl.tensor,
    ny: tl.tensor,
    nz: tl.tensor,
    row0: tl.tensor,
    column0: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
) -> None:
    """Add the adjoint of `render` applied to images to the volume, by atomic additions."""
    channel, pose = tl.program_id(1), tl.program_id(2)
    row, column, inside = _pixels(windows + 4 * pose, columns, TILE_ROWS, TILE_COLUMNS)
    u, v = (column + column0).to(tl.float64), (row + row0).to(tl.float64)
    axis, _ahead, _k, x0, slope_x, y0, slope_y, step = _ray(views + 27 * pose, u, v)
    image = images + (pose * tl.num_programs(1) + channel).to(tl.int64) * rows * columns
    value = tl.load(image + row * columns + column, mask=inside, other=0.0) * step.to(tl.float32)
    x0, slope_x, y0, slope_y = x0.to(tl.float32), slope_x.to(tl.float32), y0.to(tl.float32), slope_y.to(tl.float32)
    size, size_x, size_y = _by_axis(axis, nx, ny, nz), _by_axis(axis, ny, nx, nx), _by_axis(axis, nz, nz, ny)
    step_k, step_x, step_y = (
        _by_axis(axis, 1, nx, nx * ny),
        _by_axis(axis, nx, 1, 1),
        _by_axis(axis, nx * ny, nx * ny, nx),
    )
    data = volume + channel.to(tl.int64) * nz * ny * nx
    for k in range(0, tl.max(size, axis=0)):
        x, y = x0 + k * slope_x, y0 + k * slope_y
        fx, fy = tl.floor(x), tl.floor(y)
        i, j, wx, wy = fx.to(tl.int32), fy.to(tl.int32), x - fx, y - fy
        valid = inside & (k < size)
        left, right = valid & (i >= 0) & (i < size_x), valid & (i >= -1) & (i < size_x - 1)
        top, bottom = (j >= 0) & (j < size_y), (j >= -1) & (j < size_y - 1)
        at = data + (k * step_k + i * step_x + j * step_y)
        tl.atomic_add(at, value * (1 - wx) * (1 - wy), mask=left & top)
        tl.atomic_add(at + step_x, value * wx * (1 - wy), mask=right & top)
        tl.atomic_add(at + step_y, value * (1 - wx) * wy, mask=left & bottom)
        tl.atomic_add(at + step_x + step_y, value * wx * wy, mask=right & bottom)
