"""Decision-level attention against its formula, and what the head around it promises of frames."""

import pytest
import torch
import torch.nn.functional as F

from audiocls.heads import CNN6, Head
from audiocls.heads.class_attention import ClassAttention

N_FEATURES, N_CLASSES = 6, 4


def layer(scale: float = 1.0) -> ClassAttention:
    torch.manual_seed(0)
    made = ClassAttention(N_FEATURES, N_CLASSES)
    for parameter in made.parameters():
        parameter.data.normal_(std=scale)
    return made


def frames(n_frames: int, n_clips: int = 3) -> torch.Tensor:
    return torch.randn(n_clips, N_FEATURES, n_frames, generator=torch.Generator().manual_seed(n_frames))


@pytest.mark.parametrize("n_frames", [1, 2, 31])
def test_probability_of_a_clip_is_the_published_sum(n_frames):
    pool, x = layer().double(), frames(n_frames).double()
    attention = F.conv1d(x, pool.attention.weight[..., None]).softmax(dim=-1)
    verdicts = F.conv1d(x, pool.weight[..., None], pool.bias).sigmoid()
    torch.testing.assert_close(pool(x).sigmoid(), (attention * verdicts).sum(-1), atol=1e-12, rtol=0)
    torch.testing.assert_close(pool.weights(x), attention)
    torch.testing.assert_close(pool.weights(x).sum(-1), torch.ones(3, N_CLASSES).double())


def test_logit_lies_between_those_of_the_frames_and_is_that_of_one():
    pool, x = layer(), frames(12)
    verdicts = F.conv1d(x, pool.weight[..., None], pool.bias)
    assert (verdicts.amin(-1) < pool(x)).all()
    assert (pool(x) < verdicts.amax(-1)).all()
    torch.testing.assert_close(pool(x[..., :1]), verdicts[..., 0])
    torch.testing.assert_close(pool(x[..., :1].expand(-1, -1, 9)), verdicts[..., 0])


def test_classes_choose_different_frames():
    pool = ClassAttention(2, 2)
    pool.weight.data, pool.bias.data = torch.eye(2), torch.zeros(2)
    pool.attention.weight.data = 50 * torch.eye(2)
    x = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 0.0, 3.0]]])  # class 0 sounds in the first frame, class 1 in the last
    torch.testing.assert_close(pool(x), torch.tensor([[5.0, 3.0]]))
    assert pool.weights(x).argmax(-1).tolist() == [[0, 2]]


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_neither_value_nor_gradient_leaves_the_finite_numbers(scale):
    pool, x = layer(scale), frames(7).requires_grad_()
    logits = pool(x)
    assert logits.isfinite().all()
    assert logits.abs().max() > scale / 10  # nothing is clamped
    F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)).backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in (x, *pool.parameters()))


def test_neither_order_nor_repetition_of_frames_changes_it():
    pool, x = layer(), frames(12)
    for other in (x[..., torch.randperm(12)], x.repeat_interleave(3, dim=-1), x.repeat(1, 1, 2)):
        torch.testing.assert_close(pool(other), pool(x), atol=1e-5, rtol=1e-5)  # float32 sums in another order


def test_half_precision_sums_in_float32():
    pool, x = layer().bfloat16(), frames(500).bfloat16()
    expected = pool.float()(x.float())
    assert pool.bfloat16()(x).dtype == torch.bfloat16
    assert (pool(x).float() - expected).abs().max() < 0.02 * expected.abs().max()  # 2^-8 of each linear layer's output


def test_clip_is_judged_by_the_verdicts_on_its_frames():
    """As published: sum(att x cla) over the frames, whose verdicts are those of `frame_logits`."""
    torch.manual_seed(0)
    head = CNN6(40, N_CLASSES, channels=(4, 4, 4, 6), class_attention=True).eval()
    spectrogram = torch.randn(2, 1, 40, 16 * 7)
    embedding = head.embedding(spectrogram)
    assert embedding.shape == (2, 6, 7)
    assert isinstance(head.output, ClassAttention)
    expected = (head.output.weights(embedding) * head.frame_logits(spectrogram).sigmoid()).sum(-1)
    torch.testing.assert_close(head(spectrogram).sigmoid(), expected, atol=1e-6, rtol=1e-5)


def test_its_verdict_on_a_frame_is_that_of_the_head_without_it():
    torch.manual_seed(0)
    plain = CNN6(40, N_CLASSES, channels=(4, 4, 4, 6)).eval()
    head = CNN6(40, N_CLASSES, channels=(4, 4, 4, 6), class_attention=True).eval()
    weights = {name.replace("embedding.", "embedding.block."): x for name, x in plain.state_dict().items()}
    assert head.load_state_dict(weights, strict=False).missing_keys == ["output.attention.weight"]
    spectrogram = torch.randn(2, 1, 40, 16 * 7)
    torch.testing.assert_close(head.frame_logits(spectrogram), plain.frame_logits(spectrogram))


def test_head_that_cannot_judge_a_frame_has_none():
    with pytest.raises(ValueError, match="class_attention weighs verdicts on frames, and Head cannot judge a frame by"):
        Head(40, 5, n_channels=1, blocks={"embedding": torch.nn.Identity()}, embedding_dim=1, class_attention=True)
