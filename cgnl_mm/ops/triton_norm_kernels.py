"""The Triton kernels behind ``folded_norm_triton.py``, which launches them.

z is the weight W (C, k) of W_z. A row is a sample and group, a line one of its
c channels; line l of row r is number r c + l of the ``total`` = B C lines.
Other shapes and names as in ``triton_kernels.py``, quantities as in
``folded_norm.py``. FACTOR says where the factor (B G) goes: 0 nowhere, 1 into
W, 2 into the norm. ``size`` channels share mean and variance, those of a
sample or, with OVER_BATCH, of all; where these are GIVEN, each has its own.

The *members* of a tile are the channels of all norm groups that it touches.
Each of its lines sums over the members of its own group, so that any number
of norm groups goes with any number of channel groups.
"""

import triton
import triton.language as tl


@triton.jit
def _factor(factor, row, valid, USED: tl.constexpr):
    """Of the rows; 1 without a factor."""
    value = (row * 0 + 1).to(tl.float32)
    if USED:
        value = tl.load(factor + row, mask=valid, other=1.0).to(tl.float32)
    return value


@triton.jit
def _lines(c, groups, tiles, BLOCK_C: tl.constexpr):
    """A program's row, tile and lines; whether these are there; channels."""
    program = tl.program_id(0)
    row = (program // tiles).to(tl.int64)
    tile = program % tiles
    line = tile * BLOCK_C + tl.arange(0, BLOCK_C)
    return row, tile, line, line < c, (row % groups).to(tl.int32) * c + line


@triton.jit
def _weights(z, channel, valid, k, K: tl.constexpr):
    """W (channels, K)."""
    inner = tl.arange(0, K)
    return tl.load(
        z + channel[:, None] * k + inner[None, :],
        mask=valid[:, None] & (inner[None, :] < k),
        other=0.0,
    ).to(tl.float32)


@triton.jit
def _members(
    row,
    tile,
    c,
    groups,
    size,
    batch,
    OVER_BATCH: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """First sample and channel of a tile's members, channels and number."""
    start = (row % groups).to(tl.int32) * c
    last = start + tl.minimum(tile * BLOCK_C + BLOCK_C, c) - 1
    first = (start + tile * BLOCK_C) // size * size
    span = (last // size + 1) * size - first
    sample, members = row // groups, span
    if OVER_BATCH:
        sample, members = row * 0, span * batch
    return sample, first, span, members


@triton.jit
def _some_members(
    start,
    sample,
    first,
    span,
    members,
    channels,
    size,
    norm_group,
    BLOCK_E: tl.constexpr,
):
    """Channels and numbers of BLOCK_E members, whether they are there, and
    (BLOCK_C, BLOCK_E) whether they are of a line's group.
    """
    e = start + tl.arange(0, BLOCK_E)
    there = e < members
    channel = first + e % span
    at = (sample + e // span) * channels + channel
    same = there[None, :] & (channel[None, :] // size == norm_group[:, None])
    return channel, at, there, same


@triton.jit
def _product(
    z,
    cov,
    row,
    channel,
    valid,
    k,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """W K (BLOCK_C, K) for channels of a row."""
    inner = tl.arange(0, K)
    sums = tl.zeros([BLOCK_C, K], tl.float32)
    for start in range(0, k, BLOCK_K):
        other = start + tl.arange(0, BLOCK_K)
        a = tl.load(
            z + channel[:, None] * k + other[None, :],
            mask=valid[:, None] & (other[None, :] < k),
            other=0.0,
        ).to(tl.float32)
        b = tl.load(
            cov + (row * k + other[:, None]) * k + inner[None, :],
            mask=(other[:, None] < k) & (inner[None, :] < k),
            other=0.0,
        )
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    return sums


@triton.jit
def moments_kernel(
    z,
    mean,
    cov,
    moments,
    total,
    c,
    k,
    groups,
    tiles,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """moments (2, B C): mean and variance of W y, without the factor."""
    row, tile, line, valid, channel = _lines(c, groups, tiles, BLOCK_C)
    inner = tl.arange(0, K)
    w = _weights(z, channel, valid, k, K)
    y_mean = tl.load(mean + row * k + inner, mask=inner < k, other=0.0)
    product = _product(
        z, cov, row, channel, valid, k, PRECISION, K, BLOCK_K, BLOCK_C
    )
    var = tl.sum(product * w, 1)
    # no less than zero, whatever was rounded; NaN stays
    var = tl.where(var < 0, 0.0, var)
    target = moments + row * c + line
    tl.store(target, tl.sum(w * y_mean[None, :], 1), mask=valid)
    tl.store(target + total, var, mask=valid)


@triton.jit
def fold_kernel(
    z,
    factor,
    moments,
    weight,
    bias,
    mean,
    var,
    scaled,
    shift,
    total,
    channels,
    batch,
    c,
    k,
    groups,
    size,
    eps,
    tiles,
    FACTOR: tl.constexpr,
    GIVEN: tl.constexpr,
    OVER_BATCH: tl.constexpr,
    K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """scaled (B G, c, k) and shift (B C); mean and var unless GIVEN."""
    row, tile, line, valid, channel = _lines(c, groups, tiles, BLOCK_C)
    norm_group = channel // size
    if GIVEN:
        m = tl.load(mean + channel, mask=valid, other=0.0).to(tl.float32)
        v = tl.load(var + channel, mask=valid, other=1.0).to(tl.float32)
    else:
        sample, first, span, members = _members(
            row, tile, c, groups, size, batch, OVER_BATCH, BLOCK_C
        )
        m = tl.zeros([BLOCK_C], tl.float32)
        v = tl.zeros([BLOCK_C], tl.float32)
        count = (size * (members // span)).to(tl.float32)
        for start in range(0, members, BLOCK_E):
            _, at, there, same = _some_members(
                start, sample, first, span, members, channels, size,
                norm_group, BLOCK_E,
            )  # fmt: skip
            before = _factor(factor, at // c, there, FACTOR == 1)
            um = tl.load(moments + at, mask=there, other=0.0) * before
            m += tl.sum(tl.where(same, um[None, :], 0.0), 1)
        m = m / count
        for start in range(0, members, BLOCK_E):
            _, at, there, same = _some_members(
                start, sample, first, span, members, channels, size,
                norm_group, BLOCK_E,
            )  # fmt: skip
            before = _factor(factor, at // c, there, FACTOR == 1)
            um = tl.load(moments + at, mask=there, other=0.0) * before
            uv = tl.load(moments + total + at, mask=there, other=0.0)
            away = um[None, :] - m[:, None]
            uv = (uv * before * before)[None, :] + away * away
            v += tl.sum(tl.where(same, uv, 0.0), 1)
        v = v / count
        # the first line of a group writes for all
        target = norm_group
        writes = valid & (channel % size == 0)
        if OVER_BATCH:
            writes = writes & (row < groups)
        else:
            target += row // groups * (channels // size)
        tl.store(mean + target, m, mask=writes)
        tl.store(var + target, v, mask=writes)
    before = _factor(factor, row, row >= 0, FACTOR == 1)
    f = _factor(factor, row, row >= 0, FACTOR == 2)
    gamma = tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)
    beta = tl.load(bias + channel, mask=valid, other=0.0).to(tl.float32)
    alpha = f * tl.rsqrt(f * f * v + eps) * gamma
    tl.store(shift + row * c + line, beta - alpha * m, mask=valid)
    inner = tl.arange(0, K)
    inside = valid[:, None] & (inner[None, :] < k)
    w = _weights(z, channel, valid, k, K)
    tl.store(
        scaled + (row * c + line[:, None]) * k + inner[None, :],
        w * (before * alpha)[:, None],
        mask=inside,
    )


@triton.jit
def products_kernel(
    z,
    d_matrix,
    products,
    total,
    channels,
    k,
    K: tl.constexpr,
    LINES: tl.constexpr,
):
    """products (B C): W times the gradient of ``scaled``, by lines."""
    at = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)
    valid = at < total
    inner = tl.arange(0, K)[None, :]
    inside = valid[:, None] & (inner < k)
    w = _weights(z, at % channels, valid, k, K)
    d = tl.load(d_matrix + at[:, None] * k + inner, mask=inside, other=0.0)
    tl.store(products + at, tl.sum(d * w, 1), mask=valid)


@triton.jit
def lines_backward_kernel(
    z,
    factor,
    moments,
    weight,
    mean,
    var,
    y_mean,
    cov,
    products,
    d_matrix,
    d_shift,
    scaled,
    d_z,
    parts,
    total,
    channels,
    batch,
    c,
    k,
    groups,
    size,
    eps,
    tiles,
    FACTOR: tl.constexpr,
    GIVEN: tl.constexpr,
    OVER_BATCH: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """scaled again, the gradient of z by samples d_z (B C, k), and parts.

    parts (4, B C): gradients of the lines' moments, variance first, and what
    each line adds to the gradients of the factor and of the weight.
    """
    row, tile, line, valid, channel = _lines(c, groups, tiles, BLOCK_C)
    norm_group = channel // size
    at_line = row * c + line
    before = _factor(factor, row, row >= 0, FACTOR == 1)
    f = _factor(factor, row, row >= 0, FACTOR == 2)
    gamma = tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)
    at_stats = norm_group
    if GIVEN:
        at_stats = channel
    elif not OVER_BATCH:
        at_stats += row // groups * (channels // size)
    m = tl.load(mean + at_stats, mask=valid, other=0.0).to(tl.float32)
    v = tl.load(var + at_stats, mask=valid, other=1.0).to(tl.float32)
    r = tl.rsqrt(f * f * v + eps)
    alpha = f * r * gamma
    inner = tl.arange(0, K)
    inside = valid[:, None] & (inner[None, :] < k)
    at_entry = at_line[:, None] * k + inner[None, :]
    w = _weights(z, channel, valid, k, K)
    tl.store(scaled + at_entry, w * (before * alpha)[:, None], mask=inside)
    d = tl.load(d_matrix + at_entry, mask=inside, other=0.0)
    d_line = tl.load(d_shift + at_line, mask=valid, other=0.0)
    product = tl.sum(d * w, 1)
    d_weight = f * r * (before * product - m * d_line)
    tl.store(parts + 3 * total + at_line, d_weight, mask=valid)
    d_w = d * alpha[:, None]
    d_factor = alpha * product
    if not GIVEN:
        sample, first, span, members = _members(
            row, tile, c, groups, size, batch, OVER_BATCH, BLOCK_C
        )
        d_s = tl.zeros([BLOCK_C], tl.float32)
        d_m = tl.zeros([BLOCK_C], tl.float32)
        count = (size * (members // span)).to(tl.float32)
        for start in range(0, members, BLOCK_E):
            other, at, there, same = _some_members(
                start, sample, first, span, members, channels, size,
                norm_group, BLOCK_E,
            )  # fmt: skip
            factors = _factor(factor, at // c, there, FACTOR == 1)
            q = tl.load(products + at, mask=there, other=0.0) * factors
            d_at = tl.load(d_shift + at, mask=there, other=0.0)
            gammas = tl.load(weight + other, mask=there, other=0.0)
            gammas = gammas.to(tl.float32)[None, :]
            q = q[None, :] - m[:, None] * d_at[None, :]
            d_s += tl.sum(tl.where(same, gammas * q, 0.0), 1)
            d_m += tl.sum(tl.where(same, gammas * d_at[None, :], 0.0), 1)
        scale = f * r
        d_uv = -0.5 * scale * scale * scale * d_s / count
        um = tl.load(moments + at_line, mask=valid, other=0.0)
        d_um = 2 * d_uv * (um * before - m) - scale * d_m / count
        tl.store(parts + at_line, d_uv, mask=valid)
        tl.store(parts + total + at_line, d_um, mask=valid)
        w_cov = _product(
            z, cov, row, channel, valid, k, PRECISION, K, BLOCK_K, BLOCK_C
        )
        mu = tl.load(y_mean + row * k + inner, mask=inner < k, other=0.0)
        d_w += w_cov * (2 * d_uv * before)[:, None]
        d_w += d_um[:, None] * mu[None, :]
        if FACTOR == 1:
            uv = tl.load(moments + total + at_line, mask=valid, other=0.0)
            d_factor += 2 * d_uv * before * uv + d_um * um
        if FACTOR == 2:
            # a norm group lies within a row: its first line counts for it
            d_factor = d_s * eps * r * r * r
            d_factor = tl.where(channel % size == 0, d_factor, 0.0)
    if FACTOR > 0:
        tl.store(parts + 2 * total + at_line, d_factor, mask=valid)
    tl.store(d_z + at_entry, d_w * before, mask=inside)


@triton.jit
def rows_backward_kernel(
    z,
    factor,
    y_mean,
    parts,
    inside,
    shift,
    d_factor,
    total,
    c,
    k,
    groups,
    positions,
    tiles,
    FACTOR: tl.constexpr,
    GIVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    LINES: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """inside, shift (``passes.input_gradient``): LINES of k; d_factor (B G).

    inside = 2/S d_cov, shift = d_mean/S - inside mean.
    """
    program = tl.program_id(0)
    row = (program // tiles).to(tl.int64)
    tile = program % tiles
    some = tile * LINES + tl.arange(0, LINES)
    inner = tl.arange(0, K)
    before = _factor(factor, row, row >= 0, FACTOR == 1)
    d_cov = tl.zeros([LINES, K], tl.float32)
    d_mean = tl.zeros([LINES], tl.float32)
    sums = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, c, BLOCK_C):
        line = start + tl.arange(0, BLOCK_C)
        valid = line < c
        source = parts + row * c + line
        if not GIVEN:
            channel = (row % groups).to(tl.int32) * c + line
            d_uv = tl.load(source, mask=valid, other=0.0)
            d_um = tl.load(source + total, mask=valid, other=0.0)
            w = _weights(z, channel, valid, k, K)
            back = tl.load(
                z + channel[None, :] * k + some[:, None],
                mask=valid[None, :] & (some[:, None] < k),
                other=0.0,
            ).to(tl.float32)
            d_mean += tl.sum(back * d_um[None, :], 1)
            d_cov = tl.dot(
                back * d_uv[None, :], w, d_cov, input_precision=PRECISION
            )
        if FACTOR > 0:
            sums += tl.load(source + 2 * total, mask=valid, other=0.0)
    d_cov = d_cov * (before * before * 2 / positions)
    mu = tl.load(y_mean + row * k + inner, mask=inner < k, other=0.0)
    d_mean = d_mean * (before / positions) - tl.sum(d_cov * mu[None, :], 1)
    target = row * k + some
    tl.store(
        inside + target[:, None] * k + inner[None, :],
        d_cov,
        mask=(some[:, None] < k) & (inner[None, :] < k),
    )
    tl.store(shift + target, d_mean, mask=some < k)
    if FACTOR > 0:
        tl.store(d_factor + row, tl.sum(sums, 0), mask=tile == 0)


@triton.jit
def join_samples_kernel(
    d_z,
    parts,
    d_shift,
    d_z_out,
    d_weight,
    d_bias,
    total,
    channels,
    batch,
    k,
    K: tl.constexpr,
    LINES: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Gradients of z, weight and bias: the sums over the samples, in order."""
    channel = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)
    valid = channel < channels
    inner = tl.arange(0, K)
    z_sum = tl.zeros([LINES, K], tl.float32)
    weight_sum = tl.zeros([LINES], tl.float32)
    bias_sum = tl.zeros([LINES], tl.float32)
    for start in range(0, batch, SAMPLES):
        sample = start + tl.arange(0, SAMPLES)
        here = (sample[:, None] < batch) & valid[None, :]
        at = sample[:, None] * channels + channel[None, :]
        entries = tl.load(
            d_z + at[:, :, None] * k + inner[None, None, :],
            mask=here[:, :, None] & (inner[None, None, :] < k),
            other=0.0,
        )
        z_sum += tl.sum(entries, 0)
        part = tl.load(parts + 3 * total + at, mask=here, other=0.0)
        weight_sum += tl.sum(part, 0)
        bias_sum += tl.sum(tl.load(d_shift + at, mask=here, other=0.0), 0)
    tl.store(
        d_z_out + channel[:, None] * k + inner[None, :],
        z_sum,
        mask=valid[:, None] & (inner[None, :] < k),
    )
    tl.store(d_weight + channel, weight_sum, mask=valid)
    tl.store(d_bias + channel, bias_sum, mask=valid)
