"""The Triton kernels behind ``passes_triton.py``, which launches them.

Maps of the inside are contiguous (rows, k, S), one row a sample and group;
x, its like and their gradients are (B, C, S) of any strides, c = C / G of
their channels belonging to a row. Capitals are constants of a launch: K is k
padded to a power of two, PRECISION the way of tl.dot with float32. Grids have
one axis, the others end at 65535. Half-precision maps are widened to float32
before a product: TF32 holds each of their values exactly, and the small
matrices beside them keep float32's range. Triton knows of a number only
whether 16 divides it; ALIGN, a power of two that divides S (ALIGN_C: the
strides of channels), makes wide loads of maps like 14 x 14 possible.
"""

import triton
import triton.language as tl


@triton.jit
def inner_products_kernel(
    phi,
    g,
    partial,
    size,
    rows,
    splits,
    POWERS: tl.constexpr,  # bit p: whether <phi^p, g> is wanted
    HIGHEST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One block of one row: sum(phi^p g) into partial[p, row, block]."""
    program = tl.program_id(0)
    row = (program // splits).to(tl.int64)
    split = (program % splits).to(tl.int64)
    at = split * BLOCK + tl.arange(0, BLOCK)
    valid = at < size
    at += row * size
    factor = tl.load(phi + at, mask=valid, other=0.0).to(tl.float32)
    product = tl.load(g + at, mask=valid, other=0.0).to(tl.float32)
    for power in tl.static_range(HIGHEST + 1):
        if power > 0:
            product = product * factor
        if (POWERS >> power) & 1:
            target = partial + (power * rows + row) * splits + split
            tl.store(target, tl.sum(product, 0))


@triton.jit
def statistics_kernel(
    y,
    means,
    covs,
    k,
    positions,
    splits,
    chunk,
    ALIGN: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """Mean and sum of centred products / S of one chunk of positions.

    Each block is centred by its own mean and joined to those before it (Chan
    et al., 1983), so that no mean is large enough to cancel. Taken relative to
    the first position, the means themselves lose no digits either.
    """
    positions = positions // ALIGN * ALIGN
    program = tl.program_id(0)
    row = (program // splits).to(tl.int64)
    first = (program % splits) * chunk
    last = tl.minimum(first + chunk, positions)
    inner = tl.arange(0, K)
    source = y + (row * k + inner[:, None]) * positions
    pivot = tl.load(
        y + (row * k + inner) * positions + first, mask=inner < k, other=0.0
    ).to(tl.float32)
    mean = tl.zeros([K], tl.float32)
    scatter = tl.zeros([K, K], tl.float32)
    for start in range(first, last, BLOCK_S):
        at = start + tl.arange(0, BLOCK_S)
        valid = (inner[:, None] < k) & (at[None, :] < last)
        block = tl.load(source + at[None, :], mask=valid, other=0.0)
        block = tl.where(valid, block.to(tl.float32) - pivot[:, None], 0.0)
        seen = (start - first).to(tl.float32)
        count = tl.minimum(last - start, BLOCK_S).to(tl.float32)
        block_mean = tl.sum(block, 1) / count
        block = tl.where(valid, block - block_mean[:, None], 0.0)
        weight = count / (seen + count)
        step = block_mean - mean
        mean += step * weight
        scatter = tl.dot(
            block, tl.trans(block), scatter, input_precision=PRECISION
        )
        scatter += step[:, None] * step[None, :] * (seen * weight)
    line = program.to(tl.int64) * k + inner
    tl.store(means + line, mean + pivot, mask=inner < k)
    tl.store(
        covs + line[:, None] * k + inner[None, :],
        scatter / positions,
        mask=(inner[:, None] < k) & (inner[None, :] < k),
    )


@triton.jit
def join_statistics_kernel(
    means,
    covs,
    mean_out,
    cov_out,
    k,
    positions,
    splits,
    chunk,
    tiles,
    K: tl.constexpr,
    LINES: tl.constexpr,
):
    """Join the chunks of a row, in order: LINES rows of its covariance."""
    program = tl.program_id(0)
    row = (program // tiles).to(tl.int64)
    line = (program % tiles) * LINES + tl.arange(0, LINES)
    inner = tl.arange(0, K)
    valid = (line[:, None] < k) & (inner[None, :] < k)
    entry = line[:, None] * k + inner[None, :]
    mean = tl.zeros([K], tl.float32)
    line_mean = tl.zeros([LINES], tl.float32)
    cov = tl.zeros([LINES, K], tl.float32)
    for split in range(splits):
        part = row * splits + split
        seen = (split * chunk).to(tl.float32)
        count = tl.minimum(positions - split * chunk, chunk).to(tl.float32)
        weight = count / (seen + count)
        source = means + part * k
        step = tl.load(source + inner, mask=inner < k, other=0.0) - mean
        line_step = tl.load(source + line, mask=line < k, other=0.0)
        line_step -= line_mean
        cov += tl.load(covs + part * k * k + entry, mask=valid, other=0.0)
        cov += line_step[:, None] * step[None, :] * (seen * weight / positions)
        mean += step * weight
        line_mean += line_step * weight
    tl.store(mean_out + row * k + line, line_mean, mask=line < k)
    tl.store(cov_out + row * k * k + entry, cov, mask=valid)


@triton.jit
def apply_kernel(
    x,
    shift,
    matrix,
    y,
    out,
    c,
    k,
    positions,
    groups,
    x_b,
    x_c,
    x_s,
    out_b,
    out_c,
    out_s,
    tiles_c,
    tiles_s,
    ALIGN: tl.constexpr,
    ALIGN_C: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """out = x + shift + matrix y: BLOCK_C channels at BLOCK_S positions."""
    positions = positions // ALIGN * ALIGN
    x_c = x_c // ALIGN_C * ALIGN_C
    out_c = out_c // ALIGN_C * ALIGN_C
    program = tl.program_id(0)
    # tiles that share their part of y run side by side
    line = (program % tiles_c) * BLOCK_C + tl.arange(0, BLOCK_C)
    program = program // tiles_c
    at = (program % tiles_s) * BLOCK_S + tl.arange(0, BLOCK_S)
    row = (program // tiles_s).to(tl.int64)
    sums = tl.zeros([BLOCK_C, BLOCK_S], tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        a = tl.load(
            matrix + (row * c + line[:, None]) * k + inner[None, :],
            mask=(line[:, None] < c) & (inner[None, :] < k),
            other=0.0,
        ).to(tl.float32)
        b = tl.load(
            y + (row * k + inner[:, None]) * positions + at[None, :],
            mask=(inner[:, None] < k) & (at[None, :] < positions),
            other=0.0,
        ).to(tl.float32)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    # rows are samples times groups, so their channels follow on each other
    offset = tl.load(shift + row * c + line, mask=line < c, other=0.0)
    sums += offset.to(tl.float32)[:, None]
    sample = row // groups
    channel = (row % groups * c + line)[:, None]
    at = at[None, :].to(tl.int64)
    valid = (line[:, None] < c) & (at < positions)
    source = x + sample * x_b + channel * x_c + at * x_s
    sums += tl.load(source, mask=valid, other=0.0).to(tl.float32)
    target = out + sample * out_b + channel * out_c + at * out_s
    tl.store(target, sums, mask=valid)


@triton.jit
def apply_backward_kernel(
    d,
    y,
    d_matrix,
    d_shift,
    c,
    k,
    positions,
    rows,
    groups,
    splits,
    chunk,
    d_b,
    d_c,
    d_s,
    tiles_c,
    ALIGN: tl.constexpr,
    ALIGN_C: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """d y^T and the sum of d over one chunk of positions."""
    positions = positions // ALIGN * ALIGN
    d_c = d_c // ALIGN_C * ALIGN_C
    program = tl.program_id(0)
    line = (program % tiles_c) * BLOCK_C + tl.arange(0, BLOCK_C)
    program = program // tiles_c
    split = program % splits
    row = (program // splits).to(tl.int64)
    first = split * chunk
    last = tl.minimum(first + chunk, positions)
    inner = tl.arange(0, K)
    channel = (row % groups * c + line)[:, None]
    d_source = d + row // groups * d_b + channel * d_c
    y_source = y + (row * k + inner[:, None]) * positions
    sums = tl.zeros([BLOCK_C, K], tl.float32)
    total = tl.zeros([BLOCK_C], tl.float32)
    for start in range(first, last, BLOCK_S):
        at = start + tl.arange(0, BLOCK_S)[None, :]
        a = tl.load(
            d_source + at.to(tl.int64) * d_s,
            mask=(line[:, None] < c) & (at < last),
            other=0.0,
        ).to(tl.float32)
        b = tl.load(
            y_source + at,
            mask=(inner[:, None] < k) & (at < last),
            other=0.0,
        ).to(tl.float32)
        sums = tl.dot(a, tl.trans(b), sums, input_precision=PRECISION)
        total += tl.sum(a, 1)
    target = (split.to(tl.int64) * rows + row) * c + line
    tl.store(
        d_matrix + target[:, None] * k + inner[None, :],
        sums,
        mask=(line[:, None] < c) & (inner[None, :] < k),
    )
    tl.store(d_shift + target, total, mask=line < c)


@triton.jit
def input_gradient_kernel(
    d,
    matrix,
    y,
    inside,
    shift,
    out,
    c,
    k,
    positions,
    groups,
    d_b,
    d_c,
    d_s,
    tiles_s,
    ALIGN: tl.constexpr,
    ALIGN_C: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """out = matrix^T d + inside y + shift: a row at BLOCK_S positions."""
    positions = positions // ALIGN * ALIGN
    d_c = d_c // ALIGN_C * ALIGN_C
    program = tl.program_id(0)
    at = (program % tiles_s) * BLOCK_S + tl.arange(0, BLOCK_S)[None, :]
    row = (program // tiles_s).to(tl.int64)
    inner = tl.arange(0, K)
    sums = tl.zeros([K, BLOCK_S], tl.float32)
    for start in range(0, k, BLOCK_K):
        other = start + tl.arange(0, BLOCK_K)
        a = tl.load(
            inside + (row * k + inner[:, None]) * k + other[None, :],
            mask=(inner[:, None] < k) & (other[None, :] < k),
            other=0.0,
        ).to(tl.float32)
        b = tl.load(
            y + (row * k + other[:, None]) * positions + at,
            mask=(other[:, None] < k) & (at < positions),
            other=0.0,
        ).to(tl.float32)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    d_source = d + row // groups * d_b + at.to(tl.int64) * d_s
    for start in range(0, c, BLOCK_C):
        line = start + tl.arange(0, BLOCK_C)
        back = tl.load(
            matrix + (row * c + line[None, :]) * k + inner[:, None],
            mask=(inner[:, None] < k) & (line[None, :] < c),
            other=0.0,
        ).to(tl.float32)
        block = tl.load(
            d_source + (row % groups * c + line)[:, None] * d_c,
            mask=(line[:, None] < c) & (at < positions),
            other=0.0,
        ).to(tl.float32)
        sums = tl.dot(back, block, sums, input_precision=PRECISION)
    offset = tl.load(shift + row * k + inner, mask=inner < k, other=0.0)
    sums += offset.to(tl.float32)[:, None]
    target = out + (row * k + inner[:, None]) * positions + at
    tl.store(target, sums, mask=(inner[:, None] < k) & (at < positions))
