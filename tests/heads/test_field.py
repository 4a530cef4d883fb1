"""The networks of the field for tags and for sounds of the city: layers, counts, and the arithmetic written out."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from audiocls.frontends import BatchNormMap, Harmonic, Waveform
from audiocls.heads import SBCNN, HarmonicCNN, Head, Musicnn, SampleCNN, ShortChunkCNN, VGGish

VARIANTS = [
    (ShortChunkCNN, {"residual": True, "channels": (6, 8, 8, 12)}),
    (SampleCNN, {"squeeze_excitation": True, "channels": (6, 8, 8, 12)}),
]


def n_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def map_shapes(head: Head, n_frames: int) -> dict[str, tuple[int, ...]]:
    with torch.no_grad():
        maps = head.eval().forward_intermediates(torch.randn(1, head.n_channels, head.n_bins, n_frames))
    return {name: tuple(x.shape[1:]) for name, x in maps.items()}


def randomise(head: Head) -> Head:
    """Biases, gains and running statistics that are not zero or one, so that a test sees each of them."""
    torch.manual_seed(0)
    for name, value in head.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.uniform_(0.5, 1.5) if "var" in name or "weight" in name else value.normal_()
    return head.double().eval()


class Layers:
    """The layers with weights in the order they were made; each is applied once, by plain functions."""

    def __init__(self, net: nn.Module) -> None:
        kinds = nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm
        self.rest = [m for m in net.modules() if isinstance(m, kinds)]

    def conv(self, x: torch.Tensor, **how) -> torch.Tensor:
        layer = self.rest.pop(0)
        assert isinstance(layer, nn.Conv2d)
        return F.conv2d(x, layer.weight, layer.bias, **how)

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.rest.pop(0)
        assert isinstance(layer, nn.Linear)
        return F.linear(x, layer.weight, layer.bias)

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.rest.pop(0)
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        shape = (-1,) + (1,) * (x.ndim - 2)
        scale = layer.weight / (layer.running_var + layer.eps).sqrt()
        return (x - layer.running_mean.reshape(shape)) * scale.reshape(shape) + layer.bias.reshape(shape)


def assert_is(head: Head, spectrogram: torch.Tensor, embedding: torch.Tensor, layers: Layers) -> None:
    logits = layers.dense(embedding)
    assert layers.rest == []
    assert not embedding[0].allclose(embedding[1])  # or units that no input wakes would make any arithmetic agree
    torch.testing.assert_close(head(spectrogram), logits)  # in float64


# What the contract asks of all heads, asked of the second form of two of them


@pytest.mark.parametrize(("cls", "settings"), VARIANTS)
@pytest.mark.parametrize("n_bins", [1, 40])
def test_second_form_takes_any_size_and_learns(cls, settings, n_bins):
    torch.manual_seed(0)
    for n_frames in (1, 2, 100):
        head = cls(n_bins, 5, n_channels=2, **settings).eval()
        batch = torch.randn(3, 2, n_bins, n_frames)
        logits = head(batch)
        assert logits.shape == (3, 5)
        # The same sums in another order, over some layers of values near 1.
        torch.testing.assert_close(torch.cat([head(clip[None]) for clip in batch]), logits, atol=1e-5, rtol=1e-5)
    logits.pow(2).sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("cls", [HarmonicCNN, Musicnn, SampleCNN, ShortChunkCNN])
def test_one_clip_of_one_frame_can_be_trained_on(cls):
    head = cls(1, 5).train()
    head(torch.randn(1, 1, 1, 1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("cls", [HarmonicCNN, Musicnn, SampleCNN, ShortChunkCNN])
def test_frame_logits_are_those_of_each_position_alone(cls):
    narrow = {} if cls is Musicnn else {"channels": (6,) * 7}
    head = cls(40, 5, **narrow).eval()
    spectrogram = torch.randn(2, 1, 40, 5 * head.frame_step)
    maps = list(head.forward_intermediates(spectrogram).values())
    logits = head.frame_logits(spectrogram)
    assert logits.shape[-1] == 5
    alone = head.output(head.blocks[-1](maps[-2][..., 3:4]))
    torch.testing.assert_close(logits[..., 3], alone, atol=1e-5, rtol=1e-5)  # sums in another order


# Short chunks


def test_short_chunk_layers_are_the_published():
    assert map_shapes(ShortChunkCNN(128, 50), 231) == {
        "conv1": (128, 64, 115),
        "conv2": (128, 32, 57),
        "conv3": (256, 16, 28),
        "conv4": (256, 8, 14),
        "conv5": (256, 4, 7),
        "conv6": (256, 2, 3),
        "conv7": (512, 1, 1),
        "embedding": (512,),
    }


def test_short_chunk_residual_layers_are_the_published():
    assert map_shapes(ShortChunkCNN(128, 50, residual=True), 231) == {
        "conv1": (128, 64, 116),
        "conv2": (128, 32, 58),
        "conv3": (256, 16, 29),
        "conv4": (256, 8, 15),
        "conv5": (256, 4, 8),
        "conv6": (256, 2, 4),
        "conv7": (512, 1, 2),
        "embedding": (512,),
    }


def test_short_chunk_counts():
    norm = n_parameters(BatchNormMap(128))
    assert n_parameters(ShortChunkCNN(128, 50)) + norm == 3_687_348
    assert n_parameters(ShortChunkCNN(128, 50, residual=True)) + norm == 12_104_244


def test_short_chunk_agrees_with_its_layers_written_out():
    head = randomise(ShortChunkCNN(128, 6, channels=(3, 4, 4, 5, 4, 4, 6)))
    x = spectrogram = torch.randn(2, 1, 128, 400).double()
    layers = Layers(head)
    for _ in range(7):
        x = F.max_pool2d(F.relu(layers.norm(layers.conv(x, padding=1))), 2)
    assert x.shape[-2:] == (1, 3)
    assert_is(head, spectrogram, F.relu(layers.norm(layers.dense(x.amax(dim=(-2, -1))))), layers)


def test_short_chunk_residual_agrees_with_its_layers_written_out():
    head = randomise(ShortChunkCNN(128, 6, residual=True, channels=(6, 6, 8, 8, 8, 8, 12)))
    x = spectrogram = torch.randn(2, 1, 128, 400).double()
    layers = Layers(head)
    for _ in range(7):
        y = F.relu(layers.norm(layers.conv(x, stride=2, padding=1)))
        y = layers.norm(layers.conv(y, padding=1))
        x = F.relu(y + layers.norm(layers.conv(x, stride=2, padding=1)))
    assert x.shape[-2:] == (1, 4)
    assert_is(head, spectrogram, F.relu(layers.norm(layers.dense(x.amax(dim=(-2, -1))))), layers)


@pytest.mark.parametrize("residual", [False, True])
def test_short_chunk_leaves_a_position_of_a_small_map(residual):
    shapes = map_shapes(ShortChunkCNN(5, 5, residual=residual, channels=(4,) * 7), 3)
    assert shapes["conv1"] == ((4, 3, 2) if residual else (4, 2, 1))
    assert shapes["conv7"] == (4, 1, 1)


# Harmonics


def test_harmonic_cnn_layers_are_the_published():
    assert map_shapes(HarmonicCNN(128, 50, n_channels=6), 313) == {
        "conv1": (128, 64, 156),
        "conv2": (128, 32, 78),
        "conv3": (128, 16, 39),
        "conv4": (128, 8, 19),
        "conv5": (256, 4, 9),
        "conv6": (256, 2, 3),
        "conv7": (256, 1, 1),
        "embedding": (256,),
    }


def test_harmonic_cnn_count():
    norm_of_each_harmonic, learnt_bandwidth = 2 * 6, 1
    assert n_parameters(HarmonicCNN(128, 50, n_channels=6)) + norm_of_each_harmonic + learnt_bandwidth == 3_631_551


def test_harmonic_cnn_agrees_with_its_layers_written_out():
    # As many channels in as the first block makes: it is a convolution all the same.
    head = randomise(HarmonicCNN(128, 6, n_channels=4, channels=(4, 4, 4, 4, 6, 6, 6)))
    x = spectrogram = torch.randn(2, 4, 128, 600).double()
    layers = Layers(head)
    for pools, residual in zip([(2, 2)] * 5 + [(2, 3)] * 2, [0, 1, 1, 1, 0, 1, 1], strict=True):
        y = layers.norm(layers.conv(x, padding=1))
        if residual:
            y = x + layers.norm(layers.conv(F.relu(y), padding=1))
        x = F.max_pool2d(F.relu(y), pools)
    assert x.shape[-2:] == (1, 2)
    assert_is(head, spectrogram, F.relu(layers.norm(layers.dense(x.amax(dim=(-2, -1))))), layers)


def test_harmonic_cnn_fits_the_front_end_that_its_overlay_names():
    frontend = Harmonic(16000, harmonics=(1, 2, 3, 4, 5, 6), n_bins=128, bins_per_octave=24, hop_length=256)
    assert frontend.n_frames(5 * 16000) == 313
    head = HarmonicCNN(frontend.n_bins, 50, n_channels=frontend.n_maps, channels=(4, 4, 4, 4, 6, 6, 6)).eval()
    assert head(frontend(torch.randn(1, 1, 4000))).shape == (1, 50)


# Samples


@pytest.mark.parametrize("squeeze_excitation", [False, True])
def test_sample_cnn_layers_are_the_published(squeeze_excitation):
    frontend = Waveform(16000)
    assert frontend.n_frames(59049) == 59049
    head = SampleCNN(frontend.n_bins, 50, squeeze_excitation=squeeze_excitation)
    widths = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
    assert map_shapes(head, 59049) == {
        **{f"conv{i}": (width, 1, 3 ** (10 - i)) for i, width in enumerate(widths, start=1)},
        "conv11": (512, 1, 1),
        "embedding": (512,),
    }


def test_sample_cnn_counts():
    assert n_parameters(SampleCNN(1, 50)) == 1_869_874
    assert n_parameters(SampleCNN(1, 50, squeeze_excitation=True)) == 6_951_858


def test_sample_cnn_agrees_with_its_layers_written_out():
    head = randomise(SampleCNN(1, 6, channels=(3, 4, 4, 6)))
    x = waveform = torch.randn(2, 1, 1, 5 * 81).double()
    layers = Layers(head)
    x = F.relu(layers.norm(layers.conv(x, stride=(1, 3), padding=(0, 1))))
    for _ in range(3):
        x = F.max_pool2d(F.relu(layers.norm(layers.conv(x, padding=(0, 1)))), (1, 3))
    x = F.relu(layers.norm(layers.conv(x)))
    assert x.shape == (2, 6, 1, 5)
    assert_is(head, waveform, x.mean(dim=(-2, -1)), layers)


def test_sample_cnn_with_squeeze_excitation_agrees_with_its_layers_written_out():
    head = randomise(SampleCNN(1, 6, squeeze_excitation=True, channels=(3, 3, 4, 6)))
    x = waveform = torch.randn(2, 1, 1, 5 * 81).double()
    layers = Layers(head)
    for i, (stride, pool, kernel, shortcut) in enumerate(
        [(3, 1, 3, True), (1, 3, 3, False), (1, 3, 3, True), (1, 3, 3, True), (1, 1, 1, False)]
    ):
        how = {"padding": (0, kernel // 2)}
        y = F.relu(layers.norm(layers.conv(x, stride=(1, stride), **how)))
        y = layers.norm(layers.conv(y, **how))
        means = y.mean(dim=(-2, -1))
        y = y * layers.dense(F.relu(layers.dense(means))).sigmoid()[:, :, None, None]
        x = layers.norm(layers.conv(x, stride=(1, stride), **how)) if shortcut else x
        x = F.max_pool2d(F.relu(x + y), (1, pool))
        assert x.shape[-1] == 405 // 3 ** min(i + 1, 4)
    assert_is(head, waveform, F.relu(layers.norm(layers.dense(x.mean(dim=(-2, -1))))), layers)


def test_sample_cnn_takes_bins_for_features_of_a_sample():
    head = SampleCNN(5, 6, n_channels=2, channels=(3, 4, 4, 6)).eval()
    first = head.blocks.conv1[0]
    assert first.weight.shape == (3, 10, 1, 3)
    spectrogram = torch.randn(2, 2, 5, 30)
    samples = head.stem(spectrogram)
    assert samples.shape == (2, 10, 1, 30)
    assert samples[:, 5:, 0].equal(spectrogram[:, 1])


# Musicnn


def test_musicnn_layers_are_the_published():
    head = Musicnn(96, 50)
    assert map_shapes(head, 188) == {
        "front": (561, 188),
        "mid1": (625, 188),
        "mid2": (689, 188),
        "mid3": (753, 188),
        "embedding": (200,),
    }
    kernels = [m.kernel_size for m in head.blocks.front.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(67, 7), (38, 7), (1, 129), (1, 65), (1, 33)]


def test_musicnn_counts():
    norm = n_parameters(BatchNormMap(96))
    assert n_parameters(Musicnn(96, 50)) + norm == 784_300
    assert n_parameters(Musicnn(96, 50, mid_channels=512, hidden_size=500)) + norm == 7_972_000


def test_musicnn_agrees_with_its_layers_written_out():
    narrow = {"timbral_channels": 4, "temporal_channels": 3, "mid_channels": 5, "hidden_size": 6}
    head = randomise(Musicnn(96, 7, **narrow))
    spectrogram = torch.randn(2, 1, 96, 188).double()
    layers = Layers(head)
    tall = [F.relu(layers.norm(layers.conv(spectrogram, padding=(0, 3)))).amax(dim=2) for _ in range(2)]
    loudness = spectrogram.mean(dim=2, keepdim=True)
    long = [F.relu(layers.norm(layers.conv(loudness, padding=(0, half))))[:, :, 0] for half in (64, 32, 16)]
    parts = [torch.cat(tall + long, dim=1)]
    for i in range(3):
        new = F.relu(layers.norm(layers.conv(parts[-1][:, :, None], padding=(0, 3))))[:, :, 0]
        parts.append(new + parts[-1] if i else new)
    x = torch.cat(parts, dim=1)
    x = torch.cat([x.amax(dim=-1), x.mean(dim=-1)], dim=1)
    assert_is(head, spectrogram, F.relu(layers.norm(layers.dense(x))), layers)


def test_musicnn_hears_the_same_timbre_at_another_pitch():
    # Kernels lower than the silence on either side, so that every place they can meet the timbre in is there twice.
    front = Musicnn(96, 5, timbral_shares=(0.3, 0.2)).eval().blocks.front
    timbre = torch.randn(1, 1, 20, 60)
    low, high = (F.pad(timbre, (0, 0, 40 + shift, 36 - shift)) for shift in (0, 7))
    torch.testing.assert_close(front(low), front(high), atol=1e-5, rtol=1e-5)  # sums in another order


# Sounds of the city


def test_sb_cnn_layers_and_count_are_the_published():
    head = SBCNN(128, 10)
    assert n_parameters(head) == 241_434
    assert map_shapes(head, 128) == {
        "conv1": (24, 62, 31),
        "conv2": (48, 29, 6),
        "conv3": (48, 25, 2),
        "embedding": (64,),
    }


def test_sb_cnn_with_its_pools_the_other_way_round():
    head = SBCNN(128, 10, freq_pools=(4, 4, 1), time_pools=(2, 2, 1))
    assert n_parameters(head) == 241_434
    assert map_shapes(head, 128)["conv3"] == (48, 2, 25)


def test_sb_cnn_agrees_with_its_layers_written_out():
    head = randomise(SBCNN(128, 10, channels=(3, 4, 5), hidden_size=6))
    x = spectrogram = torch.randn(2, 1, 128, 128).double()
    layers = Layers(head)
    x = F.relu(F.max_pool2d(layers.conv(x), (2, 4)))  # pooled before the ReLU, as published: the order is all one
    x = F.relu(F.max_pool2d(layers.conv(x), (2, 4)))
    x = F.relu(layers.conv(x)).flatten(1)
    assert_is(head, spectrogram, F.relu(layers.dense(x)), layers)


@pytest.mark.parametrize(("n_bins", "n_frames"), [(1, 1), (32, 100), (33, 101), (128, 128), (64, 400)])
def test_sb_cnn_brings_any_length_to_the_positions_of_the_published(n_bins, n_frames):
    head = SBCNN(n_bins, 10, channels=(3, 4, 5))
    last = map_shapes(head, n_frames)["conv3"]
    assert head.blocks.embedding[0](torch.ones(1, *last)).shape == (1, 5, last[1], 2)
    assert last[1] == {1: 1, 32: 1, 33: 1, 128: 25, 64: 9}[n_bins]
    if n_frames < 101:
        assert last[2] == 1  # 100 frames are the least: padded to them, one position is left
        assert head.stem(torch.ones(1, 1, n_bins, n_frames)).shape == (1, 1, 32, 100)


# VGGish


def test_vggish_layers_and_count_are_the_published():
    with torch.device("meta"):  # without drawing 72 million numbers
        head = VGGish(64, 527)
        shapes = map_shapes(head, 96)
    assert n_parameters(head.blocks) == 72_141_184
    assert shapes == {
        "conv1": (64, 32, 48),
        "conv2": (128, 16, 24),
        "conv3": (256, 8, 12),
        "conv4": (512, 4, 6),
        "flatten": (12288,),
        "dense1": (4096,),
        "dense2": (4096,),
        "features": (128,),
        "embedding": (128,),
    }


def test_vggish_agrees_with_its_layers_written_out():
    head = randomise(VGGish(64, 7, channels=(6, 8, 8, 8), hidden_sizes=(16, 17), embedding_dim=10))
    x = spectrogram = torch.randn(2, 1, 64, 96).double()
    layers = Layers(head)
    for n_convs in (1, 1, 2, 2):
        for _ in range(n_convs):
            x = F.relu(layers.conv(x, padding=1))
        x = F.max_pool2d(x, 2)
    x = F.relu(layers.dense(F.relu(layers.dense(x.flatten(1)))))
    features = layers.dense(x)
    assert head.forward_intermediates(spectrogram)["features"].allclose(features)
    assert_is(head, spectrogram, F.relu(features), layers)


@pytest.mark.parametrize("n_frames", [1, 50, 96, 97, 400])
@pytest.mark.parametrize(("n_bins", "rows"), [(1, 1), (64, 4), (65, 5)])
def test_vggish_brings_any_length_to_the_published_positions(n_bins, rows, n_frames):
    head = VGGish(n_bins, 7, channels=(3, 4, 5, 6), hidden_sizes=(8,))
    assert map_shapes(head, n_frames)["flatten"] == (6 * rows * 6,)


# Errors that small.py does not ask for


@pytest.mark.parametrize(
    ("cls", "wrong", "message"),
    [
        (Musicnn, {"timbral_shares": ()}, "at most 1 of the bins, at least one, got ()"),
        (Musicnn, {"temporal_lengths": ()}, "temporal_lengths must be at least 1, got 0"),
        (SBCNN, {"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
        (SBCNN, {"channels": ()}, "channels must be at least 1, got 0"),
        (HarmonicCNN, {"freq_pools": (2, 2, 2, 2, 2, 2, 0)}, "freq_pools must be at least 1, got 0"),
        (VGGish, {"embedding_dim": 0}, "embedding_dim must be at least 1, got 0"),
    ],
)
def test_refuses(cls, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(64, 5, **wrong)
