"""NumPy's random numbers inside compiled kernels: the state of many PCG64 generators as one array.

A kernel cannot take a list of generators. `streams_of` reads what `np.random.default_rng` has as its state, and the
kernels go on from there with the same numbers (PCG XSL-RR 128/64, O'Neill 2014).
"""

from collections.abc import Sequence

import numba
import numpy as np

_LOW32, _32, _63, _64 = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(63), np.uint64(64)
_MULTIPLIER_HIGH, _MULTIPLIER_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
_HIGH, _LOW, _STEP_HIGH, _STEP_LOW, _HAS_HALF, _HALF = range(6)
_inlined = numba.njit(nogil=True)


def streams_of(generators: Sequence[np.random.Generator]) -> np.ndarray:
    """The generators' states, `[generators, 6]` uint64; the generators themselves stay as they are.

    Raises:
        ValueError: a generator of another kind than `np.random.default_rng`'s.
    """
    streams = np.empty((len(generators), 6), np.uint64)
    for row, generator in zip(streams, generators, strict=True):
        state = generator.bit_generator.state
        if state["bit_generator"] != "PCG64":
            raise ValueError(
                f"generators must be of PCG64, as np.random.default_rng makes them; got {state['bit_generator']}"
            )
        numbers = state["state"]["state"], state["state"]["inc"]
        halves = (half for number in numbers for half in (number >> 64, number & (2**64 - 1)))
        row[:] = (*halves, state["has_uint32"], state["uinteger"])
    return streams


@_inlined
def _high_product(x, y):
    """The upper half of the 128 bits of x · y."""
    x_low, x_high, y_low, y_high = x & _LOW32, x >> _32, y & _LOW32, y >> _32
    middle = x_high * y_low + ((x_low * y_low) >> _32)
    other = x_low * y_high + (middle & _LOW32)
    return x_high * y_high + (middle >> _32) + (other >> _32)


@_inlined
def _next64(streams, run):
    high, low = streams[run, _HIGH], streams[run, _LOW]
    new_high = _high_product(low, _MULTIPLIER_LOW) + high * _MULTIPLIER_LOW + low * _MULTIPLIER_HIGH
    new_low = low * _MULTIPLIER_LOW + streams[run, _STEP_LOW]
    new_high += streams[run, _STEP_HIGH]
    if new_low < streams[run, _STEP_LOW]:  # the sum of the lower halves went over
        new_high += np.uint64(1)
    streams[run, _HIGH], streams[run, _LOW] = new_high, new_low
    mixed, turn = new_high ^ new_low, new_high >> np.uint64(58)
    return (mixed >> turn) | (mixed << ((_64 - turn) & _63))


@_inlined
def random32(streams, run):
    """A uniform number in [0, 1) of 24 bits: `generator.random(dtype=np.float32)`."""
    if streams[run, _HAS_HALF]:
        streams[run, _HAS_HALF] = 0
        bits = streams[run, _HALF]
    else:
        whole = _next64(streams, run)
        streams[run, _HAS_HALF], streams[run, _HALF] = 1, whole >> _32
        bits = whole & _LOW32
    return np.float32(bits >> np.uint64(8)) * np.float32(1 / 2**24)


@_inlined
def random64(streams, run):
    """A uniform number in [0, 1) of 53 bits: `generator.random()`."""
    return np.float64(_next64(streams, run) >> np.uint64(11)) * (1 / 2**53)
