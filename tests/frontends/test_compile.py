"""The mel front-end in compiled and exported graphs: gradients, PCM, matmul precision; all others in `test_export`."""

from collections.abc import Callable

import pytest
import torch

from audiocls.frontends import Log, MelSpectrogram


def build(learnable: bool) -> MelSpectrogram:
    return MelSpectrogram(
        16000,
        n_fft=512,
        hop_length=160,
        n_mels=40,
        pad_mode="reflect",
        learnable=learnable,
        compression=lambda n_bins: Log(n_bins, learnable=learnable),
    )


@pytest.mark.slow
@pytest.mark.parametrize("learnable", [False, True])
def test_compile_is_one_graph_with_the_same_gradients(learnable: bool) -> None:
    eager, frontend = build(learnable), build(learnable)
    torch.compiler.reset()  # in one process torch compiles the same lines for eight front-ends
    compiled = torch.compile(frontend, fullgraph=True)
    waveform = torch.randn(2, 1, 4000)
    weighting = torch.randn(2, 1, 40, 26)
    for run in (eager, compiled):
        (run(waveform) * weighting).sum().backward()
    # fused float32 sums; 1e-3 of each gradient's largest entry
    for (name, expected), parameter in zip(eager.named_parameters(), frontend.parameters(), strict=True):
        assert expected.grad is not None, name
        assert parameter.grad is not None, name
        assert (parameter.grad - expected.grad).abs().max() <= 1e-3 * expected.grad.abs().max(), name
    torch.testing.assert_close(compiled.eval()(waveform), eager.eval()(waveform), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("learnable", [False, True])
def test_export_takes_pcm_of_any_batch_and_length(learnable: bool) -> None:
    frontend = build(learnable).eval()
    dims = {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=257, max=480000)}
    example = (torch.randn(2, 1, 4000) * 1000).to(torch.int16)
    exported = torch.export.export(frontend, (example,), dynamic_shapes={"waveform": dims}).module()
    for shape in ((1, 1, 257), (3, 1, 5001), (7, 1, 48000)):
        waveform = (torch.randn(shape) * 1000).to(torch.int16)
        # the same operations on the same numbers, but products may be cut otherwise
        torch.testing.assert_close(exported(waveform), frontend(waveform), rtol=0, atol=1e-4)


def test_compiled_products_are_in_float64_which_no_matmul_precision_touches() -> None:
    frontend = MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40, path="matmul").eval()
    products = []

    def collect(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        convolutions = [node for node in graph.graph.nodes if node.target is torch.conv1d]
        products.extend(node.meta["example_value"].dtype for node in convolutions)
        return graph.forward

    tone = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(4000)).reshape(1, 1, -1)
    torch.compiler.reset()  # in one process torch compiles the same lines for eight front-ends
    compiled = torch.compile(frontend, fullgraph=True, backend=collect)(tone)
    assert products == [torch.float64]
    # float32 rounding where the energy is 80 dB below the tone, just above the floor of the logarithm
    torch.testing.assert_close(compiled, frontend(tone), rtol=0, atol=5e-3)
