"""Every front-end as one graph: torch.compile without a break, torch.export and ONNX with free batch and time.

They run over all front-ends of the contract tests. What cannot leave is named with its reason.
"""

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import UserError

from audiocls.frontends import Frontend
from tests.frontends.test_contract import FRONTENDS, signal

pytestmark = pytest.mark.slow

SHAPES = ((1, 1, 1201), (3, 1, 5001))
FREE = {"waveform": {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=1200, max=480000)}}
# Why the length cannot be left free in torch.export.
ONE_LENGTH = {
    "mel, pcen": "the number of blocks of the moving average is chosen by the number of frames",
    **dict.fromkeys(
        ("cqt", "cqt, learnt, magnitude", "vqt, mirrored", "harmonic"),
        "the frames of an octave are folded, and the tracer cannot show that what is left over has a length",
    ),
    **dict.fromkeys(("cfp", "cfp, learnt"), "the tracer cannot show that there is more than one frame"),
}
# Why the graph cannot be written as ONNX.
NO_ONNX = {"phase": "ONNX has no angle of a complex number (atan2)"}

every_frontend = pytest.mark.parametrize(("name", "build"), FRONTENDS.items(), ids=FRONTENDS.keys())


def assert_same(ours: Tensor, expected: Tensor, *, tolerance: float) -> None:
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Graphs of other front-ends count towards the few that one `forward` may have."""
    torch.compiler.reset()


@every_frontend
def test_compiles_to_one_graph(name: str, build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    waveform = signal(2, 1, 4000)
    # the path in blocks gives way to the plain one, products by kernels are taken in float64: as between paths
    assert_same(compiled(waveform), frontend(waveform), tolerance=1e-3)


@every_frontend
def test_exports_with_any_batch_and_length(name: str, build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    if name in ONE_LENGTH:
        with pytest.raises((UserError, AssertionError), match=r"Constraints violated|inconsistent"):
            torch.export.export(frontend, (signal(2, 1, 4000),), dynamic_shapes=FREE)
        pytest.skip(ONE_LENGTH[name])
    exported = torch.export.export(frontend, (signal(2, 1, 4000),), dynamic_shapes=FREE).module()
    for shape in SHAPES:
        waveform = signal(*shape)
        assert_same(exported(waveform), frontend(waveform), tolerance=1e-4)  # other float32 sums


@every_frontend
def test_onnx_gives_the_same_numbers(name: str, build: Callable[[], Frontend], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    if name in NO_ONNX or name in ONE_LENGTH:
        pytest.skip(NO_ONNX.get(name) or ONE_LENGTH[name])
    frontend = build().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # names of packages that are not needed
    with contextlib.redirect_stdout(io.StringIO()):  # each step of the exporter, which has no switch for it
        program = torch.onnx.export(frontend, (signal(2, 1, 4000),), dynamo=True, dynamic_shapes=FREE, verbose=False)
    assert program is not None
    program.save(tmp_path / "frontend.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "frontend.onnx", providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    for shape in SHAPES:
        waveform = signal(*shape)
        (ours,) = session.run(None, {source.name: waveform.numpy()})
        # another library's Fourier transform: logarithms of its rounding 80 dB down are 1e-3 of the largest
        assert_same(torch.from_numpy(ours), frontend(waveform).detach(), tolerance=1e-3)
