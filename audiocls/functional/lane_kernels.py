"""The loops of `lanes`, `lane_pcen` and `lane_logarithm`, compiled by numba: sixteen numbers at a time, as one vector.

A fast transform of one frame shuffles its numbers at every stage, which vectors are bad at. Of sixteen frames, number i
of each fills one vector, and a transform is then plain sums and products of vectors, sixteen frames for the price of
one. A tile of sixteen frames stays in the cache from its samples to its energies, and nothing in between is written to
memory. Where vectors are shorter, the compiler cuts these into what there is.

The transform decimates in frequency, in place and depth first. Its first stage reads the windowed samples and leaves up
to eight blocks, each a transform by itself; these go through all other stages and to power two mirror images at a time,
which stay in the nearest cache up to frames of about 2048. What costs is writing: so stages are few, of radix 8.

numba knows no vectors, so they are made known to it here; a loop that it would have to recognise as one, it does not.
What it compiles is kept on disk, by the date of this file: so everything that is compiled together stands in it.
"""

import logging
import math
import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import event
from numba.core.cgutils import for_range, get_or_insert_function, raw_memcpy
from numba.extending import intrinsic, models, overload, register_model

_logger = logging.getLogger(__name__)

N_LANES = 16
_STEP = 2 * N_LANES  # from one complex number to the next
_N_CUT = 8  # complex numbers of a frame that are read at a time

# What is defined so is called without its first argument.
_instruction = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)

_VECTOR = ir.VectorType(ir.FloatType(), N_LANES)
_COMPLEX = ir.LiteralStructType([_VECTOR, _VECTOR])
_INDEX = ir.IntType(32)
_INDICES = ir.VectorType(_INDEX, N_LANES)
_FLAGS = ("contract", "nsz")  # a product and a sum become one step; nan and infinity stay what they are


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled at its first call, and kept on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache
        return njit(nogil=True)(function)


class _Wait(event.Listener):
    """Says what a program that was just installed is waiting for."""

    def on_start(self, event: event.Event) -> None:
        if cast("dict[str, Any]", event.data)["dispatcher"].py_func.__module__ == __name__:
            _say_that_it_compiles()

    def on_end(self, event: event.Event) -> None:
        pass


@cache
def _say_that_it_compiles() -> None:
    _logger.info("compiling the front-end for this processor: some seconds, at its first use alone")


event.register("numba:compile", _Wait())


class _Lanes(types.Type):
    """Sixteen float32: of as many frames, bins or neighbouring numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


class _ComplexLanes(types.Type):
    """Sixteen complex numbers: a vector of real parts and one of imaginary parts, side by side in memory too."""

    def __init__(self) -> None:
        super().__init__(name="ComplexLanes")


_LANES, _COMPLEX_LANES = _Lanes(), _ComplexLanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(_ComplexLanes)
class _ComplexLanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _COMPLEX)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Where number `index` of a flat array stands."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@_instruction
def _load(typing: Any, array: Any, index: Any) -> Any:
    """array[index : index + N_LANES]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=4)

    return _LANES(array, types.intp), generate


@_instruction
def _load_complex(typing: Any, array: Any, index: Any) -> Any:
    """Sixteen real parts from array[index] on, then sixteen imaginary ones."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.bitcast(_address(context, builder, signature.args[0], *arguments), _VECTOR.as_pointer())
        parts = [builder.load(builder.gep(address, [ir.Constant(_INDEX, part)]), align=4) for part in range(2)]
        return _complex(builder, *parts)

    return _COMPLEX_LANES(array, types.intp), generate


@_instruction
def _store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + N_LANES] = vector, or twice as many numbers where they are complex."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2])
        address = builder.bitcast(address, _VECTOR.as_pointer())
        parts = _parts(builder, arguments[2]) if vector == _COMPLEX_LANES else arguments[2:]
        for part, values in enumerate(parts):
            builder.store(values, builder.gep(address, [ir.Constant(_INDEX, part)]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_instruction
def _fetch(typing: Any, array: Any, first: Any, step: Any, count: Any) -> Any:
    """Bring near what holds array[first], array[first + step], ...; numbers that are not there do no harm."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, first, step, count = arguments
        line = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [line, _INDEX, _INDEX, _INDEX])
        prefetch = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, second_cache, data = (ir.Constant(_INDEX, number) for number in (0, 2, 1))
        with for_range(builder, count) as loop:
            index = builder.add(first, builder.mul(step, loop.index))
            address = builder.bitcast(_address(context, builder, signature.args[0], array, index), line)
            builder.call(prefetch, [address, read, second_cache, data])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp), generate


@_instruction
def _copy(typing: Any, source: Any, index: Any, target: Any, place: Any, count: Any) -> Any:
    """target[place : place + count] = source[index : index + count], both of one kind."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = _address(context, builder, signature.args[0], *arguments[:2])
        target = _address(context, builder, signature.args[2], *arguments[2:4])
        raw_memcpy(builder, target, source, arguments[4], signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp), generate


@_instruction
def _put(typing: Any, array: Any, index: Any, step: Any, vector: Any) -> Any:
    """array[index], array[index + step], ... = vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2])
        for lane in range(N_LANES):
            offset = builder.mul(arguments[2], ir.Constant(arguments[2].type, lane))
            number = builder.extract_element(arguments[3], ir.Constant(_INDEX, lane))
            builder.store(number, builder.gep(address, [offset]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, _LANES), generate


@_instruction
def _take(typing: Any, array: Any, index: Any, step: Any) -> Any:
    """array[index], array[index + step], ..., one a lane; PCM becomes float, 2**16 times as large."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2])
        kind = signature.args[0].dtype
        vector = ir.Constant(ir.VectorType(context.get_value_type(kind), N_LANES), ir.Undefined)
        for lane in range(N_LANES):
            offset = builder.mul(arguments[2], ir.Constant(arguments[2].type, lane))
            number = builder.load(builder.gep(address, [offset]))
            vector = builder.insert_element(vector, number, ir.Constant(_INDEX, lane))
        if isinstance(kind, types.Integer):
            return builder.sitofp(_raised(builder, builder.zext(vector, _INDICES)), _VECTOR)
        return vector

    return _LANES(array, types.intp, types.intp), generate


@_instruction
def _transpose(typing: Any, source: Any, index: Any, step: Any, target: Any, place: Any, stride: Any) -> Any:
    """Sixteen rows of sixteen numbers, `step` apart from `index` on, become columns: rows `stride` apart at `place`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, place, stride = arguments[3:]
        for i, vector in enumerate(_columns(context, builder, signature.args[0], *arguments[:3])):
            address = _row(context, builder, signature.args[3], target, place, stride, i)
            builder.store(vector, builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


@_instruction
def _cut(typing: Any, source: Any, index: Any, step: Any, window: Any, first: Any, target: Any, place: Any) -> Any:
    """Sixteen samples of sixteen frames `step` apart, times those of the window from `first` on, sample by sample."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights = _address(context, builder, signature.args[3], *arguments[3:5])
        place = _address(context, builder, signature.args[5], *arguments[5:])
        place = builder.bitcast(place, _VECTOR.as_pointer())
        for i, vector in enumerate(_columns(context, builder, signature.args[0], *arguments[:3])):
            number = ir.Constant(_INDEX, i)
            weight = _in_all(builder, builder.load(builder.gep(weights, [number])))
            builder.store(builder.fmul(vector, weight), builder.gep(place, [number]), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, window, types.intp, target, types.intp), generate


def _columns(context: Any, builder: Any, kind: Any, array: Any, index: Any, step: Any) -> list[Any]:
    """The columns of sixteen rows of sixteen numbers; PCM becomes float as in `_take`, two samples a word till then."""
    pcm = isinstance(kind.dtype, types.Integer)
    eight = ir.VectorType(_INDEX if pcm else ir.FloatType(), 8)
    columns = []
    for first in (0,) if pcm else (0, 8):
        start = builder.add(index, ir.Constant(index.type, first))
        halves = []
        for i in range(N_LANES):
            address = _row(context, builder, kind, array, start, step, i)
            halves.append(builder.load(builder.bitcast(address, eight.as_pointer()), align=kind.dtype.bitwidth // 8))
        both = ir.Constant(_INDICES, list(range(N_LANES)))
        rows = [builder.shuffle_vector(*pair, both) for pair in zip(halves[:8], halves[8:], strict=True)]
        for size in (4, 2, 1):  # blocks of this size change places across the diagonals of both halves
            low = [lane if not lane & size else lane - size + N_LANES for lane in range(N_LANES)]
            high = [lane + size if not lane & size else lane + N_LANES for lane in range(N_LANES)]
            for i in (i for i in range(8) if not i & size):
                pair = rows[i], rows[i + size]
                rows[i] = builder.shuffle_vector(*pair, ir.Constant(_INDICES, low))
                rows[i + size] = builder.shuffle_vector(*pair, ir.Constant(_INDICES, high))
        columns += rows
    if not pcm:
        return columns
    upper = _same(_INDICES, -1 << 16)
    # numba runs where the lower half of a word is the earlier sample
    words = [word for both in columns for word in (_raised(builder, both), builder.and_(both, upper))]
    return [builder.sitofp(word, _VECTOR) for word in words]


def _raised(builder: Any, words: Any) -> Any:
    """The lower halves of words become the upper ones: PCM, 2**16 times as large, has its sign where a word has it."""
    return builder.shl(words, _same(_INDICES, 16))


def _row(context: Any, builder: Any, kind: Any, array: Any, start: Any, apart: Any, number: int) -> Any:
    """Where row `number` begins, of rows `apart`, the first at `start`."""
    offset = builder.add(start, builder.mul(apart, ir.Constant(apart.type, number)))
    return _address(context, builder, kind, array, offset)


@_instruction
def _all(typing: Any, number: Any) -> Any:
    """The same number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _in_all(builder, arguments[0])

    return _LANES(types.float32), generate


@_instruction
def _all_complex(typing: Any, array: Any, index: Any) -> Any:
    """The same complex number in every lane, of which array[index] and array[index + 1] are the parts."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        numbers = [builder.load(builder.gep(address, [ir.Constant(_INDEX, part)])) for part in range(2)]
        return _complex(builder, *(_in_all(builder, number) for number in numbers))

    return _COMPLEX_LANES(array, types.intp), generate


@_instruction
def _times(typing: Any, factor: Any, number: Any) -> Any:
    """Complex numbers times real ones."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        factor, number = arguments
        return _complex(builder, *(builder.fmul(factor, part, flags=_FLAGS) for part in _parts(builder, number)))

    return _COMPLEX_LANES(_LANES, _COMPLEX_LANES), generate


@_instruction
def _plus_times(typing: Any, number: Any, factor: Any, other: Any) -> Any:
    """Complex numbers plus real ones times complex ones: sums are what a processor has too few places for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, factor, other = arguments
        pairs = zip(_parts(builder, number), _parts(builder, other), strict=True)
        return _complex(builder, *(_call(builder, "fma", factor, part, added) for added, part in pairs))

    return _COMPLEX_LANES(_COMPLEX_LANES, _LANES, _COMPLEX_LANES), generate


@_instruction
def _quarter_back(typing: Any, number: Any) -> Any:
    """Complex numbers times -i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real, imag = _parts(builder, *arguments)
        return _complex(builder, imag, builder.fneg(real))

    return _COMPLEX_LANES(_COMPLEX_LANES), generate


@_instruction
def _conjugate(typing: Any, number: Any) -> Any:
    """Complex numbers with their imaginary parts negated."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real, imag = _parts(builder, *arguments)
        return _complex(builder, real, builder.fneg(imag))

    return _COMPLEX_LANES(_COMPLEX_LANES), generate


@_instruction
def _square(typing: Any, number: Any) -> Any:
    """Squares of the magnitudes of complex numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        squares = [builder.fmul(part, part, flags=_FLAGS) for part in _parts(builder, *arguments)]
        return builder.fadd(*squares, flags=_FLAGS)

    return _LANES(_COMPLEX_LANES), generate


@_instruction
def _root(typing: Any, vector: Any) -> Any:
    """Square root, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "sqrt", *arguments)

    return _LANES(_LANES), generate


@_instruction
def _log2(typing: Any, vector: Any) -> Any:
    """Logarithm of positive normal numbers, lane by lane, to 2e-7; nan for nan and infinity."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # A power of two times what lies between the roots of 1/2 and 2, of which 1 is taken off.
        bits = builder.bitcast(arguments[0], _INDICES)
        exponent = builder.ashr(builder.sub(bits, _same(_INDICES, 0x3F3504F3)), _same(_INDICES, 23))
        rest = builder.bitcast(builder.sub(bits, builder.shl(exponent, _same(_INDICES, 23))), _VECTOR)
        rest = builder.fsub(rest, _same(_VECTOR, 1.0))
        slope = _fitted(lambda rest: np.log1p(rest) / math.log(2) / rest, 8, math.sqrt(0.5) - 1, math.sqrt(2) - 1)
        of_rest = builder.fmul(_polynomial(builder, rest, slope), rest)
        nothing = builder.fsub(arguments[0], arguments[0])  # or nan
        return builder.fadd(builder.fadd(builder.sitofp(exponent, _VECTOR), of_rest), nothing)

    return _LANES(_LANES), generate


@_instruction
def _exp2(typing: Any, vector: Any) -> Any:
    """Power of two, lane by lane, to 2e-7; exponents beyond -126 and 127 count as those; nan stays."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high = _same(_VECTOR, -126.0), _same(_VECTOR, 127.0)
        exponent = builder.select(builder.fcmp_ordered("<", arguments[0], low), low, arguments[0])  # nan stays
        exponent = builder.select(builder.fcmp_ordered(">", exponent, high), high, exponent)
        whole = _call(builder, "rint", exponent)
        of_rest = _polynomial(builder, builder.fsub(exponent, whole), _fitted(np.exp2, 6, -0.5, 0.5))
        biased = builder.add(builder.fptosi(whole, _INDICES), _same(_INDICES, 127))
        return builder.fmul(of_rest, builder.bitcast(builder.shl(biased, _same(_INDICES, 23)), _VECTOR))

    return _LANES(_LANES), generate


@_instruction
def _at_least(typing: Any, vector: Any, floor: Any) -> Any:
    """The larger of two numbers, lane by lane; nan where the first is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, floor = arguments
        return builder.select(builder.fcmp_ordered("<", vector, floor), floor, vector)

    return _LANES(_LANES, _LANES), generate


@_instruction
def _where_above(typing: Any, vector: Any, floor: Any, number: Any) -> Any:
    """`number` where `vector` is above `floor`, zero elsewhere, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, floor, number = arguments
        return builder.select(builder.fcmp_ordered(">", vector, floor), number, _same(_VECTOR, 0.0))

    return _LANES(_LANES, _LANES, _LANES), generate


def _fitted(function: Callable[[np.ndarray], np.ndarray], degree: int, low: float, high: float) -> list[float]:
    """Coefficients, from the highest power down, of a polynomial nearly as close to a function as one can be."""
    fit = np.polynomial.Chebyshev.interpolate(function, degree, domain=[low, high])
    return fit.convert(kind=np.polynomial.Polynomial).coef[::-1].tolist()


def _polynomial(builder: Any, variable: Any, coefficients: Sequence[float]) -> Any:
    """Horner's scheme, from the highest power down."""
    value = _same(_VECTOR, coefficients[0])
    for coefficient in coefficients[1:]:
        value = builder.fadd(builder.fmul(value, variable, flags=_FLAGS), _same(_VECTOR, coefficient), flags=_FLAGS)
    return value


def _same(kind: Any, number: float) -> Any:
    """A constant in every lane, rounded to float32 as LLVM wants its constants."""
    return ir.Constant(kind, [float(np.float32(number)) if kind is _VECTOR else number] * N_LANES)


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    """A function that LLVM knows for whole vectors."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(arguments))
    return builder.call(get_or_insert_function(builder.module, kind, f"llvm.{name}.v{N_LANES}f32"), arguments)


def _complex(builder: Any, real: Any, imag: Any) -> Any:
    """One value of two vectors."""
    both = ir.Constant(_COMPLEX, ir.Undefined)
    return builder.insert_value(builder.insert_value(both, real, 0), imag, 1)


def _parts(builder: Any, number: Any) -> list[Any]:
    """Real and imaginary parts."""
    return [builder.extract_value(number, part) for part in range(2)]


def _in_all(builder: Any, number: Any) -> Any:
    """The same number in every lane."""
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, first, _same(_INDICES, 0))


def _arithmetic(sign: Callable[[Any, Any], Any], kind: Any, compute: Callable[..., Any]) -> None:
    """Teach numba what a sign between two values of a kind means."""

    @_instruction
    def instruction(typing: Any, left: Any, right: Any) -> Any:
        return kind(kind, kind), lambda context, builder, signature, arguments: compute(builder, *arguments)

    @overload(sign)
    def between(left: Any, right: Any) -> Any:
        def lane_by_lane(left: Any, right: Any) -> Any:
            return instruction(left, right)

        return lane_by_lane if left == kind and right == kind else None


def _of_lanes(name: str) -> Callable[..., Any]:
    return lambda builder, left, right: getattr(builder, name)(left, right, flags=_FLAGS)


def _of_parts(name: str) -> Callable[..., Any]:
    def compute(builder: Any, left: Any, right: Any) -> Any:
        pairs = zip(_parts(builder, left), _parts(builder, right), strict=True)
        return _complex(builder, *(getattr(builder, name)(*pair, flags=_FLAGS) for pair in pairs))

    return compute


def _product(builder: Any, left: Any, right: Any) -> Any:
    (a, b), (c, d) = _parts(builder, left), _parts(builder, right)
    ac, bd, ad, bc = (builder.fmul(*pair, flags=_FLAGS) for pair in ((a, c), (b, d), (a, d), (b, c)))
    return _complex(builder, builder.fsub(ac, bd, flags=_FLAGS), builder.fadd(ad, bc, flags=_FLAGS))


for _sign, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_sign, _LANES, _of_lanes(_name))
_arithmetic(operator.add, _COMPLEX_LANES, _of_parts("fadd"))
_arithmetic(operator.sub, _COMPLEX_LANES, _of_parts("fsub"))
_arithmetic(operator.mul, _COMPLEX_LANES, _product)


@_compiled
def energies(
    samples: np.ndarray,
    window: np.ndarray,
    hop_length: int,
    left: int,
    mirrored: bool,
    radices: np.ndarray,
    turns: np.ndarray,
    half_turns: np.ndarray,
    places: np.ndarray,
    magnitude: bool,
    first: np.ndarray,
    offset: np.ndarray,
    weight: np.ndarray,
    powers: np.ndarray,
    filtered: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Energies of tiles `start` to `stop`, counted clip after clip; the last tile of a clip reaches back.

    Args:
        samples: shape (clips, time), float32 or PCM.
        window: shape (n_fft,), float32, even n_fft.
        hop_length: distance between frames, in samples.
        left: samples that stand before a clip, and as many after it; frames that reach further hear silence there.
        mirrored: whether these are its own, mirrored, and not silence.
        radices, turns, half_turns, places: the transform, from `lane_energy`.
        magnitude: whether the root of the power is taken.
        first, offset, weight: the filterbank, from `filter_groups`.
        powers: shape (clips, n_fft // 2 + 1, frames), at least N_LANES frames, float32, which is filled; no bin at all
            where those of the transform are not wanted.
        filtered: shape (clips, n_bins, frames), float32, which is filled.
        start, stop: tiles.
    """
    half = window.shape[0] // 2
    n_bins, n_frames = filtered.shape[1:]
    tiles = (n_frames + N_LANES - 1) // N_LANES
    radix, length = radices[0], half // radices[0]
    # The first stage leaves `radix` blocks, each a transform of its own, apart lest all want the same lines of cache.
    gap = (length + 1) * _STEP
    spare = radix * gap  # room for what is cut from the frames, and for the numbers of an odd butterfly
    z, power = _room(spare + 8 * _N_CUT * _STEP), _room((half + 2) * N_LANES)
    power[-N_LANES:] = 0  # a bin beyond the last one, for filters take two at a time
    weights = window * np.float32(0.5 * 2.0**-31 if samples.itemsize == 2 else 0.5)
    # What a tile reads is copied first: the cache foresees one long line, but not sixteen that are cut side by side.
    near = np.empty((N_LANES - 1) * hop_length + 2 * half, samples.dtype)
    for tile in range(start, stop):
        clip = tile // tiles
        frame = min((tile % tiles) * N_LANES, n_frames - N_LANES)
        begin = frame * hop_length - left
        # What the next tile is the first to read, and where it writes, on so many rows that no cache foresees it.
        _fetch(samples[clip], begin + len(near), 64 // samples.itemsize, N_LANES * hop_length * samples.itemsize // 64)
        _fetch(filtered[clip].reshape(-1), frame + N_LANES, n_frames, n_bins)
        _reach(samples[clip], begin, left, mirrored, near)
        _first_stage(near, hop_length, weights, radix, turns, z, gap, spare)
        for low in range(radix // 2 + 1):
            high = (radix - low) % radix  # the block with the mirror images of this one's numbers, perhaps itself
            eights = low > 0 and radices[-1] == 8
            stages = radices[:-1] if eights else radices
            _other_stages(z, low * gap, length, stages, turns, spare)
            if low != high:
                _other_stages(z, high * gap, length, stages, turns, spare)
            if eights:
                _powers_of_eights(z, low, high, radix, gap, places, half_turns, power)
            else:
                _powers(z, low, high, radix, gap, places, half_turns, power)
        if magnitude:
            for i in range(0, (half + 1) * N_LANES, N_LANES):
                _store(power, i, _root(_load(power, i)))
        if powers.shape[1] > 0:
            out = powers[clip].reshape(-1)
            for i in range(half + 1):
                _store(out, i * n_frames + frame, _load(power, i * N_LANES))
        _filter(power, n_bins, first, offset, weight, filtered[clip].reshape(-1), frame, n_frames)


@_compiled
def grouped(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A filterbank (n_filters, n_freqs), float32, in pairs of filters and bins: `FilterGroups` without their number."""
    n_filters, n_freqs = weight.shape
    n_groups = (n_filters + 1) // 2
    first, offset = np.zeros(n_groups, np.int64), np.zeros(n_groups + 1, np.int64)
    for group in range(n_groups):
        low, high = n_freqs, 0
        for i in range(2 * group, min(2 * group + 2, n_filters)):
            j = 0
            while j < low and weight[i, j] == 0:
                j += 1
            low, j = j, n_freqs
            while j > max(high, low) and weight[i, j - 1] == 0:
                j -= 1
            high = max(high, j)
        first[group], offset[group + 1] = min(low, high), offset[group] + max(high - low + 1, 0) // 2
    packed = np.zeros(4 * offset[-1], np.float32)
    for i in range(n_filters):
        begin, end = offset[i // 2], offset[i // 2 + 1]
        for j in range(begin, end):
            bin_ = first[i // 2] + 2 * (j - begin)
            packed[4 * j + i % 2] = weight[i, bin_]
            if bin_ + 1 < n_freqs:
                packed[4 * j + 2 + i % 2] = weight[i, bin_ + 1]
    return first, offset, packed


@njit
def _room(length):
    """Memory for so many numbers, which begins where a line of the cache does."""
    room = np.empty(length + N_LANES, np.float32)
    start = -(room.ctypes.data // 4) % N_LANES
    return room[start : start + length]


@njit
def _reach(clip, begin, left, mirrored, out):
    """Samples from `begin` on, some of which may stand before the clip or after it."""
    time, n = len(clip), len(out)
    low, high = max(-begin, 0), max(min(time - begin, n), 0)
    if low < high:
        _copy(clip, begin + low, out, low, high - low)
    for start, stop in ((0, low), (max(low, high), n)):
        out[start:stop] = 0
        for i in range(start, stop if mirrored else start):
            place = abs(begin + i)
            while time <= place < time + left:  # back and forth in clips that are shorter than what they lack
                place = abs(max(2 * (time - 1), 1) - place)
            if place < time:
                out[i] = clip[place]


@njit
def _first_stage(samples, hop_length, window, radix, turns, z, gap, spare):
    """The first stage of sixteen windowed frames, whose even samples are real parts and odd ones imaginary parts.

    Only what its next butterflies need is cut from the frames at a time, and stays in the cache till then.
    """
    length = window.shape[0] // (2 * radix)
    for first in range(0, length, _N_CUT):
        p = max(min(first, length - _N_CUT), 0)  # the last ones reach back
        if length < _N_CUT:  # the radix is 1 then
            for i in range(2 * length):
                _store(z, spare + i * N_LANES, _take(samples, i, hop_length) * _all(window[i]))
        else:
            for j in range(radix):
                place = 2 * (length * j + p)
                _cut(samples, place, hop_length, window, place, z, spare + j * _N_CUT * _STEP)
        turn = 2 * p * (radix - 1)
        _stage(radix, min(_N_CUT, length), z, spare, _N_CUT * _STEP, p * _STEP, gap, turns, turn)


@njit
def _other_stages(z, begin, length, radices, turns, spare):
    """The other stages of one block, in place: number k of the transform ends where `places` says."""
    n, turn = length, 2 * length * (radices[0] - 1)
    for radix in radices[1:]:
        n //= radix
        if radix % 2:
            _odd_stage(radix, n, length, z, begin, turns, turn, spare)
            turn += 2 * radix
        elif n == 1:
            _stage(radix, length // radix, z, begin, n * _STEP, begin, n * _STEP, None, turn)
        else:
            for i in range(begin, begin + length * _STEP, n * radix * _STEP):
                _stage(radix, n, z, i, n * _STEP, i, n * _STEP, turns, turn)
        turn += 2 * n * (radix - 1)


@njit
def _stage(radix, count, z, i, step, o, gap, turns, turn):
    """Butterflies of numbers `step` apart from z[i] on, whose results stand `gap` apart from z[o] on.

    The next butterfly begins with the next number; in the last stage, which has no turns, after the last number.
    """
    forward = _STEP if turns is not None else radix * _STEP
    for _ in range(count):
        if radix == 8:
            _butterfly_8(z, i, step, o, gap, turns, turn)
        elif radix == 4:
            _butterfly_4(z, i, step, o, gap, turns, turn)
        elif radix == 2:
            a, b = _load_complex(z, i), _load_complex(z, i + step)
            _store(z, o, a + b)
            _put_turned(z, o + gap, a - b, turns, turn)
        else:
            _store(z, o, _load_complex(z, i))
        i, o, turn = i + forward, o + forward, turn + 2 * (radix - 1)


@njit(forceinline=True)
def _butterfly_8(z, i, step, o, gap, turns, turn):
    """Two transforms of four, of even and of odd numbers, and their sums, the odd ones turned by eighths."""
    a, c, e, g = _fourths(z, i, 2 * step)
    b, d, f, h = _fourths(z, i + step, 2 * step)
    root, less_root = _all(np.float32(math.sqrt(0.5))), _all(np.float32(-math.sqrt(0.5)))
    d, f, h = d + _quarter_back(d), _quarter_back(f), _quarter_back(h) - h
    _store(z, o, a + b)
    _put_turned(z, o + gap, _plus_times(c, root, d), turns, turn)
    _put_turned(z, o + 2 * gap, e + f, turns, turn + 2)
    _put_turned(z, o + 3 * gap, _plus_times(g, root, h), turns, turn + 4)
    _put_turned(z, o + 4 * gap, a - b, turns, turn + 6)
    _put_turned(z, o + 5 * gap, _plus_times(c, less_root, d), turns, turn + 8)
    _put_turned(z, o + 6 * gap, e - f, turns, turn + 10)
    _put_turned(z, o + 7 * gap, _plus_times(g, less_root, h), turns, turn + 12)


@njit(forceinline=True)
def _butterfly_4(z, i, step, o, gap, turns, turn):
    a, b, c, d = _fourths(z, i, step)
    _store(z, o, a)
    _put_turned(z, o + gap, b, turns, turn)
    _put_turned(z, o + 2 * gap, c, turns, turn + 2)
    _put_turned(z, o + 3 * gap, d, turns, turn + 4)


@njit(forceinline=True)
def _fourths(z, i, step):
    """The Fourier transform of four numbers, `step` apart from z[i] on."""
    a, b = _load_complex(z, i), _load_complex(z, i + step)
    c, d = _load_complex(z, i + 2 * step), _load_complex(z, i + 3 * step)
    return _four(a, b, c, d)


@njit(forceinline=True)
def _four(a, b, c, d):
    """The Fourier transform of four numbers."""
    even, less_even, odd, less_odd = a + c, a - c, b + d, _quarter_back(b - d)
    return even + odd, less_even + less_odd, even - odd, less_even - less_odd


@njit(forceinline=True)
def _even_eighths(z, i):
    """Numbers 0, 2, 4 and 6 of the Fourier transform of eight neighbours."""
    (a, e), (b, f), (c, g), (d, h) = _pair(z, i), _pair(z, i + _STEP), _pair(z, i + 2 * _STEP), _pair(z, i + 3 * _STEP)
    return _four(a + e, b + f, c + g, d + h)


@njit(forceinline=True)
def _odd_eighths(z, i):
    """Numbers 1, 3, 5 and 7 of the same."""
    (a, e), (b, f), (c, g), (d, h) = _pair(z, i), _pair(z, i + _STEP), _pair(z, i + 2 * _STEP), _pair(z, i + 3 * _STEP)
    a, b, c, d = a - e, b - f, _quarter_back(c - g), d - h
    b, d = b + _quarter_back(b), _quarter_back(d) - d
    even, less_even, odd, less_odd = a + c, a - c, b + d, _quarter_back(b - d)
    root, less_root = _all(np.float32(math.sqrt(0.5))), _all(np.float32(-math.sqrt(0.5)))
    b, f = _plus_times(even, root, odd), _plus_times(less_even, root, less_odd)
    return b, f, _plus_times(even, less_root, odd), _plus_times(less_even, less_root, less_odd)


@njit(forceinline=True)
def _pair(z, i):
    """A number and the fourth one after it."""
    return _load_complex(z, i), _load_complex(z, i + 4 * _STEP)


@njit(forceinline=True)
def _put_turned(z, place, number, turns, turn):
    if turns is None:
        _store(z, place, number)
    else:
        _store(z, place, number * _all_complex(turns, turn))


@njit
def _odd_stage(radix, n, length, z, begin, turns, roots, spare):
    """A stage of any odd radix, by its definition, for two results at a time that are each other's mirror image."""
    step, end = n * _STEP, spare + radix * _STEP
    for block in range(0, length, n * radix):
        for p in range(n):
            i, turn = begin + (block + p) * _STEP, roots + 2 * (radix + p * (radix - 1) - 1)
            first = _load_complex(z, i)
            total = first
            for j in range(1, radix // 2 + 1):
                a, b = _load_complex(z, i + j * step), _load_complex(z, i + (radix - j) * step)
                _store(z, spare + j * _STEP, a + b)
                _store(z, end - j * _STEP, _quarter_back(b - a))
                total = total + (a + b)
            _store(z, i, total)
            for k in range(1, radix // 2 + 1):
                even, odd = first, first - first
                for j in range(1, radix // 2 + 1):
                    root = roots + 2 * (j * k % radix)
                    even = even + _times(_all(turns[root]), _load_complex(z, spare + j * _STEP))
                    odd = odd + _times(_all(turns[root + 1]), _load_complex(z, end - j * _STEP))
                _put_turned(z, i + k * step, even + odd, turns, turn + 2 * k)
                _put_turned(z, i + (radix - k) * step, even - odd, turns, turn + 2 * (radix - k))


@njit
def _powers(z, low, high, radix, gap, places, half_turns, power):
    """Power of real frames from the transform of half as many complex numbers, in a block and its mirror image."""
    length = len(places)
    half, past = radix * length, length - int(low > 0)
    if low == 0:
        r, j = _load(z, 0), _load(z, N_LANES)
        first, last = r + j, r - j
        first, last = first + first, last + last  # as the sums of a and b are: the window is half of what it should be
        _store(power, 0, first * first)
        _store(power, half * N_LANES, last * last)
    for m in range(int(low == 0), length // 2 + 1 if low == high else length):
        a = _load_complex(z, low * gap + places[m] * _STEP)
        b = _load_complex(z, high * gap + places[past - m] * _STEP)
        _put_powers(a, b, radix * m + low, half, half_turns, power)


@njit
def _powers_of_eights(z, low, high, radix, gap, places, half_turns, power):
    """The same of what still wants its last stage, of radix 8, for two blocks or one that is not the first.

    A butterfly's eight numbers are mirror images of another one's, the even ones of the odd ones. Taken by halves they
    fit into registers, and are not written.
    """
    count = len(places) // 8
    half, step = 8 * radix * count, radix * count
    for m in range((count + 1) // 2 if low == high else count):
        i, j = low * gap + places[m] * _STEP, high * gap + places[count - 1 - m] * _STEP
        k = radix * m + low
        a, c, e, g = _even_eighths(z, i)
        b, d, f, h = _odd_eighths(z, j)
        _put_powers(a, h, k, half, half_turns, power)
        _put_powers(c, f, k + 2 * step, half, half_turns, power)
        _put_powers(e, d, k + 4 * step, half, half_turns, power)
        _put_powers(g, b, k + 6 * step, half, half_turns, power)
        b, d, f, h = _odd_eighths(z, i)
        a, c, e, g = _even_eighths(z, j)
        _put_powers(b, g, k + step, half, half_turns, power)
        _put_powers(d, e, k + 3 * step, half, half_turns, power)
        _put_powers(f, c, k + 5 * step, half, half_turns, power)
        _put_powers(h, a, k + 7 * step, half, half_turns, power)


@njit(forceinline=True)
def _put_powers(number, mirror, k, half, half_turns, power):
    """Power of bins k and half - k from these numbers of the transform of half as many complex numbers."""
    mirror = _conjugate(mirror)
    even, odd = number + mirror, _quarter_back(number - mirror) * _all_complex(half_turns, 2 * k)
    _store(power, k * N_LANES, _square(even + odd))
    _store(power, (half - k) * N_LANES, _square(even - odd))


@njit
def _filter(power, n_bins, first, offset, weight, out, frame, row):
    """Weighted sums of bins, two filters and two bins at a time."""
    for group in range(len(first)):
        a, b, c, d = _all(np.float32(0)), _all(np.float32(0)), _all(np.float32(0)), _all(np.float32(0))
        place = first[group] * N_LANES
        for i in range(offset[group], offset[group + 1]):
            here, next_ = _load(power, place), _load(power, place + N_LANES)
            a, b = a + _all(weight[4 * i]) * here, b + _all(weight[4 * i + 1]) * here
            c, d = c + _all(weight[4 * i + 2]) * next_, d + _all(weight[4 * i + 3]) * next_
            place += 2 * N_LANES
        place = 2 * group * row + frame
        _store(out, place, a + c)
        if 2 * group + 1 < n_bins:
            _store(out, place + row, b + d)


@_compiled
def gain_control(
    energy: np.ndarray,
    average: np.ndarray,
    smooth: np.ndarray,
    alpha: np.ndarray,
    delta: np.ndarray,
    eps: float,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Per-channel energy normalisation with r = 1/2 of tiles `start` to `stop`; the last tile reaches back.

    Args:
        energy: shape (rows, frames), float32, at least N_LANES rows.
        average: before the first frame, shape (rows,), float32.
        smooth, alpha, delta: of each row, shape (rows,), float32.
        eps: floor under the average.
        out: shape of `energy`, which is filled.
        start, stop: tiles.
    """
    n_rows, n_frames = energy.shape
    given, taken = energy.reshape(-1), out.reshape(-1)
    floor = _all(np.float32(eps))
    turned = np.empty(N_LANES * N_LANES, np.float32)
    for tile in range(start, stop):
        row = min(tile * N_LANES, n_rows - N_LANES)
        level, weight = _load(average, row), _load(smooth, row)
        strength, offset = _load(alpha, row), _load(delta, row)
        root = _root(offset)
        for first in range(0, n_frames, N_LANES):
            place, n = row * n_frames + first, min(N_LANES, n_frames - first)
            if n == N_LANES:
                _transpose(given, place, n_frames, turned, 0, N_LANES)
            else:
                for i in range(n):
                    _store(turned, i * N_LANES, _take(given, place + i, n_frames))
            for i in range(0, n * N_LANES, N_LANES):
                now = _load(turned, i)
                # In this order: less a share of itself, in one rounding, and more of what is positive: nothing cancels.
                level = (level - weight * level) + weight * now
                scaled = now * _exp2(_all(np.float32(0)) - strength * _log2(level + floor))
                # Never as a difference of two roots: that would lose what is much weaker than the offset.
                _store(turned, i, scaled / (_root(scaled + offset) + root))
            if n == N_LANES:
                _transpose(turned, 0, N_LANES, taken, place, n_frames)
            else:
                for i in range(n):
                    _put(taken, place + i, n_frames, _load(turned, i * N_LANES))


@_compiled
def logarithms(
    power: np.ndarray,
    per_octave: float,
    offset: float,
    floor: float,
    share: float,
    shift: float,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """per_octave * log2(max(power + offset, floor)) - shift of clips `start` to `stop`.

    Args:
        power: shape (clips, numbers), float32.
        per_octave, offset, floor, share, shift: of a `Logarithm`; `floor` a normal number.
        out: shape of `power`, which is filled; it may be `power` itself.
        start, stop: clips.
    """
    n = power.shape[1]
    few = np.empty(N_LANES, np.float32)
    more, factor, less = _all(np.float32(offset)), _all(np.float32(per_octave)), _all(np.float32(shift))
    for clip in range(start, stop):
        here, there = power[clip], out[clip]
        if n < N_LANES:
            few[:] = here[0]
            few[:n] = here
            here, there = few, few
        lowest = np.float32(floor)
        if share > 0:
            lowest = np.float32(max((_largest(here) + np.float32(offset)) * share, floor))
        least = _all(lowest)
        last = len(here) - N_LANES  # which may reach back, to numbers that are replaced by then
        rest = _log2(_at_least(_load(here, last) + more, least)) * factor - less
        for i in range(0, last, N_LANES):
            _store(there, i, _log2(_at_least(_load(here, i) + more, least)) * factor - less)
        _store(there, last, rest)
        if n < N_LANES:
            out[clip] = few[:n]


@_compiled
def logarithm_slopes(
    power: np.ndarray,
    grad: np.ndarray,
    per_octave: float,
    offset: float,
    floor: float,
    share: float,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """The gradient of the power of `logarithms`, from that of what it made; what is at the floor moves the peak.

    Args:
        power, per_octave, offset, floor, share, start, stop: as of `logarithms`.
        grad: shape of `power`, float32.
        out: shape of `power`, which is filled.
    """
    n = power.shape[1]
    per_neper, more = np.float32(per_octave / math.log(2)), np.float32(offset)
    sums = np.empty(N_LANES, np.float32)
    for clip in range(start, stop):
        here, slope, there = power[clip], grad[clip], out[clip]
        peak = _largest(here)
        lowest = np.float32(max((peak + more) * share, floor))
        of_floor = _all(np.float32(0))
        for i in range(0, n - N_LANES + 1, N_LANES):
            now, change = _load(here, i) + _all(more), _load(slope, i) * _all(per_neper)
            above = _where_above(now, _all(lowest), change)
            of_floor = of_floor + (change - above)
            _store(there, i, above / _at_least(now, _all(lowest)))
        _store(sums, 0, of_floor)
        total = sums.sum()
        for i in range(n - n % N_LANES, n):
            now, change = here[i] + more, slope[i] * per_neper
            there[i] = change / now if now > lowest else np.float32(0)
            total += np.float32(0) if now > lowest else change
        if (peak + more) * share > floor and total != 0:
            # where several hold the peak, as amax does
            part = np.float32(total / lowest * share / (here == peak).sum())
            for i in range(n):
                if here[i] == peak:
                    there[i] += part


@njit
def _largest(numbers):
    """The largest number; nan does not count, but for the first ones."""
    if len(numbers) < N_LANES:
        return numbers.max()
    peak, largest = _load(numbers, 0), np.empty(N_LANES, np.float32)
    for i in range(0, len(numbers), N_LANES):
        peak = _at_least(peak, _load(numbers, min(i, len(numbers) - N_LANES)))
    _store(largest, 0, peak)
    return largest.max()
