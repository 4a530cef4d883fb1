"""Combined frequency and periodicity as a front-end: `functional.cfp` with filterbanks that can be learnt."""

import pytest
import torch

from audiocls import functional
from audiocls.frontends import CFP, NoCompression, NoNormalization

SAMPLE_RATE = 16000


def chord() -> torch.Tensor:
    time = torch.arange(8000) / SAMPLE_RATE
    tones = [torch.sin(2 * torch.pi * h * pitch * time) / h for pitch in (220.0, 330.0) for h in range(1, 9)]
    return 0.1 * torch.stack(tones).sum(dim=0)


@pytest.mark.parametrize("learnable", [False, True])
def test_energy_is_the_combined_map(learnable: bool) -> None:
    frontend = CFP(SAMPLE_RATE, learnable=learnable, compression=NoCompression, normalization=NoNormalization)
    waveform = torch.stack([chord(), chord().flip(0)])[None]
    maps = functional.cfp(
        waveform,
        sample_rate=SAMPLE_RATE,
        n_fft=8000,
        hop_length=320,
        window=functional.window("blackmanharris", 2048),
    )
    # the same sums in another order
    torch.testing.assert_close(frontend(waveform), maps.combined, rtol=1e-4, atol=1e-6)


def test_learnt_filterbanks_start_as_the_fixed_ones() -> None:
    fixed, learnt = CFP(SAMPLE_RATE).eval(), CFP(SAMPLE_RATE, learnable=True).eval()
    assert torch.equal(learnt(chord()[None, None]), fixed(chord()[None, None]))
    assert {name.partition(".")[0] for name, _ in learnt.named_parameters()} >= {"over_frequency", "over_lag"}


@pytest.mark.slow
def test_one_graph_for_any_batch_and_length() -> None:
    frontend = CFP(SAMPLE_RATE, compression=NoCompression, normalization=NoNormalization)
    waveform = chord()[None, None].repeat(2, 1, 1)
    expected = frontend(waveform)
    # roots of what is nearly zero magnify what fused float32 sums round otherwise
    tolerance = {"rtol": 1e-3, "atol": 1e-4 * float(expected.max())}
    torch.compiler.reset()  # in one process torch compiles the same lines for eight front-ends
    torch.testing.assert_close(torch.compile(frontend, fullgraph=True)(waveform), expected, **tolerance)
    dims = {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=320, max=480000)}
    exported = torch.export.export(frontend, (waveform,), dynamic_shapes={"waveform": dims}).module()
    for clip in (waveform[:1, :, :320], waveform.repeat(2, 1, 2)[..., :12345]):
        torch.testing.assert_close(exported(clip), frontend(clip), **tolerance)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"exponents": (0.24,)}, "exponents must be at least two positive numbers"),
        ({"win_length": 9000}, "win_length must be between 1 and n_fft=8000 samples, got 9000"),
        ({"f_max": 9000.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 9000.0"),
        ({"f_min": -1.0}, "f_min must be positive, got -1.0 Hz"),
        (
            {"n_fft": 300, "win_length": 300, "hop_length": 100},
            r"n_fft must be at least 2 \* sample_rate / f_min = 400",
        ),
    ],
)
def test_settings_are_checked(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CFP(SAMPLE_RATE, **setting)
