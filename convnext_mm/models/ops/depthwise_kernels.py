"""Triton kernels of the depthwise 7 x 7 convolution of channels-last images, and of its weight's gradient.

A thread has a channel or two of a patch of ``ROWS`` x ``COLS`` results and goes down the image: a value is read once
and used for all results of the patch that it reaches, which are under way in registers, as the 49 taps are.
Everything is multiplied and summed in float32.
"""
import triton
import triton.language as tl

KERNEL = 7
#: Columns of a patch; the PTX below is made for so many.
COLS = tl.constexpr(8)
#: Rows of a turn of the loops.
UNROLL = tl.constexpr(2)


def _assembly(sums, terms):
    """PTX of ``sum[j] += values[j + i] * factors[i]``, and its operands.

    As one operation: Triton's passes take minutes for thousands.
    """
    values, factors = 2 * sums, 2 * sums + sums + terms - 1
    lines = [f'fma.rn.f32 ${j}, ${values + j + i}, ${factors + i}, ${j if i else sums + j};'
             for j in range(sums) for i in range(terms)]
    # Results are written before all operands are read.
    return tl.constexpr(' '.join(lines)), tl.constexpr(','.join(['=&f'] * sums + ['f'] * (factors + terms - sums))), \
        tl.constexpr((tl.float32,) * sums)


TAPS_PTX, TAPS_OPERANDS, TAPS_TYPES = _assembly(COLS.value, KERNEL)
PIXELS_PTX, PIXELS_OPERANDS, PIXELS_TYPES = _assembly(KERNEL, COLS.value)


@triton.jit
def _add_products(sums, values, factors, PTX: tl.constexpr, OPERANDS: tl.constexpr, TYPES: tl.constexpr,
                  ASSEMBLY: tl.constexpr):
    """``sums[j] + values[j] * factors[0] + values[j + 1] * factors[1] + ...``, of tuples."""
    if ASSEMBLY:
        return tl.inline_asm_elementwise(PTX, OPERANDS, sums + values + factors, TYPES, True, 1)
    else:
        added = ()
        for j in tl.static_range(len(sums)):
            total = sums[j]
            for i in tl.static_range(len(factors)):
                total += values[j + i] * factors[i]
            added = added + (total,)
        return added


@triton.jit
def _load_row(image, row, col, pixels, C: tl.constexpr, height, width, inside, FIRST: tl.constexpr,
              COUNT: tl.constexpr):
    """A tuple of ``COUNT`` columns of a row, from column ``col + FIRST`` on; zeros outside."""
    # One comparison a value: what is left of the image is large as an unsigned number.
    limit = tl.where(inside & (row >= 0) & (row < height), width, 0).to(tl.uint32)
    start = image + row * width * C + pixels
    values = ()
    for j in tl.static_range(COUNT):
        mask = (col + (j + FIRST)).to(tl.uint32) < limit
        values = values + (tl.load(start + (j + FIRST) * C, mask=mask, other=0.).to(tl.float32),)
    return values


@triton.jit
def _append(items, item, FIRST: tl.constexpr):
    """``items`` from number ``FIRST`` on, and ``item``."""
    kept = ()
    for i in tl.static_range(FIRST, len(items)):
        kept = kept + (items[i],)
    return kept + (item,)


@triton.jit
def _repeat(item, COUNT: tl.constexpr):
    items = ()
    for _ in tl.static_range(COUNT):
        items = items + (item,)
    return items


@triton.jit
def _store_row(image, row, first, last, pixels, C: tl.constexpr, col, width, inside, values):
    """Store the columns of a row, if it is one of ``first`` to ``last``."""
    inside = inside & (row >= first) & (row < last)
    start = image + row * width * C + pixels
    for j in tl.static_range(len(values)):
        tl.store(start + j * C, values[j].to(image.dtype.element_ty), mask=inside & (col + j < width))


@triton.jit
def _next_patch(at, stop, height, width, across, C: tl.constexpr, STRIPS: tl.constexpr):
    """Of the rows of all strips, laid end to end, those from ``at`` to ``stop`` that are in one strip.

    Returns the offset of their image, its columns, and the first row and the one behind the last.
    """
    strips = at // height
    first = at - strips * height
    col = ((strips % across * STRIPS + tl.arange(0, STRIPS)) * COLS)[:, None]
    return (strips // across).to(tl.int64) * height * width * C, col, first, tl.minimum(first + stop - at, height)


@triton.jit(do_not_specialize=('batch', 'height', 'width', 'rows'))
def convolve(x, weight, bias, out, batch, height, width, rows, C: tl.constexpr, FLIP: tl.constexpr,
             STRIPS: tl.constexpr, BLOCK: tl.constexpr, ASSEMBLY: tl.constexpr):
    """``out``: the convolution of ``x``; with ``FLIP`` by the kernel turned around and without the bias, as the input's
    gradient has it.

    ``x`` and ``out`` are ``(batch, height, width, C)`` in memory, ``weight`` ``(49, C)`` and ``bias`` ``(C)``. The grid
    is (channel blocks, programs): a program has ``rows`` rows of strips of ``STRIPS * COLS`` columns.
    """
    c = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[None, :]
    strip = tl.arange(0, STRIPS)[:, None]
    taps = ()
    for kh in tl.static_range(7):
        line = ()
        for kw in tl.static_range(7):
            k = 48 - (kh * 7 + kw) if FLIP else kh * 7 + kw
            line = line + (tl.load(weight + k * C + c + 0 * strip, mask=c + 0 * strip < C, other=0.).to(tl.float32),)
        taps = taps + (line,)
    start = tl.zeros((STRIPS, BLOCK), tl.float32)
    if not FLIP:
        start += tl.load(bias + c + 0 * strip, mask=c + 0 * strip < C, other=0.).to(tl.float32)
    fresh = _repeat(start, COLS)
    across = tl.cdiv(width, STRIPS * COLS)
    at = tl.program_id(1) * rows
    stop = tl.minimum(at + rows, batch * across * height)
    while at < stop:
        image, col, first, last = _next_patch(at, stop, height, width, across, C, STRIPS)
        at += last - first
        inside = (c < C) & (col < width)
        pixels = col * C + c
        # Rows outside of the image are zeros: nobody needs to go over them.
        begin, end = tl.maximum(first - 3, 0), tl.minimum(last + 3, height)
        values = _load_row(x + image, begin, col, pixels, C, height, width, inside, -3, COLS + 6)
        # Results under way when row r comes: those of rows r - 3 to r + 2, and r + 3 begins.
        results = _repeat(fresh, 6)
        for turn in range(tl.cdiv(end - begin, UNROLL)):
            for step in tl.static_range(UNROLL):
                r = begin + turn * UNROLL + step
                following = _load_row(x + image, r + 1, col, pixels, C, height, width, inside, -3, COLS + 6)
                results = _append(results, fresh, 0)
                updated = ()
                for i in tl.static_range(7):
                    updated = updated + (_add_products(results[i], values, taps[6 - i], TAPS_PTX, TAPS_OPERANDS,
                                                       TAPS_TYPES, ASSEMBLY),)
                _store_row(out + image, r - 3, first, last, pixels, C, col, width, inside, updated[0])
                results = (updated[1], updated[2], updated[3], updated[4], updated[5], updated[6])
                values = following
        end = begin + tl.cdiv(end - begin, UNROLL) * UNROLL
        for i in tl.static_range(3):
            _store_row(out + image, end - 3 + i, first, last, pixels, C, col, width, inside, results[i])


@triton.jit(do_not_specialize=('batch', 'height', 'width', 'rows'))
def weigh(x, grad, out, batch, height, width, rows, C: tl.constexpr, STRIPS: tl.constexpr, BLOCK: tl.constexpr,
          ASSEMBLY: tl.constexpr):
    """``out``: a program's share of the gradients of the 49 taps and the bias.

    ``x`` and ``grad`` are ``(batch, height, width, C)`` in memory, ``out`` ``(programs, 50, C)``. The grid and the
    programs' shares are those of :func:`convolve`.
    """
    c = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[None, :]
    of_bias = tl.zeros((STRIPS, BLOCK), tl.float32)
    of_taps = _repeat(_repeat(of_bias, 7), 7)
    across = tl.cdiv(width, STRIPS * COLS)
    at = tl.program_id(1) * rows
    stop = tl.minimum(at + rows, batch * across * height)
    while at < stop:
        image, col, first, last = _next_patch(at, stop, height, width, across, C, STRIPS)
        at += last - first
        inside = (c < C) & (col < width)
        pixels = col * C + c
        begin, end = tl.maximum(first - 3, 0), tl.minimum(last + 3, height)
        # Gradients of rows r - 3 to r + 2 when row r of the image comes; those of rows outside of the patch are none.
        none = _repeat(tl.zeros((STRIPS, BLOCK), tl.float32), COLS)
        grads = (none, none, none)
        for i in tl.static_range(3):
            line = _load_row(grad + image, begin + i, col, pixels, C, tl.where(begin + i < first, 0, last), width,
                             inside, 0, COLS)
            grads = _append(grads, line, 0)
            for j in tl.static_range(COLS):
                of_bias += line[j]
        values = _load_row(x + image, begin, col, pixels, C, height, width, inside, -3, COLS + 6)
        line = _load_row(grad + image, begin + 3, col, pixels, C, last, width, inside, 0, COLS)
        for turn in range(tl.cdiv(end - begin, UNROLL)):
            for step in tl.static_range(UNROLL):
                r = begin + turn * UNROLL + step
                following = _load_row(x + image, r + 1, col, pixels, C, height, width, inside, -3, COLS + 6)
                following_line = _load_row(grad + image, r + 4, col, pixels, C, last, width, inside, 0, COLS)
                grads = _append(grads, line, 0)
                updated = ()
                for kh in tl.static_range(7):
                    updated = updated + (_add_products(of_taps[kh], values, grads[6 - kh], PIXELS_PTX, PIXELS_OPERANDS,
                                                       PIXELS_TYPES, ASSEMBLY),)
                of_taps = updated
                for j in tl.static_range(COLS):
                    of_bias += line[j]
                grads = (grads[1], grads[2], grads[3], grads[4], grads[5], grads[6])
                values = following
                line = following_line
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    out += tl.program_id(1) * 50 * C + c
    for kh in tl.static_range(7):
        for kw in tl.static_range(7):
            tl.store(out + (kh * 7 + kw) * C, tl.sum(of_taps[kh][kw], 0), mask=c < C)
    tl.store(out + 49 * C, tl.sum(of_bias, 0), mask=c < C)


@triton.jit(do_not_specialize=('programs',))
def add_up(sums, weight, bias, programs, C: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Gradients ``(C, 49)`` and ``(C)`` from what the programs of :func:`weigh` have. The grid is (50, channel blocks).
    """
    tap, c = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(0, programs, ROWS):
        program = first + tl.arange(0, ROWS)[:, None]
        total += tl.load(sums + (program * 50 + tap) * C + c[None, :], mask=(program < programs) & (c < C)[None, :],
                         other=0.)
    if tap < 49:
        tl.store(weight + c * 49 + tap, tl.sum(total, 0), mask=c < C)
    else:
        tl.store(bias + c, tl.sum(total, 0), mask=c < C)
