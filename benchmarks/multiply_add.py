"""A kernel that does nothing but multiply and add, for the rate that a GPU reaches."""
import triton
import triton.language as tl

LANES = 128
#: Multiply-adds of a lane in a turn: of eight values, sixteen times.
VALUES_A_TURN = 8 * 16


@triton.jit
def multiply_add(out, turns, LANES: tl.constexpr):
    """``turns`` turns of every program; ``out`` has ``LANES`` values for each."""
    at = tl.program_id(0) * LANES + tl.arange(0, LANES)
    a = at * .125
    b, c, d, e, f, g, h = a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7
    for _ in range(turns):
        for _ in tl.static_range(16):
            a, b, c, d = tl.fma(a, .99, .5), tl.fma(b, .99, .5), tl.fma(c, .99, .5), tl.fma(d, .99, .5)
            e, f, g, h = tl.fma(e, .99, .5), tl.fma(f, .99, .5), tl.fma(g, .99, .5), tl.fma(h, .99, .5)
    tl.store(out + at, a + b + c + d + e + f + g + h)
