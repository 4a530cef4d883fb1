"""The networks of the founding papers of music tagging, and the one of the question about kernels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import nn

from audiocls.frontends import BatchNormBins
from audiocls.heads import CRNN, FCN5, K1C2, K2C1, K2C2, BeatboxCNN, CompactCNN, Head, MusicCRNN
from audiocls.heads.budget import widths_for
from audiocls.heads.fcn import COMPACT_FREQ_POOLS
from tests.heads.small import SMALL

BUDGETS = (100_000, 250_000, 500_000, 1_000_000, 3_000_000)
# Widths of the paper at those budgets, and the number of parameters of each, counted once on nets built by hand.
PAPER = {
    K1C2: [
        ((15, 15, 30, 30, 30), 95_660),
        ((23, 23, 47, 47, 47), 232_743),
        ((33, 33, 66, 66, 66), 457_496),
        ((47, 47, 95, 95, 95), 944_631),
        ((81, 81, 163, 163, 163), 2_773_491),
    ],
    K2C1: [
        ((43, 43, 43, 87, 87, 87), 97_513),
        ((72, 72, 72, 145, 145, 145), 246_718),
        ((106, 106, 106, 213, 213, 213), 507_328),
        ((152, 152, 152, 304, 304, 304), 1_002_794),
        ((265, 265, 265, 535, 535, 535), 2_983_615),
    ],
    K2C2: [
        ((20, 41, 41, 62, 83), 96_822),
        ((33, 66, 66, 100, 133), 246_097),
        ((47, 95, 95, 142, 190), 497_320),
        ((67, 135, 135, 203, 271), 1_003_828),
        ((118, 236, 236, 355, 473), 3_046_167),
    ],
    CRNN: [
        ((30, 60, 60, 60, 30), 97_310),
        ((48, 96, 96, 96, 48), 246_386),
        ((68, 137, 137, 137, 68), 497_565),
        ((96, 195, 195, 195, 96), 1_000_943),
        ((169, 339, 339, 339, 169), 3_028_726),
    ],
}
ROWS = [
    (cls, budget, widths, count) for cls in PAPER for budget, (widths, count) in zip(BUDGETS, PAPER[cls], strict=True)
]


def n_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def maps(head: Head, n_frames: int, n_clips: int = 1) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return head.eval().forward_intermediates(torch.randn(n_clips, head.n_channels, head.n_bins, n_frames))


def map_shapes(head: Head, n_frames: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape[1:]) for name, x in maps(head, n_frames).items()}


def settings(cls: type[Head], widths: tuple[int, ...]) -> dict:
    if cls is K2C2:
        return {"budget": None, "channels": widths}
    return {"budget": None, "channels": widths[:-1], "hidden_size": widths[-1]}


def widths_of(head: Head) -> tuple[int, ...]:
    convolutions = tuple(m.out_channels for m in head.modules() if isinstance(m, nn.Conv2d))
    return convolutions if isinstance(head, FCN5) else (*convolutions, head.embedding_dim)


def randomise(head: Head) -> Head:
    """Biases, gains and running statistics that are not zero or one, so that a test sees each of them."""
    for name, value in head.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.uniform_(0.5, 1.5) if "var" in name or "weight" in name else value.normal_()
    return head.eval()


def norm(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """Batch normalisation in evaluation, written out."""
    shape = (-1,) + (1,) * (x.ndim - 2)
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean.reshape(shape)) * scale.reshape(shape) + layer.bias.reshape(shape)


def layers(head: Head) -> list[nn.Module]:
    """Layers with weights in the order they were made, which is the order they run in."""
    return [m for m in head.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm)]


# The fully convolutional nets


def test_fcn5_layers_are_the_published():
    assert map_shapes(FCN5(96, 50), 1366) == {
        "conv1": (64, 48, 341),
        "conv2": (128, 24, 85),
        "conv3": (128, 12, 21),
        "conv4": (128, 4, 4),
        "conv5": (64, 1, 1),
        "embedding": (64,),
    }


def test_fcn5_counts():
    head, input_norm = FCN5(96, 50), BatchNormBins(96)
    running = 2 * (sum(widths_of(head)) + 96)  # means and variances
    assert n_parameters(head) == 447_730
    assert n_parameters(head) + n_parameters(input_norm) + running == 449_138  # as Keras counts the public code
    assert n_parameters(head) + 2 == 447_732  # a torch port: one scale and shift for the whole input


def test_fcn5_count_of_the_readme_is_that_of_the_released_weights():
    head = FCN5(96, 50, channels=(32, 128, 128, 192, 256), conv_dropout=0.5)
    gain_and_shift_of_each_frame = 2 * 1366
    assert n_parameters(head) + gain_and_shift_of_each_frame == 865_950


def test_fcn5_agrees_with_its_layers_written_out():
    head = randomise(FCN5(96, 7, channels=(4, 6, 6, 6, 8)))
    x = spectrogram = torch.randn(2, 1, 96, 1366)
    parts = layers(head)
    for conv, bn, pool in zip(parts[0:10:2], parts[1:10:2], [(2, 4), (2, 4), (2, 4), (3, 5), (4, 4)], strict=True):
        x = F.max_pool2d(F.elu(norm(F.conv2d(x, conv.weight, conv.bias, padding=1), bn)), pool)
    # The norm in another order of operations: float32 rounding over five layers.
    torch.testing.assert_close(head(spectrogram), head.output(x.flatten(1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cls", [FCN5, CompactCNN])
@pytest.mark.parametrize("n_bins", [1, 2, 13, 40, 80, 96, 97, 128, 229, 257, 513])
def test_one_position_is_left_of_every_number_of_bins(cls, n_bins):
    freq_pools = cls.freq_pools_for(n_bins)
    assert len(freq_pools) == 5
    assert n_bins <= math.prod(freq_pools) <= 1.25 * n_bins  # the coarsest step between products is at 13 bins: 16
    head = cls(n_bins, 2, channels=(2, 2, 2, 2, 2))
    for n_frames in (1, 1280, 2559):
        assert map_shapes(head, n_frames)["conv5"] == (2, 1, 1)


def test_fcn5_takes_the_mean_of_the_positions_a_long_clip_leaves():
    found = maps(FCN5(96, 5, channels=(4, 4, 4, 4, 6)), 3 * 1280 + 5)
    assert found["conv5"].shape == (1, 6, 1, 3)
    torch.testing.assert_close(found["embedding"], found["conv5"].mean(-1).flatten(1))


def test_fcn5_pads_bins_on_both_sides():
    head = FCN5(90, 5, channels=(4, 4, 4, 4, 6), freq_pools=(2, 2, 2, 3, 4)).eval()
    spectrogram = torch.randn(2, 1, 90, 100)
    padded = head.stem(spectrogram)
    assert padded.shape == (2, 1, 96, 100)
    assert padded[..., 3:-3, :].equal(spectrogram)
    assert not padded[..., :3, :].any()
    assert not padded[..., -3:, :].any()


def test_fcn5_pools_a_short_clip_to_one_position_early():
    shapes = map_shapes(FCN5(96, 5, channels=(4, 4, 4, 4, 6)), 39)
    assert [shape[-1] for name, shape in shapes.items() if name != "embedding"] == [9, 2, 1, 1, 1]


def test_compact_cnn_maps_after_each_pooling_are_the_published():
    assert map_shapes(CompactCNN(96, 50), 1360) == {
        "conv1": (32, 48, 340),
        "conv2": (32, 16, 85),
        "conv3": (32, 8, 17),
        "conv4": (32, 4, 4),
        "conv5": (32, 1, 1),
        "embedding": (32,),
    }


def test_compact_cnn_counts():
    assert n_parameters(CompactCNN(96, 50)) == 39_282
    assert n_parameters(CompactCNN(96, 50).blocks) == 37_632
    assert n_parameters(CompactCNN(96, 50, channels=(65,) * 5)) == 156_960


def test_compact_cnn_features_are_identical_for_batch_1_and_12():
    head = CompactCNN(96, 50)
    clips = torch.randn(12, 1, 96, 50) * torch.linspace(0.1, 5, 12).reshape(-1, 1, 1, 1)
    head.train()(clips[:6])  # running statistics that are not those of the batch asked for
    head.eval()
    with torch.no_grad():
        together = head.forward_intermediates(clips)
        alone = [head.forward_intermediates(clip[None]) for clip in clips]
    for name, x in together.items():
        # The same sums in another order, of values up to some tens: float32 rounding over five layers.
        torch.testing.assert_close(torch.cat([m[name] for m in alone]), x, atol=1e-4, rtol=1e-5)
    assert not head.train().embedding(clips).allclose(together["embedding"], atol=0.01)  # batch statistics differ


def test_compact_cnn_pool_table_multiplies_to_its_bins():
    assert {n: math.prod(pools) for n, pools in COMPACT_FREQ_POOLS.items()} == {n: n for n in COMPACT_FREQ_POOLS}


@pytest.mark.parametrize(
    ("n_bins", "rows"),
    [(256, [128, 32, 8, 4, 1]), (24, [12, 6, 3, 1, 1]), (18, [9, 9, 3, 3, 1]), (80, [40, 20, 10, 5, 1])],
)
def test_compact_cnn_pools_the_published_numbers_of_bins_by_the_table_and_others_by_rule(n_bins, rows):
    shapes = map_shapes(CompactCNN(n_bins, 2, channels=(2, 2, 2, 2, 2)), 30)
    assert [shape[1] for name, shape in shapes.items() if name != "embedding"] == rows


def test_compact_cnn_draws_convolutions_as_published():
    torch.manual_seed(0)
    head = CompactCNN(96, 50)
    second = [m for m in head.modules() if isinstance(m, nn.Conv2d)][1]
    # 9,216 draws: the standard deviation of a normal one is known to under 1 %. Glorot's would be 0.059.
    assert second.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.03)
    assert second.weight.abs().max() > 3 * (2 / (9 * 32)) ** 0.5  # normal, not uniform, nor cut at two deviations
    assert head.output.weight.abs().max() <= (6 / (32 + 50)) ** 0.5  # Glorot's uniform


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freq_pools": (2, 2, 2, 2, 2)}, "freq_pools must multiply to at least n_bins=96, got (2, 2, 2, 2, 2) with a"),
        ({"time_pools": (2, 2)}, "time_pools must hold 5 numbers, one a convolution block, got (2, 2)"),
        ({"channels": (8,)}, "channels must hold 5 numbers, one a convolution block, got (8,)"),
        ({"conv_dropout": -0.1}, "conv_dropout must be at least 0 and below 1, got -0.1"),
    ],
)
@pytest.mark.parametrize("cls", [FCN5, CompactCNN])
def test_fcn5_refuses(cls, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(96, 50, **wrong)


# The four structures at equal size


@pytest.mark.parametrize(("cls", "budget", "widths", "count"), ROWS)
def test_widths_of_the_paper_give_its_counts(cls, budget, widths, count):
    with torch.device("meta"):  # sizes need no numbers
        head = cls(96, 50, **settings(cls, widths))
    assert widths_of(head) == widths
    assert n_parameters(head) == count
    # The paper's own rounding; K1C2 is known to come out low.
    assert abs(count / budget - 1) < (0.09 if cls is K1C2 else 0.033)


@pytest.mark.parametrize(
    ("cls", "budget", "widths"),
    # the least and the greatest of each structure; those between take seconds
    [pytest.param(*row, marks=[] if row[1] in (BUDGETS[0], BUDGETS[-1]) else pytest.mark.slow) for *row, _ in ROWS],
)
def test_budget_finds_the_widths_of_the_paper(cls, budget, widths):
    head = cls(96, 50, budget=budget)
    assert abs(n_parameters(head) - budget) <= 0.02 * budget
    if cls is not K1C2:  # whose published widths miss their budget
        assert all(abs(a - b) <= max(1, 0.015 * b) for a, b in zip(widths_of(head), widths, strict=True))
    # Layers the paper makes equal are equal.
    assert len(set(zip(widths_of(head), widths, strict=True))) == len(set(widths))


@pytest.mark.parametrize("cls", PAPER)
@pytest.mark.parametrize(("n_bins", "num_classes", "n_channels"), [(40, 2, 1), (80, 10, 4), (229, 500, 1)])
def test_budget_is_met_whatever_the_input_and_the_classes(cls, n_bins, num_classes, n_channels):
    head = cls(n_bins, num_classes, n_channels=n_channels)
    assert abs(n_parameters(head) - 100_000) <= 2_000
    assert head(torch.randn(2, n_channels, n_bins, 30)).shape == (2, num_classes)


@pytest.mark.parametrize("cls", [K1C2, K2C2, CRNN])
def test_budget_counts_the_channels_of_the_input(cls):
    head = cls(40, 5, n_channels=64)
    assert abs(n_parameters(head) - 100_000) <= 2_000


def test_budget_draws_no_random_number():
    torch.manual_seed(0)
    by_budget = K2C1(40, 5)
    torch.manual_seed(0)
    by_widths = K2C1(40, 5, **settings(K2C1, widths_of(by_budget)))
    for (name, a), b in zip(by_budget.named_parameters(), by_widths.parameters(), strict=True):
        assert a.device.type == "cpu"
        assert a.equal(b), name


@pytest.mark.parametrize("cls", PAPER)
def test_budget_below_every_width_names_the_least(cls):
    with pytest.raises(
        ValueError, match=r"^budget must be at least \d+, .* got 10: set budget to \d+ or more$"
    ) as caught:
        cls(96, 50, budget=10)
    least = int(re.search(r"set budget to (\d+)", str(caught.value))[1])
    assert n_parameters(cls(96, 50, budget=least)) == least
    convs = [part for part in cls(96, 50, budget=least).modules() if isinstance(part, nn.Conv2d)]
    assert {conv.out_channels for conv in convs} == {1}
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        cls(96, 50, budget=0)


def test_budget_between_two_widths_names_the_nearest():
    match = "budget=700 parameters cannot be met within 2% .* the nearest count is 649, .* set budget to 649"
    with pytest.raises(ValueError, match=match):
        K1C2(96, 50, budget=700)
    assert n_parameters(K1C2(96, 50, budget=649)) == 649


def test_equal_layers_are_rounded_apart_only_where_they_must_be():
    def build(widths):
        return nn.Sequential(*(nn.Linear(1000, width, bias=False) for width in widths))

    assert widths_for(6_000, (1, 1), build) == (3, 3)
    assert widths_for(7_000, (1, 1), build) in ((3, 4), (4, 3))
    with pytest.raises(ValueError, match=r"nearest count is 7000, with widths \((3, 4|4, 3)\)"):
        widths_for(7_500, (1, 1), build)


def test_k1c2_layers():
    assert map_shapes(K1C2(96, 50), 1366) == {
        "conv1": (15, 96, 341),
        "conv2": (15, 96, 68),
        "conv3": (31, 96, 8),
        "conv4": (31, 96, 1),
        "dense": (31,),
        "embedding": (31,),
    }


def test_k2c1_layers():
    assert map_shapes(K2C1(96, 50), 1366) == {
        "conv1": (44, 1, 341),
        "conv2": (44, 1, 85),
        "conv3": (44, 1, 21),
        "conv4": (88, 1, 4),
        "conv5": (88, 1, 1),
        "dense": (88,),
        "embedding": (88,),
    }


@pytest.mark.parametrize(
    ("cls", "widths", "pools"),
    [(K1C2, (3, 3, 5, 5, 7), (4, 5, 8, 8)), (K2C1, (3, 3, 3, 5, 5, 7), (4, 4, 4, 5, 4))],
)
def test_k1c2_and_k2c1_agree_with_their_layers_written_out(cls, widths, pools):
    head = randomise(cls(24, 6, **settings(cls, widths)))
    x = spectrogram = torch.randn(2, 1, 24, 1366)
    parts = layers(head)
    dense = 2 * len(pools)
    for conv, bn, pool in zip(parts[0:dense:2], parts[1:dense:2], pools, strict=True):
        x = F.conv2d(F.pad(x, (1, 2)), conv.weight, conv.bias)  # of a kernel of 4 one frame before, two after
        x = F.max_pool2d(F.elu(norm(x, bn)), (1, pool))
    x = x.flatten(1)
    for linear, bn in zip(parts[dense:-1:2], parts[dense + 1 : -1 : 2], strict=True):
        x = F.elu(norm(F.linear(x, linear.weight, linear.bias), bn))
    # The norm in another order of operations: float32 rounding over seven layers.
    torch.testing.assert_close(head(spectrogram), head.output(x), atol=1e-4, rtol=1e-4)


def test_k1c2_sees_each_bin_alone_until_the_dense_layer():
    head = K1C2(24, 6, **settings(K1C2, (3, 3, 5, 5, 7))).eval()
    spectrogram = torch.randn(1, 1, 24, 1366)
    changed = spectrogram.clone()
    changed[:, :, 10] += 1
    before, after = head.forward_intermediates(spectrogram), head.forward_intermediates(changed)
    differs = (before["conv4"] != after["conv4"]).any(dim=1).flatten()
    assert differs.nonzero().flatten().tolist() == [10]


@pytest.mark.parametrize("cls", [BeatboxCNN, CRNN, CompactCNN, FCN5, K1C2, K2C1, K2C2])
def test_one_clip_alone_in_its_batch_trains(cls):
    head = cls(24, 6, **SMALL[cls.__name__].settings).train()
    head(torch.randn(1, 1, 24, 50)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_k2c2_and_crnn_are_the_released_nets_at_other_widths():
    for cls, released, widths in ((K2C2, FCN5, (4, 8, 8, 12, 16)), (CRNN, MusicCRNN, (6, 12, 12, 12, 6))):
        given = settings(cls, widths)
        torch.manual_seed(0)
        head = cls(96, 50, **given).eval()
        del given["budget"]
        torch.manual_seed(0)
        other = released(96, 50, **given).eval()
        spectrogram = torch.randn(2, 1, 96, 200)
        assert head(spectrogram).equal(other(spectrogram))


# The net of the question about kernels


def test_beatbox_cnn_layers_and_count():
    head = BeatboxCNN(64, 5)
    assert map_shapes(head, 64) == {
        "conv1": (64, 32, 32),
        "conv2": (128, 16, 16),
        "conv3": (256, 8, 8),
        "embedding": (256,),
    }
    assert n_parameters(head) == 1_604_032 + 256 * 5 + 5


def test_beatbox_cnn_agrees_with_its_layers_written_out():
    head = randomise(BeatboxCNN(64, 5, channels=(4, 6, 8)))
    x = spectrogram = torch.randn(2, 1, 64, 64)
    weights = layers(head)[:-1]
    for first, second in zip(weights[0::2], weights[1::2], strict=True):
        for conv in (first, second):
            x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding="same"))
        x = F.max_pool2d(x, 2)
    x = x.flatten(2).mean(-1) + x.flatten(2).max(-1).values
    torch.testing.assert_close(head(spectrogram), head.output(x), atol=1e-4, rtol=1e-4)  # float32, six layers


def test_beatbox_cnn_kernels_reach_over_bins_or_over_frames_at_the_same_number_of_weights():
    tall = BeatboxCNN(64, 5, kernel_sizes=((9, 3), (9, 3), 3), channels=(4, 6, 8)).eval()
    wide = BeatboxCNN(64, 5, kernel_sizes=((3, 9), (3, 9), 3), channels=(4, 6, 8)).eval()
    assert n_parameters(tall) == n_parameters(wide)
    spectrogram = torch.zeros(1, 1, 64, 64)
    clicked = spectrogram.clone()
    clicked[..., 32, 32] = 1
    for head, reach in ((tall, (9, 3)), (wide, (3, 9))):
        first = head.blocks.conv1[:2]  # padding and the first convolution
        touched = (first(clicked) != first(spectrogram)).any(dim=1)[0]
        assert (touched.any(dim=1).sum().item(), touched.any(dim=0).sum().item()) == reach


def test_beatbox_cnn_strides_and_pools_of_each_block():
    head = BeatboxCNN(64, 5, channels=(4, 6, 8), strides=((1, 2), 2, 1), pools=((4, 1), 1, (2, 3)))
    assert map_shapes(head, 61) == {
        "conv1": (4, 16, 31),
        "conv2": (6, 8, 16),
        "conv3": (8, 4, 6),
        "embedding": (8,),
    }


def test_beatbox_cnn_kernels_from_the_command_line():
    parser = ArgumentParser()
    parser.add_argument("--head", type=Callable[[int, int], Head])
    options = ["--head=audiocls.heads.BeatboxCNN", "--head.kernel_sizes=[[3, 9], [3, 9], 3]"]
    head = parser.instantiate(parser.parse_args(options)).head(64, 5)
    assert [tuple(m.kernel_size) for m in head.modules() if isinstance(m, nn.Conv2d)] == [(3, 9)] * 4 + [(3, 3)] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel_sizes": (5, 5)}, "kernel_sizes must have 3 entries, one for each of channels, got (5, 5)"),
        ({"pools": (2, 2, 2, 2)}, "pools must have 3 entries, one for each of channels, got (2, 2, 2, 2)"),
        ({"strides": (1, (0, 1), 1)}, "strides must be at least 1, got 0"),
        ({"channels": ()}, "channels must be at least 1, got 0"),
    ],
)
def test_beatbox_cnn_refuses(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BeatboxCNN(64, 5, **wrong)
