"""The loops of `lanes`, `lane_pcen` and `lane_decibel`, compiled by numba: sixteen numbers at a time, as one vector.

A fast transform of one frame shuffles its numbers at every stage, which vectors are bad at. Of sixteen frames, number i
of each fills one vector, and a transform is then plain sums and products of vectors, sixteen frames for the price of
one. A tile of sixteen frames stays in the cache from its samples to its energies, and nothing in between is written to
memory. Where vectors are shorter, the compiler cuts these into what there is.

numba knows no vectors, so they are made known to it here; a loop that it would have to recognise as one, it does not.
What it compiles is kept on disk, by the date of this file: so everything that is compiled together stands in it.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

N_LANES = 16

# What is defined so is called without its first argument.
_instruction = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)

_VECTOR = ir.VectorType(ir.FloatType(), N_LANES)
_INDEX = ir.IntType(32)
_INDICES = ir.VectorType(_INDEX, N_LANES)
_FLAGS = ("contract", "nsz")  # a product and a sum become one step; nan and infinity stay what they are


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled at its first call, and kept on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache
        return njit(nogil=True)(function)


class _Lanes(types.Type):
    """Sixteen float32: of as many frames, bins or neighbouring numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


_LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


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
def _store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + N_LANES] = vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _LANES), generate


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
    """array[index], array[index + step], ..., one a lane; PCM becomes float."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2])
        kind = signature.args[0].dtype
        vector = ir.Constant(ir.VectorType(context.get_value_type(kind), N_LANES), ir.Undefined)
        for lane in range(N_LANES):
            offset = builder.mul(arguments[2], ir.Constant(arguments[2].type, lane))
            number = builder.load(builder.gep(address, [offset]))
            vector = builder.insert_element(vector, number, ir.Constant(_INDEX, lane))
        return builder.sitofp(vector, _VECTOR) if isinstance(kind, types.Integer) else vector

    return _LANES(array, types.intp, types.intp), generate


@_instruction
def _transpose(typing: Any, source: Any, index: Any, step: Any, target: Any, place: Any, stride: Any) -> Any:
    """Sixteen rows of sixteen numbers, `step` apart from `index` on, become columns: rows `stride` apart at `place`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def row(kind: Any, array: Any, start: Any, apart: Any, number: int) -> Any:
            offset = builder.add(start, builder.mul(apart, ir.Constant(apart.type, number)))
            return _address(context, builder, kind, array, offset)

        source, index, step, target, place, stride = arguments
        kind = signature.args[0].dtype
        stored = ir.VectorType(context.get_value_type(kind), N_LANES)
        rows = []
        for i in range(N_LANES):
            address = row(signature.args[0], source, index, step, i)
            rows.append(builder.load(builder.bitcast(address, stored.as_pointer()), align=kind.bitwidth // 8))
        if isinstance(kind, types.Integer):
            rows = [builder.sitofp(vector, _VECTOR) for vector in rows]
        for size in (8, 4, 2, 1):  # blocks of this size change places across the diagonal
            first = [lane if not lane & size else lane - size + N_LANES for lane in range(N_LANES)]
            second = [lane + size if not lane & size else lane + N_LANES for lane in range(N_LANES)]
            for i in (i for i in range(N_LANES) if not i & size):
                pair = rows[i], rows[i + size]
                rows[i] = builder.shuffle_vector(*pair, ir.Constant(_INDICES, first))
                rows[i + size] = builder.shuffle_vector(*pair, ir.Constant(_INDICES, second))
        for i, vector in enumerate(rows):
            address = row(signature.args[3], target, place, stride, i)
            builder.store(vector, builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


@_instruction
def _all(typing: Any, number: Any) -> Any:
    """The same number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), arguments[0], ir.Constant(_INDEX, 0))
        return builder.shuffle_vector(first, first, _same(_INDICES, 0))

    return _LANES(types.float32), generate


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
        # A power of two times what lies between the roots of 1/2 and 2, whose logarithm is a series in s.
        bits = builder.bitcast(arguments[0], _INDICES)
        exponent = builder.ashr(builder.sub(bits, _same(_INDICES, 0x3F3504F3)), _same(_INDICES, 23))
        rest = builder.bitcast(builder.sub(bits, builder.shl(exponent, _same(_INDICES, 23))), _VECTOR)
        one = _same(_VECTOR, 1.0)
        s = builder.fdiv(builder.fsub(rest, one), builder.fadd(rest, one))
        series = [2 / math.log(2) / power for power in (9, 7, 5, 3, 1)]
        of_rest = builder.fmul(_polynomial(builder, builder.fmul(s, s), series), s)
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
        series = [math.log(2) ** power / math.factorial(power) for power in range(7, -1, -1)]
        of_rest = _polynomial(builder, builder.fsub(exponent, whole), series)
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


def _arithmetic(sign: Callable[[Any, Any], Any], instruction: str) -> None:
    """Teach numba what a sign between two vectors means."""

    @_instruction
    def compute(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments, flags=_FLAGS)

        return _LANES(_LANES, _LANES), generate

    @overload(sign)
    def between(left: Any, right: Any) -> Any:
        def lane_by_lane(left: Any, right: Any) -> Any:
            return compute(left, right)

        return lane_by_lane if isinstance(left, _Lanes) and isinstance(right, _Lanes) else None


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


@_compiled
def energies(
    samples: np.ndarray,
    window: np.ndarray,
    hop_length: int,
    radices: np.ndarray,
    turns: np.ndarray,
    roots: np.ndarray,
    half_turns: np.ndarray,
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
        samples: shape (clips, time), float32 or PCM, with all that frames need before and after.
        window: shape (n_fft,), float32, even n_fft.
        hop_length: distance between frames, in samples.
        radices, turns, roots, half_turns: the transform, from `lane_energy`.
        magnitude: whether the root of the power is taken.
        first, offset, weight: the filterbank, from `filter_groups`.
        powers: shape (clips, n_fft // 2 + 1, frames), at least N_LANES frames, float32, which is filled; no clip at all
            where the bins of the transform are not wanted.
        filtered: shape (clips, n_bins, frames), float32, which is filled.
        start, stop: tiles.
    """
    half = window.shape[0] // 2
    n_bins, n_frames = filtered.shape[1:]
    tiles = (n_frames + N_LANES - 1) // N_LANES
    frames = np.empty(2 * half * N_LANES, np.float32)
    other = np.empty(2 * half * N_LANES, np.float32)
    power = np.empty((half + 1) * N_LANES, np.float32)
    for tile in range(start, stop):
        clip = tile // tiles
        frame = min((tile % tiles) * N_LANES, n_frames - N_LANES)
        _window_frames(samples[clip], frame * hop_length, hop_length, window, frames)
        spectrum = _transform(frames, other, half, radices, turns, roots)
        _square(spectrum, half, half_turns, power)
        if magnitude:
            for i in range(0, (half + 1) * N_LANES, N_LANES):
                _store(power, i, _root(_load(power, i)))
        if len(powers) > 0:
            out = powers[clip].reshape(-1)
            for i in range(half + 1):
                _store(out, i * n_frames + frame, _load(power, i * N_LANES))
        _filter(power, n_bins, first, offset, weight, filtered[clip].reshape(-1), frame, n_frames)


@_compiled
def grouped(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A filterbank (n_filters, n_freqs), float32, four filters at a time: `FilterGroups` without their number."""
    n_filters, n_freqs = weight.shape
    n_groups = (n_filters + 3) // 4
    first, offset = np.zeros(n_groups, np.int64), np.zeros(n_groups + 1, np.int64)
    for group in range(n_groups):
        low, high = n_freqs, 0
        for i in range(4 * group, min(4 * group + 4, n_filters)):
            j = 0
            while j < low and weight[i, j] == 0:
                j += 1
            low, j = j, n_freqs
            while j > max(high, low) and weight[i, j - 1] == 0:
                j -= 1
            high = max(high, j)
        first[group], offset[group + 1] = min(low, high), offset[group] + max(high - low, 0)
    packed = np.zeros(4 * offset[-1], np.float32)
    for i in range(n_filters):
        begin, end = offset[i // 4], offset[i // 4 + 1]
        for j in range(begin, end):
            packed[4 * j + i % 4] = weight[i, first[i // 4] + j - begin]
    return first, offset, packed


@njit
def _window_frames(samples, begin, hop_length, window, out):
    """Windowed samples of sixteen frames: even ones as real parts, then odd ones as imaginary parts."""
    n_fft = window.shape[0]
    imag, whole = n_fft // 2 * N_LANES, n_fft // N_LANES * N_LANES
    turned = np.empty(N_LANES * N_LANES, np.float32)
    for i in range(0, whole, N_LANES):
        _transpose(samples, begin + i, hop_length, turned, 0, N_LANES)
        for j in range(0, N_LANES, 2):
            place = (i + j) // 2 * N_LANES
            _store(out, place, _load(turned, j * N_LANES) * _all(window[i + j]))
            _store(out, place + imag, _load(turned, (j + 1) * N_LANES) * _all(window[i + j + 1]))
    for i in range(whole, n_fft, 2):
        _store(out, i // 2 * N_LANES, _take(samples, begin + i, hop_length) * _all(window[i]))
        _store(out, i // 2 * N_LANES + imag, _take(samples, begin + i + 1, hop_length) * _all(window[i + 1]))


@njit
def _transform(x, y, length, radices, turns, roots):
    """Complex Fourier transforms of `length` (Stockham's, which needs no reordering), from one array to the other."""
    n, stride, turn, root = length, 1, 0, 0
    for radix in radices:
        if radix == 4:
            _stage_4(x, y, length, n, stride, turns[turn:])
        elif radix == 2:
            _stage_2(x, y, length)
        else:
            _stage_odd(x, y, length, n, stride, radix, turns[turn:], roots[root:])
            root += 2 * radix
        n //= radix
        turn += 2 * n * (radix - 1)
        stride *= radix
        x, y = y, x
    return x


@njit
def _stage_4(x, y, length, n, stride, turns):
    imag, quarter, step = length * N_LANES, stride * (n // 4) * N_LANES, stride * N_LANES
    for p in range(n // 4):
        w1r, w1i, w2r = _all(turns[6 * p]), _all(turns[6 * p + 1]), _all(turns[6 * p + 2])
        w2i, w3r, w3i = _all(turns[6 * p + 3]), _all(turns[6 * p + 4]), _all(turns[6 * p + 5])
        for q in range(stride):
            i = (q + stride * p) * N_LANES
            ar, ai = _load(x, i), _load(x, i + imag)
            br, bi = _load(x, i + quarter), _load(x, i + quarter + imag)
            cr, ci = _load(x, i + 2 * quarter), _load(x, i + 2 * quarter + imag)
            dr, di = _load(x, i + 3 * quarter), _load(x, i + 3 * quarter + imag)
            sum_ac_r, sum_ac_i, less_ac_r, less_ac_i = ar + cr, ai + ci, ar - cr, ai - ci
            sum_bd_r, sum_bd_i, less_bd_r, less_bd_i = br + dr, bi + di, br - dr, bi - di
            o = (q + 4 * stride * p) * N_LANES
            _store(y, o, sum_ac_r + sum_bd_r)
            _store(y, o + imag, sum_ac_i + sum_bd_i)
            r, j = less_ac_r + less_bd_i, less_ac_i - less_bd_r
            _store(y, o + step, w1r * r - w1i * j)
            _store(y, o + step + imag, w1r * j + w1i * r)
            r, j = sum_ac_r - sum_bd_r, sum_ac_i - sum_bd_i
            _store(y, o + 2 * step, w2r * r - w2i * j)
            _store(y, o + 2 * step + imag, w2r * j + w2i * r)
            r, j = less_ac_r - less_bd_i, less_ac_i + less_bd_r
            _store(y, o + 3 * step, w3r * r - w3i * j)
            _store(y, o + 3 * step + imag, w3r * j + w3i * r)


@njit
def _stage_2(x, y, length):
    """The last stage, whose turns are all 1."""
    far = length // 2 * N_LANES
    for part in range(2):
        for i in range(part * 2 * far, part * 2 * far + far, N_LANES):
            a, b = _load(x, i), _load(x, i + far)
            _store(y, i, a + b)
            _store(y, i + far, a - b)


@njit
def _stage_odd(x, y, length, n, stride, radix, turns, roots):
    """A stage of any radix, by its definition."""
    imag, m = length * N_LANES, n // radix
    for p in range(m):
        for q in range(stride):
            for k in range(radix):
                real, imaginary = _all(np.float32(0)), _all(np.float32(0))
                for j in range(radix):
                    i = (q + stride * (p + m * j)) * N_LANES
                    cos, sin = _all(roots[2 * (j * k % radix)]), _all(roots[2 * (j * k % radix) + 1])
                    r, s = _load(x, i), _load(x, i + imag)
                    real = real + (cos * r - sin * s)
                    imaginary = imaginary + (cos * s + sin * r)
                o = (q + stride * (radix * p + k)) * N_LANES
                if k > 0:
                    turn = 2 * (p * (radix - 1) + k - 1)
                    cos, sin = _all(turns[turn]), _all(turns[turn + 1])
                    real, imaginary = cos * real - sin * imaginary, cos * imaginary + sin * real
                _store(y, o, real)
                _store(y, o + imag, imaginary)


@njit
def _square(z, half, half_turns, power):
    """Power of real frames from the transform of their even and odd samples as one complex number."""
    imag = half * N_LANES
    r, j = _load(z, 0), _load(z, imag)
    _store(power, 0, (r + j) * (r + j))
    _store(power, imag, (r - j) * (r - j))
    one_half = _all(np.float32(0.5))
    for k in range(1, half // 2 + 1):
        low, high = k * N_LANES, (half - k) * N_LANES
        zr, zi, yr, yi = _load(z, low), _load(z, low + imag), _load(z, high), _load(z, high + imag)
        even_r, even_i, odd_r, odd_i = one_half * (zr + yr), one_half * (zi - yi), zi + yi, yr - zr
        cos, sin = _all(half_turns[2 * k]), _all(half_turns[2 * k + 1])
        turned_r, turned_i = cos * odd_r - sin * odd_i, cos * odd_i + sin * odd_r
        r, j = even_r + turned_r, even_i + turned_i
        _store(power, low, r * r + j * j)
        r, j = even_r - turned_r, even_i - turned_i
        _store(power, high, r * r + j * j)


@njit
def _filter(power, n_bins, first, offset, weight, out, frame, row):
    """Weighted sums of bins, four filters at a time."""
    for group in range(len(first)):
        a, b, c, d = _all(np.float32(0)), _all(np.float32(0)), _all(np.float32(0)), _all(np.float32(0))
        place = first[group] * N_LANES
        for i in range(offset[group], offset[group + 1]):
            bin_ = _load(power, place)
            a, b = a + _all(weight[4 * i]) * bin_, b + _all(weight[4 * i + 1]) * bin_
            c, d = c + _all(weight[4 * i + 2]) * bin_, d + _all(weight[4 * i + 3]) * bin_
            place += N_LANES
        place, left = 4 * group * row + frame, n_bins - 4 * group
        _store(out, place, a)
        if left > 1:
            _store(out, place + row, b)
        if left > 2:
            _store(out, place + 2 * row, c)
        if left > 3:
            _store(out, place + 3 * row, d)


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
def decibels(power: np.ndarray, amin: float, top: float, ref: float, out: np.ndarray, start: int, stop: int) -> None:
    """10 log10(max(power, floor) / ref) of clips `start` to `stop`.

    Args:
        power: shape (clips, numbers), float32, at least N_LANES numbers.
        amin: lowest floor, a positive normal number.
        top: share of a clip's largest number that is its floor, if that is above `amin`.
        ref: power that is 0 dB.
        out: shape of `power`, which is filled.
        start, stop: clips.
    """
    n = power.shape[1]
    per_octave, of_ref = np.float32(10 * math.log10(2)), _all(np.float32(10 * math.log10(ref)))
    largest = np.empty(N_LANES, np.float32)
    for clip in range(start, stop):
        here, there = power[clip], out[clip]
        peak = _load(here, 0)
        for i in range(0, n, N_LANES):
            peak = _at_least(peak, _load(here, min(i, n - N_LANES)))
        _store(largest, 0, peak)
        floor = _all(np.float32(max(largest.max() * top, amin)))
        for i in range(0, n, N_LANES):
            j = min(i, n - N_LANES)  # the last vector reaches back
            _store(there, j, _log2(_at_least(_load(here, j), floor)) * _all(per_octave) - of_ref)
