"""What every head promises, asked of all of them."""

import inspect
import io
import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from audiocls import heads
from audiocls.heads import Head
from audiocls.heads.class_attention import ClassAttention
from tests.heads.small import SMALL, skip_without_library

N_CLASSES = 5


def attending(cls):
    """The head with `class_attention`, in all else the same."""

    def build(self, n_bins, num_classes, **settings):
        cls.__init__(self, n_bins, num_classes, **settings, class_attention=True)

    same = {"__init__": build, "__doc__": cls.__doc__, "__signature__": inspect.signature(cls)}
    return type(cls.__name__, (cls,), same | {"__qualname__": f"{cls.__name__}-class_attention"})


PLAIN = [getattr(heads, name) for name in heads.__all__ if name != "Head"]
HEADS = PLAIN + [attending(cls) for cls in PLAIN if "class_attention" in inspect.signature(cls).parameters]


def build(cls, n_bins=None, **settings) -> Head:
    torch.manual_seed(0)
    small = SMALL[cls.__name__]
    return cls(n_bins or small.n_bins, N_CLASSES, **{**small.settings, **settings})


def spectrograms(head, n_frames, n_clips=4):
    return torch.randn(n_clips, head.n_channels, head.n_bins, n_frames)


@pytest.fixture(params=HEADS, ids=lambda cls: cls.__qualname__)
def cls(request):
    skip_without_library(request.param.__name__)
    return request.param


@torch.no_grad()
def test_any_length_and_channels(cls):
    for n_channels, lengths in ((1, (1, 2, 45, 47, 101, 193)), (2, (1, 47))):
        head = build(cls, n_channels=n_channels).eval()
        for n_frames in lengths:
            logits = head(spectrograms(head, n_frames, 3))
            assert logits.shape == (3, N_CLASSES)
            assert logits.isfinite().all(), n_frames


@torch.no_grad()
def test_any_number_of_bins(cls):
    for n_bins in SMALL[cls.__name__].any_bins:
        head = build(cls, n_bins).eval()
        maps = head.forward_intermediates(spectrograms(head, 20, 2))
        assert all(0 not in x.shape and x.isfinite().all() for x in maps.values()), n_bins


@pytest.mark.parametrize("n_clips", [1, 2])
def test_one_frame_can_be_trained_on(cls, n_clips):
    head = build(cls)
    head(spectrograms(head, 1, n_clips)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_every_parameter_gets_a_gradient(cls):
    # In evaluation mode: in training, the batch norm behind a convolution takes its bias, and the gradient, away.
    head = build(cls).eval()
    head(spectrograms(head, 100)).pow(2).sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_clip_in_a_batch_equals_clip_alone(cls):
    head = build(cls).eval()
    batch = spectrograms(head, 61)
    alone = torch.cat([head(clip[None]) for clip in batch])
    # float32 sums of some hundred products in another order: a few units of 1e-7 of values near 1, over a few layers.
    torch.testing.assert_close(head(batch), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_layer_names_are_the_maps_in_order(cls):
    head = build(cls).eval()
    maps = head.forward_intermediates(spectrograms(head, 61, 2))
    assert tuple(maps) == head.layer_names
    assert head.layer_names[-1] == "embedding"
    assert all(len(x) == 2 for x in maps.values())


@torch.no_grad()
def test_embedding_feeds_the_last_layer(cls):
    head = build(cls).eval()
    spectrogram = spectrograms(head, 61, 2)
    embedding = head.embedding(spectrogram)
    assert embedding.shape[:2] == (2, head.embedding_dim)
    assert embedding.ndim == (3 if isinstance(head.output, ClassAttention) else 2)
    assert head.output(embedding).equal(head(spectrogram))
    assert head.forward_intermediates(spectrogram)["embedding"].equal(embedding)


@pytest.mark.parametrize("n_frames", [1, 61, 130])
@torch.no_grad()
def test_frame_logits(cls, n_frames):
    head = build(cls).eval()
    spectrogram = spectrograms(head, n_frames, 2)
    if head.frame_step is None:
        assert "class_attention" not in inspect.signature(cls).parameters
        with pytest.raises(ValueError, match=f"{cls.__name__} cannot judge a frame by itself, so it has no frame_log"):
            head.frame_logits(spectrogram)
        return
    assert "class_attention" in inspect.signature(cls).parameters
    logits = head.frame_logits(spectrogram)
    last = list(head.forward_intermediates(spectrogram).values())[-2]
    assert logits.shape == (2, N_CLASSES, last.shape[-1])
    assert abs(last.shape[-1] - n_frames / head.frame_step) <= 1
    for i in range(last.shape[-1]):
        alone = head.output(head.blocks[-1](last[..., i : i + 1]))
        torch.testing.assert_close(logits[..., i], alone, atol=1e-5, rtol=1e-5)  # float32, in another batch
    if last.shape[-1] == 1:
        torch.testing.assert_close(logits[..., 0], head(spectrogram), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_state_dict_round_trip(cls):
    first, second = build(cls), build(cls)
    for p in second.parameters():
        p.data.normal_()
    first(spectrograms(first, 16))  # moves the running statistics, which must travel too
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    spectrogram = spectrograms(first, 30, 2)
    assert first.eval()(spectrogram).equal(second.eval()(spectrogram))


@torch.no_grad()
def test_float64_agrees_with_float32(cls):
    head = build(cls).eval()
    spectrogram = spectrograms(head, 61, 2)
    single = head(spectrogram)
    double = head.to(torch.float64)(spectrogram.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-5)  # float32 rounding over a few layers


# The dtype's rounding, 2^-8 and 2^-11, of each layer's input and output, over up to twenty layers with norms between.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision_is_near_float32_and_trains(cls, dtype, tolerance):
    head = build(cls)
    for part in head.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    spectrogram, target = spectrograms(head, 16), torch.tensor([0, 1, 2, 3])
    expected = head(spectrogram)
    with torch.autocast("cpu", dtype=dtype):
        logits = head(spectrogram)
        loss = cross_entropy(logits, target)
    assert logits.dtype == dtype
    assert (logits - expected).abs().max() <= tolerance * expected.abs().max()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    torch.nn.utils.clip_grad_norm_(head.parameters(), 1e-3)  # a step so short that the loss can but fall
    torch.optim.SGD(head.parameters(), lr=1.0).step()
    assert cross_entropy(head(spectrogram), target) < cross_entropy(expected, target)


def test_same_seed_same_weights_with_zero_biases(cls):
    first, second = build(cls), build(cls)
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not any(p.any() for name, p in first.named_parameters() if "bias" in name)


@torch.no_grad()
def test_dropout_acts_in_training_only(cls):
    head = build(cls)
    spectrogram = spectrograms(head, 16, 8)
    assert not head.train()(spectrogram).equal(head(spectrogram))
    assert head.eval()(spectrogram).equal(head(spectrogram))


def test_wrong_spectrogram(cls):
    head = build(cls)
    n = head.n_bins
    said = {
        (2, 1, n + 1, 10): f"{n + 1} bins but this head was built for n_bins={n}: build it with n_bins={n + 1}",
        (2, 2, n, 10): "2 channels but this head was built for n_channels=1: build it with n_channels=2",
        (2, 1, n, 0): "spectrogram must have at least one frame, got 0",
        (2, n, 10): f"spectrogram must have the axes (batch, channels, freq, frames), got shape (2, {n}, 10)",
    }
    for shape, message in said.items():
        for enter in (head, head.embedding, head.forward_intermediates):
            with pytest.raises(ValueError, match=re.escape(message)):
                enter(torch.zeros(shape))


def test_wrong_settings(cls):
    small = SMALL[cls.__name__]
    wrong = [
        ({"n_bins": 0}, "n_bins must be at least 1, got 0"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"n_channels": 0}, "n_channels must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        *small.wrong,
    ]
    for settings, message in wrong:
        with pytest.raises(ValueError, match=re.escape(message)), torch.device("meta"):
            cls(**{"n_bins": small.n_bins, "num_classes": 5, **settings})


def test_settings_are_explained_for_the_command_line(cls):
    arguments = cls.__doc__.partition("Args:")[2].partition("Raises:")[0]
    for name, parameter in list(inspect.signature(cls).parameters.items())[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert re.search(rf"^ +{name}: ", arguments, re.MULTILINE), name


def test_body_must_end_with_the_embedding():
    with pytest.raises(ValueError, match=r'blocks must end with one named "embedding", got \[\'conv1\'\]'):
        Head(40, 5, n_channels=1, blocks={"conv1": torch.nn.Identity()}, embedding_dim=1)
