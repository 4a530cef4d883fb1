"""Multiply-adds against the sums one does by hand."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import Tensor, nn

from audiocls import frontends, heads
from audiocls.classifier import Classifier
from audiocls.complexity import multiply_adds_per_second, with_prefix
from audiocls.frontends import Frontend, MelSpectrogram, Waveform
from audiocls.heads import CNN6, ConvNet, Head, MusicCRNN, MusicTaggingTransformer
from tests.heads.small import SMALL, skip_without_library

RATE = 1000


class Flat(Head):
    """One block of any kind on (batch, 1, 1, time), and no layer behind it but the last, of 1 x 1."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(1, 1, n_channels=1, blocks={"embedding": block}, embedding_dim=1)


class Call(nn.Module):
    """A function of (batch, 1, 1, time) before a module, and the mean of what that gives."""

    def __init__(self, module: nn.Module, before) -> None:
        super().__init__()
        self.module, self.before = module, before

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(self.before(x))
        y = y[0] if isinstance(y, tuple) else y
        return y.flatten(1).mean(1, keepdim=True)


def counted(block: nn.Module, n_samples: int) -> float:
    """Multiply-adds of a block on so many samples."""
    seconds = n_samples / RATE
    total = multiply_adds_per_second(Waveform(RATE), Flat(block), seconds=seconds)
    assert total is not None
    return total * seconds - 1  # the last layer


def vectors(n_features: int):
    return lambda x: x.reshape(1, -1, n_features)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Call(nn.Conv2d(1, 8, (1, 3), padding="same"), lambda x: x), 60 * 8 * 3),
        (Call(nn.Conv1d(6, 8, 5, groups=2, padding=2), lambda x: x.reshape(1, 6, 10)), 10 * 8 * 3 * 5),
        (Call(nn.Linear(6, 4), vectors(6)), 10 * 6 * 4),
        (Call(nn.GRU(6, 4, batch_first=True), vectors(6)), 10 * 3 * 4 * (6 + 4)),
        (Call(nn.GRU(6, 4, 2, batch_first=True), vectors(6)), 10 * 3 * 4 * (6 + 4 + 4 + 4)),
        (Call(nn.LSTM(6, 4, batch_first=True, bidirectional=True), vectors(6)), 2 * 10 * 4 * 4 * (6 + 4)),
        (
            Call(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), vectors(6)),
            10 * 6 * 6 * 4 + 2 * 10 * 10 * 6 + 2 * 10 * 6 * 12,  # projections, two products of attention, dense layers
        ),
    ],
    ids=["conv2d", "grouped conv1d", "linear", "gru", "gru of two layers", "lstm both ways", "transformer layer"],
)
def test_layers_by_hand(block, expected):
    assert counted(block, 60) == pytest.approx(expected)


def test_fourier_transforms_by_the_customary_measure():
    class Transform(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            spectrum = torch.fft.rfft(x.reshape(1, 4, 64))
            signal = torch.fft.irfft(spectrum, n=64)
            return torch.fft.fft(torch.complex(signal, signal)).abs().flatten(1)

    # 5 n log2 n operations of a complex transform, half of that of a real one; a multiply-add is two operations.
    complex_one = 4 * 5 * 64 * math.log2(64) / 2
    assert counted(Call(Transform(), lambda x: x), 256) == pytest.approx(2 * complex_one)


def test_mel_spectrogram_by_hand():
    frontend = MelSpectrogram(RATE, n_fft=64, hop_length=10, n_mels=8)
    n_frames = frontend.n_frames(2 * RATE)
    head = ConvNet(8, 3, channels=(4,), kernel_size=1)
    expected = n_frames * (2.5 * 64 * math.log2(64) / 2 + 33 * 8) + n_frames * 8 * 4 + 4 * 3
    assert multiply_adds_per_second(frontend, head, seconds=2) == pytest.approx(expected / 2)


@pytest.mark.parametrize(("name", "published"), [("CNN6", 21.986e9), ("CNN10", 28.166e9), ("CNN14", 42.220e9)])
def test_panns_are_the_published(name, published):
    # Operations of a clip of 10 s that the authors' own counter gives (utils/plot_for_paper.py), where a multiply-add
    # is two and the Fourier transform a dense convolution. They add the norms and leave out the mel filters, each
    # below 0.3 % of the smallest.
    with torch.device("meta"):
        head = getattr(heads, name)(64, 527)
    frontend = MelSpectrogram(32000, n_fft=1024, hop_length=320, path="matmul")
    counted = multiply_adds_per_second(frontend, head, seconds=10)
    assert counted is not None
    assert 2 * 10 * counted == pytest.approx(published, rel=0.004)


def test_a_clip_twice_as_long_costs_as_much_a_second():
    frontend, head = MelSpectrogram(16000), CNN6(64, 5)
    one, two = (multiply_adds_per_second(frontend, head, seconds=s) for s in (8, 16))
    assert two == pytest.approx(one, rel=0.02)  # the dense layers, once a clip, and the frame that centring adds


def built(name: str) -> Frontend | Head:
    if name in frontends.__all__:
        return getattr(frontends, name)(16000)
    skip_without_library(name)
    return getattr(heads, name)(SMALL[name].n_bins, 5, **SMALL[name].settings)


FRONTENDS = [
    name
    for name in frontends.__all__
    if isinstance(getattr(frontends, name), type)
    and issubclass(getattr(frontends, name), Frontend)
    and not getattr(frontends, name).__abstractmethods__
]


@pytest.mark.parametrize("name", [*FRONTENDS, *(name for name in heads.__all__ if name != "Head")])
def test_every_member_is_counted_and_left_as_it_was(name):
    part = built(name)
    if isinstance(part, Frontend):
        frontend, head = part, ConvNet(part.n_bins, 5, n_channels=part.n_maps)
    else:
        frontend, head = MelSpectrogram(16000, n_mels=part.n_bins), part
    next(iter(head.children())).eval()  # one part in another mode than the rest
    parts = [*frontend.modules(), *head.modules()]
    modes = [module.training for module in parts]
    state = {key: value.clone() for module in (frontend, head) for key, value in module.state_dict().items()}
    generator = torch.get_rng_state()

    counted = multiply_adds_per_second(frontend, head, seconds=1)
    assert counted is not None
    assert counted > 1000
    assert [module.training for module in parts] == modes
    assert all(p.grad is None and p.device.type == "cpu" for module in (frontend, head) for p in module.parameters())
    after = {key: value for module in (frontend, head) for key, value in module.state_dict().items()}
    assert all(value.equal(state[key]) for key, value in after.items())
    assert torch.get_rng_state().equal(generator)
    head.eval()
    assert head(frontend.eval()(torch.zeros(1, 1, 4000))).isfinite().all()


def test_a_head_that_asks_for_a_value_is_said_not_to_be_counted(caplog):
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).mean(1, keepdim=True) * (2 if x.sum().item() > 0 else 1)

    frontend, head = Waveform(RATE), Flat(Asks())
    assert multiply_adds_per_second(frontend, head, seconds=1) is None
    assert "the multiply-adds are not counted: Waveform and Flat do not run on shapes alone" in caplog.text
    assert head.training


def test_training_says_it_first_and_keeps_it_with_the_run(caplog):
    class Kept:
        def log_hyperparams(self, numbers):
            self.numbers = numbers

    class Fitted(Classifier):
        loggers = [Kept()]  # noqa: RUF012 - stands for the trainer's

    caplog.set_level(logging.INFO, "audiocls.classifier")
    model = Fitted(MelSpectrogram(16000), ConvNet, num_classes=7, clip_seconds=0.6)
    model.on_fit_start()
    counted = multiply_adds_per_second(model.frontend, model.head, seconds=0.6)
    assert counted is not None
    said = f"head ConvNet (98,535 parameters), {with_prefix(counted)} multiply-adds a second of audio, 7 classes"
    assert said in caplog.text
    assert Fitted.loggers[0].numbers == {
        "n_parameters_frontend": 128,  # the norm of 64 bins
        "n_parameters_head": 98_535,
        "multiply_adds_per_second": counted,
    }


@pytest.mark.parametrize("cls", [MusicCRNN, MusicTaggingTransformer])
def test_recurrence_and_attention_are_not_counted_as_nothing(cls):
    frontend = MelSpectrogram(16000, n_mels=40, hop_length=160)
    few, many = ({"hidden_size": 8}, {"hidden_size": 64}) if cls is MusicCRNN else ({"n_layers": 1}, {"n_layers": 3})
    one, other = (multiply_adds_per_second(frontend, cls(40, 5, **settings), seconds=1) for settings in (few, many))
    assert one is not None
    assert other is not None
    if cls is MusicCRNN:  # 192 frames after padding make two of the last map, of 128 features; the last layer is 5 wide
        more = sum(2 * 3 * h * (n_in + h) for h, n_in in ((64, 128), (64, 64))) + 5 * 64
        less = sum(2 * 3 * h * (n_in + h) for h, n_in in ((8, 128), (8, 8))) + 5 * 8
    else:  # tokens of 25 frames and one more: projections and dense layers of 12 x 256 x 256, two products a layer
        more, less = (n * (26 * 12 * 256**2 + 2 * 26**2 * 256) for n in (3, 1))
    assert other - one == pytest.approx(more - less)
