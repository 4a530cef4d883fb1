"""The parts heads are built of."""

import pytest
import torch
from torch import nn

from audiocls.heads.blocks import (
    BatchNormMaps,
    BatchNormVectors,
    PadTo,
    Recurrent,
    conv_block,
    initialise,
    same_padding,
)
from audiocls.heads.map_pools import AdaptiveFrames, WholeWindows


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        ({}, (5, 7), (5, 7)),
        ({"n_bins": 46, "n_frames": 46}, (40, 1), (46, 46)),
        ({"n_bins": 46, "n_frames": 46}, (50, 47), (50, 47)),
        ({"frame_multiple": 96}, (4, 1), (4, 96)),
        ({"frame_multiple": 96}, (4, 96), (4, 96)),
        ({"frame_multiple": 96}, (4, 97), (4, 192)),
        ({"n_frames": 10, "frame_multiple": 4}, (4, 3), (4, 12)),
    ],
)
def test_pad_to_keeps_what_there_is_and_adds_zeros(settings, size, expected):
    out = PadTo(**settings)(torch.ones(1, 1, *size))
    assert out.shape[-2:] == expected
    assert out.sum() == size[0] * size[1]
    bins, frames = (torch.nonzero(out[0, 0].any(dim=axis))[0].item() for axis in (1, 0))
    assert (bins, frames) == ((expected[0] - size[0]) // 2, (expected[1] - size[1]) // 2)


def test_pool_of_a_block_never_shrinks_an_axis_below_one_nor_drops_its_end():
    block = conv_block(1, 1, activation=nn.Identity(), kernel_size=1, norm=False, pool=(2, 4))
    nn.init.ones_(block[0].weight)
    nn.init.zeros_(block[0].bias)
    assert block(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)
    ramp = torch.arange(9.0).reshape(1, 1, 1, 9)
    assert block(ramp).flatten().tolist() == [3, 7, 8]


def test_adaptive_frames_passes_the_right_length_untouched_and_averages_others():
    x = torch.randn(1, 2, 3, 4)
    assert AdaptiveFrames(4)(x) is x
    doubled = x.repeat_interleave(2, dim=-1)
    torch.testing.assert_close(AdaptiveFrames(4)(doubled), x)
    torch.testing.assert_close(AdaptiveFrames(1)(x), x.mean(-1, keepdim=True))


def test_recurrent_is_causal_in_time():
    layer = Recurrent(6, 4)
    x = torch.randn(1, 6, 10)
    changed = x.clone()
    changed[..., 7:] += 1
    before, after = layer(x), layer(changed)
    assert before[..., :7].equal(after[..., :7])
    assert not before[..., -1].equal(after[..., -1])


def test_initialise_draws_glorots_uniform_and_orthogonal_recurrence():
    torch.manual_seed(0)
    conv, gru = nn.Conv2d(16, 32, 3), nn.GRU(24, 8)
    initialise(conv)
    initialise(gru)
    bound = (6 / (9 * (16 + 32))) ** 0.5  # Glorot and Bengio, eq. 16
    assert conv.weight.abs().max() <= bound
    # 4608 draws: the standard deviation of a uniform one is bound / sqrt(3), known to a few per cent.
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    recurrent = gru.weight_hh_l0
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(8), atol=1e-5, rtol=0)  # float32 QR
    assert not any(p.any() for name, p in gru.named_parameters() if "bias" in name)


def test_whole_windows_drop_the_end_and_take_a_short_axis_whole():
    ramp = torch.arange(11.0).reshape(1, 1, 1, 11)
    assert WholeWindows((2, 4))(ramp).flatten().tolist() == [3, 7]
    assert WholeWindows((2, 4))(ramp[..., :3]).flatten().tolist() == [2]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # what it is for
@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 4), (5, 2), (4, 9)])
def test_same_padding_is_that_of_a_convolution(kernel_size):
    x, weight = torch.randn(1, 1, 11, 13), torch.randn(2, 1, *kernel_size)
    expected = torch.nn.functional.conv2d(x, weight, padding="same")
    torch.testing.assert_close(torch.nn.functional.conv2d(same_padding(kernel_size)(x), weight), expected)


@pytest.mark.parametrize(
    ("norm", "plain", "shape"),
    [(BatchNormVectors, nn.BatchNorm1d, (5, 3)), (BatchNormMaps, nn.BatchNorm2d, (5, 3, 1, 1))],
)
def test_norm_of_one_value_a_feature_is_by_running_statistics_which_stay(norm, plain, shape):
    torch.manual_seed(0)
    layer, plain = norm(3).train(), plain(3).train()
    x = torch.randn(shape) * 3 + 2
    assert layer(x).equal(plain(x))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    alone = layer(x[:1])
    assert all(value.equal(before[name]) for name, value in layer.state_dict().items())
    assert alone.equal(plain.eval()(x[:1]))


def test_norm_of_one_clip_of_several_positions_is_by_the_clip():
    x = torch.randn(1, 3, 2, 4) * 3 + 2
    assert BatchNormMaps(3).train()(x).equal(nn.BatchNorm2d(3).train()(x))
