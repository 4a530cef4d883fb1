"""The Music Tagging Transformer: shallow residual convolutions, then self-attention over time.

Published for 50 tags on decibel mel spectra of 128 bins x 431 frames (10 s at 22.05 kHz, hop 512). The published net
begins with one norm of the whole map, which here is the front-end's (`BatchNormMap`, 2 parameters). Its training from
unlabelled music by a noisy student is left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import PadTo, Residual


class MusicTaggingTransformer(Head):
    """Three residual convolutions make a token of every fourth frame; four layers of attention sum the clip up in one.

    | block      | what                                                          | map at 128 bins x 431 frames |
    |------------|---------------------------------------------------------------|------------------------------|
    | conv1      | residual pair of conv 3 x 3, max pool 2 x 2                   | 128 x 64 x 215               |
    | conv2      | the same                                                      | 128 x 32 x 107               |
    | conv3      | the same, max pool 2 x 1                                      | 128 x 16 x 107               |
    | tokens     | dense over channels and freq, class token in front, positions | 256 x 108                    |
    |            | added, dropout 0.1                                            |                              |
    | attention1 | norm, 8 heads of attention, dropout 0.1, added; norm, dense   | 256 x 108                    |
    |            | 1024, GELU, dropout 0.1, dense 256, dropout 0.1, added        |                              |
    | ...        | the same, to attention4                                       | 256 x 108                    |
    | embedding  | the class token, norm                                         | 256                          |
    | output     | dense                                                         | 50                           |

    Other lengths. A clip of up to `n_positions` tokens takes the first positions of the table, as published; for a
    longer one the table is stretched, by linear interpolation, to its length. Set `n_positions` to the tokens of a
    training clip (frames / 4) where longer ones are to be judged: positions that training never reaches stay random.
    Pooling drops incomplete windows, as published; a map below 8 bins or 4 frames is padded with zeros on both sides.

    4,567,730 parameters at that size, 4,567,732 with the front-end's norm; with embedding_dim 64 (the published
    student) 1,108,850. Weights are drawn by `audiocls.heads.blocks.initialise`, Glorot's draw, positions and class
    token from the normal distribution; the public implementation draws its layers as torch does.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of the convolutions.
        embedding_dim: features of a token; a multiple of `n_heads`.
        n_layers: layers of attention.
        n_heads: heads of each.
        n_positions: tokens that have a learnt position, beside the class token.
        dropout: share set to zero while training, of the tokens and in each layer where the table says.
    Raises:
        ValueError: if a count is below one, `dropout` outside [0, 1), or `n_heads` does not divide `embedding_dim`.
    Source: Won et al. 2021, arXiv:2111.13457, and minzwon/semi-supervised-music-tagging-transformer, `src/models.py`.

    >>> head = MusicTaggingTransformer(128, 50)
    >>> sum(p.numel() for p in head.parameters())
    4567730
    >>> head(torch.randn(2, 1, 128, 100)).shape
    torch.Size([2, 50])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: int = 128,
        embedding_dim: int = 256,
        n_layers: int = 4,
        n_heads: int = 8,
        n_positions: int = 512,
        dropout: float = 0.1,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=channels, embedding_dim=embedding_dim)
        check_counts(n_layers=n_layers, n_heads=n_heads, n_positions=n_positions)
        check_share(dropout=dropout)
        if embedding_dim % n_heads:
            raise ValueError(
                f"embedding_dim must be a multiple of n_heads={n_heads}, got {embedding_dim}: "
                f"take {n_heads * -(-embedding_dim // n_heads)}, or other heads"
            )
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                "conv1": Residual(n_channels, channels, pool=(2, 2)),
                "conv2": Residual(channels, channels, pool=(2, 2)),
                "conv3": Residual(channels, channels, pool=(2, 1)),
                "tokens": _Tokens(
                    max(n_bins // 8, 1) * channels, embedding_dim, n_positions=n_positions, dropout=dropout
                ),
                **{
                    f"attention{i}": _Layer(embedding_dim, n_heads=n_heads, dropout=dropout)
                    for i in range(1, n_layers + 1)
                },
                "embedding": nn.Sequential(_FirstFrame(), nn.LayerNorm(embedding_dim)),
            },
            embedding_dim=embedding_dim,
            stem=PadTo(n_bins=8, n_frames=4),
        )


class _Tokens(nn.Module):
    """A token a frame behind a class token, each with its position added."""

    def __init__(self, in_features: int, n_features: int, *, n_positions: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, n_features)
        self.class_token = nn.Parameter(torch.randn(n_features))
        self.positions = nn.Parameter(torch.randn(n_features, 1 + n_positions))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channels, freq, frames) to (batch, n_features, 1 + frames)."""
        tokens = F.conv1d(x.flatten(1, 2), self.dense.weight[..., None], self.dense.bias)
        first = self.class_token[:, None].expand(x.shape[0], -1, 1)
        return self.dropout(torch.cat([first, tokens], dim=-1) + self._positions(tokens.shape[-1]))

    def _positions(self, n_tokens: int) -> Tensor:
        """Shape (n_features, 1 + n_tokens), the class token's first."""
        n = self.positions.shape[-1] - 1
        steps = max(n_tokens, max(n, 2)) - 1
        place = torch.arange(n_tokens, device=self.positions.device) * (n - 1)  # over steps: where in the table
        whole = place // steps
        share = ((place - whole * steps) / steps).to(self.positions.dtype)  # ONNX takes no remainder by a free length
        low, high = self.positions[:, 1 + whole], self.positions[:, (2 + whole).clamp(max=n)]
        tokens = torch.lerp(low, high, share)
        return torch.cat([self.positions[:, :1], tokens], dim=-1)


class _Layer(nn.Module):
    """Self-attention, then a dense layer and back, each behind a norm and added to what came in."""

    def __init__(self, n_features: int, *, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(n_features), _SelfAttention(n_features, n_heads=n_heads), nn.Dropout(dropout)
        )
        self.dense = nn.Sequential(
            nn.LayerNorm(n_features),
            nn.Linear(n_features, 4 * n_features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * n_features, n_features),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, n_features, frames), kept."""
        x = x.transpose(1, 2)
        x = x + self.attention(x)
        return (x + self.dense(x)).transpose(1, 2)


class _SelfAttention(nn.Module):
    """Scaled dot products of every token with every other, in heads; queries, keys and values have no bias."""

    def __init__(self, n_features: int, *, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.queries_keys_values = nn.Linear(n_features, 3 * n_features, bias=False)
        self.out = nn.Linear(n_features, n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, tokens, n_features), kept."""
        # (batch, tokens, 3, heads, features) to three of (batch, heads, tokens, features)
        query, key, value = self.queries_keys_values(x).unflatten(-1, (3, self.n_heads, -1)).movedim(1, 3).unbind(1)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).flatten(2))


class _FirstFrame(nn.Module):
    """The first frame of a map: (batch, features, frames) to (batch, features)."""

    def forward(self, x: Tensor) -> Tensor:
        """Take the frame at the beginning."""
        return x[..., 0]
