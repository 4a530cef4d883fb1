"""Every head as one graph: torch.compile without a break, torch.export and ONNX with free batch and length.

Whole classifiers too, from PCM to logits.
"""

import contextlib
import copy
import io
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.fx.experimental import _config as fx_config

from audiocls import heads
from audiocls.classifier import Classifier
from audiocls.frontends import MelSpectrogram, Spectrogram, Waveform
from audiocls.heads import Head
from audiocls.heads.blocks import Recurrent
from audiocls.heads.class_attention import ClassAttention
from audiocls.heads.map_pools import AdaptiveFrames, AvgPoolMaps, MaxPoolMaps, WholeWindows
from tests.heads.small import SMALL, skip_without_library
from tests.heads.test_heads import HEADS, N_CLASSES, spectrograms
from tests.heads.test_heads import build as built

# (clips, frames): other than the example's, down to one of each, and up to more than pools leave one frame of
SIZES = ((1, 1), (1, 7), (4, 1), (5, 46), (2, 130), (1, 3001))
EXAMPLE = (3, 401)

every_head = pytest.mark.parametrize("cls", HEADS, ids=lambda cls: cls.__qualname__)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Graphs of other heads count towards the few that one `forward` may have."""
    torch.compiler.reset()


def assert_same(ours: Tensor, expected: Tensor, *, tolerance: float, least_peak: float = 0.0) -> None:
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=least_peak)


def free(axis: int, *, least: int = 1) -> dict[int, object]:
    """The dynamic sizes of an input whose time is on `axis`."""
    return {0: torch.export.Dim("batch", min=1, max=512), axis: torch.export.Dim("time", min=least, max=480000)}


@torch.no_grad()
def exported(model: nn.Module, example: Tensor, dims: dict[int, object]) -> Callable[[Tensor], Tensor]:
    """As the ONNX exporter has it: one frame is a length like others, where torch.export alone begins at two."""
    with fx_config.patch(backed_size_oblivious=True):
        return torch.export.export(model, (example,), dynamic_shapes=(dims,)).module()


@torch.no_grad()
def through_onnx(model: nn.Module, example: Tensor, dims: dict[int, object], path: Path) -> Callable[[Tensor], Tensor]:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # names of packages that are not needed
    with contextlib.redirect_stdout(io.StringIO()):  # each step of the exporter, which has no switch for it
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=(dims,), verbose=False)
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {source.name: x.numpy()})[0])


def build(cls: type[Head], **settings: float) -> Head:
    skip_without_library(cls.__name__)
    return built(cls, **settings).eval()


@pytest.mark.slow
@every_head
@torch.no_grad()
def test_compiles_to_one_graph_of_any_length(cls):
    head = build(cls)
    graphs = []

    def collect(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    # torch.compile takes no nn.GRU in: the graph ends there and goes on behind it
    whole = not any(isinstance(part, nn.GRU) for part in head.modules())
    if not whole:
        with pytest.raises(Unsupported, match="Attempted to wrap RNN"):
            torch.compile(head, fullgraph=True, backend=collect)(spectrograms(head, 400))
        torch.compiler.reset()
        graphs.clear()
    compiled = torch.compile(head, fullgraph=whole, dynamic=True, backend=collect)
    first = spectrograms(head, 400, 2)
    assert_same(compiled(first), head(first), tolerance=1e-5)
    n_graphs = len(graphs)
    assert n_graphs == 1 or not whole
    second = spectrograms(head, 500, 3)
    assert_same(compiled(second), head(second), tolerance=1e-5)
    assert len(graphs) == n_graphs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CNN6", "KeywordCNN", "MusicCRNN"])
def test_compiled_head_trains_with_the_same_gradients(name):
    eager = build(getattr(heads, name), dropout=0.0, conv_dropout=0.0).train()
    head = copy.deepcopy(eager)
    spectrogram = spectrograms(eager, 61, 3)
    for run in (eager, torch.compile(head, backend="aot_eager")):
        run(spectrogram).pow(2).sum().backward()
    for (name, parameter), ours in zip(eager.named_parameters(), head.parameters(), strict=True):
        # what a batch norm takes away, the bias before it, has rounding for a gradient: so by the largest of the head
        scale = max(float(p.grad.abs().max()) for p in eager.parameters() if p.grad is not None)
        assert ours.grad is not None, name
        assert (ours.grad - parameter.grad).abs().max() <= 1e-5 * scale, name  # fused float32 sums


@pytest.mark.slow
@every_head
def test_exports_with_any_batch_and_length(cls):
    head = build(cls)
    graph = exported(head, spectrograms(head, *reversed(EXAMPLE)), free(3))
    for n_clips, n_frames in SIZES:
        spectrogram = spectrograms(head, n_frames, n_clips)
        assert_same(graph(spectrogram), head(spectrogram), tolerance=1e-5)  # the same products, cut otherwise


@pytest.mark.slow
@every_head
def test_onnx_gives_the_same_numbers(cls, tmp_path):
    head = build(cls)
    graph = through_onnx(head, spectrograms(head, *reversed(EXAMPLE)), free(3), tmp_path / "head.onnx")
    # of class attention, logits near 0 are differences of terms near 1
    least_peak = 0.01 if isinstance(head.output, ClassAttention) else 0.0
    for n_clips, n_frames in SIZES:
        x = spectrograms(head, n_frames, n_clips)
        assert_same(graph(x), head(x), tolerance=1e-4, least_peak=least_peak)  # another library's float32 sums


CLASSIFIERS = {
    "mel, MusicCRNN": (lambda: MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40), "MusicCRNN"),
    "spectrogram, VGGish": (lambda: Spectrogram(16000, n_fft=128, hop_length=64), "VGGish"),
    "waveform, SampleCNN": (lambda: Waveform(16000), "SampleCNN"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("frontend", "name"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_whole_classifier_takes_pcm_of_any_batch_and_length(frontend, name, tmp_path):
    head = partial(getattr(heads, name), **SMALL[name].settings)
    model = Classifier(frontend(), head, num_classes=N_CLASSES).eval()

    def pcm(n_clips: int, n_samples: int) -> Tensor:
        return (torch.randn(n_clips, 1, n_samples) * 3000).to(torch.int16)

    dims = free(2, least=1200)
    for graph in (
        exported(model, pcm(2, 50000), dims),
        through_onnx(model, pcm(2, 50000), dims, tmp_path / "classifier.onnx"),
    ):
        for shape in ((1, 1201), (3, 5001), (1, 48000)):
            waveform = pcm(*shape)
            # another library's Fourier transform, and the rounding of quiet bins in the logarithm
            assert_same(graph(waveform), model(waveform).detach(), tolerance=1e-3)


@pytest.mark.parametrize(
    "part", [MaxPoolMaps((2, 3)), WholeWindows((2, 3)), AvgPoolMaps((2, 3)), MaxPoolMaps((1, 1))], ids=repr
)
@pytest.mark.parametrize(("n_bins", "n_frames"), [(2, 3), (5, 7), (4, 9), (3, 11)])
def test_pools_are_the_same_in_a_graph(part, n_bins, n_frames, monkeypatch):
    x = torch.randn(2, 3, n_bins, n_frames)
    eager = part(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert part(x).equal(eager)


def test_whole_windows_of_an_axis_shorter_than_one_are_the_same_in_a_graph(monkeypatch):
    x = torch.randn(2, 3, 1, 2)
    eager = WholeWindows((2, 3))(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert WholeWindows((2, 3))(x).equal(eager)


@pytest.mark.parametrize("n_frames", [1, 2, 4, 5, 7, 8, 31, 1000])
def test_adaptive_frames_are_torchs_adaptive_pooling(n_frames, monkeypatch):
    x = torch.randn(2, 3, 5, n_frames)
    for n in (1, 4, 7):
        expected = torch.nn.functional.adaptive_avg_pool2d(x, (5, n))
        torch.testing.assert_close(AdaptiveFrames(n)(x), expected)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(AdaptiveFrames(n_frames)(x), x, rtol=0, atol=0)  # a product with the identity


@pytest.mark.slow
def test_recurrent_loop_is_torchs_gru():
    layer = Recurrent(6, 4)
    x = torch.randn(3, 6, 11)
    graph = exported(layer.eval(), x, free(2))
    for n_frames in (1, 2, 30):
        x = torch.randn(2, 6, n_frames)
        torch.testing.assert_close(graph(x), layer.gru(x.transpose(1, 2))[0].transpose(1, 2))
