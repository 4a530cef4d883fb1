"""The front-end as one graph: torch.compile without a break, torch.export with free batch and time."""

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
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
@pytest.mark.parametrize("learnable", [False, True])
def test_export_takes_any_batch_and_length(learnable: bool, dtype: torch.dtype) -> None:
    frontend = build(learnable).eval()
    dims = {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=257, max=480000)}
    example = (torch.randn(2, 1, 4000) * 1000).to(dtype)
    exported = torch.export.export(frontend, (example,), dynamic_shapes={"waveform": dims}).module()
    for shape in ((1, 1, 257), (3, 1, 5001), (7, 1, 48000)):
        waveform = (torch.randn(shape) * 1000).to(dtype)
        # the same operations on the same numbers, but products may be cut otherwise
        torch.testing.assert_close(exported(waveform), frontend(waveform), rtol=0, atol=1e-4)
