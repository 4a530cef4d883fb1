"""Every front-end as one graph: torch.compile without a break, torch.export and ONNX with free batch and time.

They run over all front-ends of the contract tests. An ONNX graph is compared with the same front-end in float64, and so
is torch: between two results in float32 one could not say which is off.
"""

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from audiocls.frontends import CFP, ComplexSpectrogram, Frontend
from tests.frontends.test_contract import FRONTENDS, high_log, signal

pytestmark = pytest.mark.slow

SHAPES = ((1, 1, 1201), (3, 1, 5001))
FREE = {"waveform": {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=1200, max=480000)}}
# Shares of the peak by which torch is off in float32, where that is more than 1e-4. A Fourier transform rounds to 1e-7
# of the tone in every bin, and these look at bins 80 dB and more below it: through a logarithm, roots, or an angle. How
# far depends on the processor: CFP was off by 1.8e-3 on one and by less than 1.5e-3 on another.
ROUNDED = {
    **dict.fromkeys(("spectrogram", "spectrogram, learnt"), 3e-4),
    **dict.fromkeys(("cfp", "cfp, learnt"), 3e-3),
    "phase": 4e-3,
}

every_frontend = pytest.mark.parametrize(("name", "build"), FRONTENDS.items(), ids=FRONTENDS.keys())


class InFloat64(TorchDispatchMode):
    """Every operation in float64, with the tables and parameters as they are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*tree_map(_widened, args), **tree_map(_widened, kwargs or {}))


def _widened(value: object) -> object:
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    if isinstance(value, Tensor):
        return value.to(wide.get(value.dtype, value.dtype))
    return wide.get(value, value) if isinstance(value, torch.dtype) else value


def exact(frontend: Frontend, waveform: Tensor) -> Tensor:
    with torch.no_grad(), InFloat64():
        spectrogram = frontend(waveform)
    assert spectrogram.dtype == torch.float64
    return spectrogram


def assert_same(ours: Tensor, expected: Tensor, *, tolerance: float, turn: float = torch.inf) -> None:
    """Equal but for a share of the peak, and for whole turns."""
    assert ours.shape == expected.shape
    off = (ours - expected).abs()
    assert torch.minimum(off, (turn - off).abs()).max() <= tolerance * expected.abs().max()


def to_onnx(frontend: Frontend, path: Path) -> Callable[[Tensor], Tensor]:
    """The front-end as onnxruntime computes it, by way of a file."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # names of packages that are not needed
    with contextlib.redirect_stdout(io.StringIO()):  # each step of the exporter, which has no switch for it
        program = torch.onnx.export(frontend, (signal(2, 1, 4000),), dynamo=True, dynamic_shapes=FREE, verbose=False)
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return lambda waveform: torch.from_numpy(session.run(None, {source.name: waveform.numpy()})[0])


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Graphs of other front-ends count towards the few that one `forward` may have."""
    torch.compiler.reset()


@every_frontend
def test_compiles_to_one_graph(name: str, build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    waveform = signal(2, 1, 4000)
    # the quick path gives way to the plain one, products by kernels are taken in float64: as between paths
    assert_same(compiled(waveform), frontend(waveform), tolerance=1e-3)


@every_frontend
def test_exports_with_any_batch_and_length(name: str, build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    exported = torch.export.export(frontend, (signal(2, 1, 4000),), dynamic_shapes=FREE).module()
    for shape in SHAPES:
        waveform = signal(*shape)
        plain = frontend(waveform.clone().requires_grad_())  # not the quick path, which rounds otherwise
        assert_same(exported(waveform), plain.detach(), tolerance=1e-4)  # other float32 sums


@every_frontend
def test_onnx_gives_the_same_numbers(name: str, build: Callable[[], Frontend], tmp_path: Path) -> None:
    frontend = build().eval()
    in_onnx = to_onnx(frontend, tmp_path / "frontend.onnx")
    turn = 2 * torch.pi if name == "phase" else torch.inf  # a negative real number is π or -π
    for shape in SHAPES:
        waveform = signal(*shape)
        reference, ours, rounded = exact(frontend, waveform), in_onnx(waveform), frontend(waveform).detach()
        assert_same(ours, reference, tolerance=1e-4, turn=turn)
        assert_same(rounded, reference, tolerance=ROUNDED.get(name, 1e-4), turn=turn)
        assert_same(ours, rounded, tolerance=ROUNDED.get(name, 1e-4), turn=turn)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ComplexSpectrogram(16000, n_fft=1000, hop_length=160),
        lambda: CFP(16000, n_fft=7350, win_length=1024, hop_length=160, bins_per_octave=24, compression=high_log),
    ],
    ids=["complex", "cfp"],
)
def test_length_of_transform_that_is_no_power_of_two_costs_onnx_no_precision(
    build: Callable[[], Frontend], tmp_path: Path
) -> None:
    frontend = build().eval()
    waveform = signal(3, 1, 5001)
    # In float32 onnxruntime, which takes three transforms of another length, is off by 7e-5 in the first and by 0.3 in
    # the second, whose roots raise what is nearly zero. What is left is float32 around the transform in float64.
    assert_same(to_onnx(frontend, tmp_path / "frontend.onnx")(waveform), exact(frontend, waveform), tolerance=5e-5)
