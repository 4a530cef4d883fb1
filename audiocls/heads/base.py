"""What every head is: named blocks run in order, a vector at their end, one linear layer on it, or one a frame.

A new head builds its blocks and says how long the vector is; running them, naming them, checking the input and filling
the weights happens here, once. Logits leave as they are: sigmoid and softmax belong to the loss and to the metrics.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from audiocls.heads.blocks import initialise
from audiocls.heads.class_attention import ClassAttention, EachFrame, each_frame


class Head(nn.Module):
    """From a spectrogram to logits through named blocks, for clips of any length from one frame up.

    A subclass is built as `head(n_bins, num_classes)` plus its own keywords and hands its parts to this constructor.

    Args:
        n_bins: bins of the spectrogram, the front-end's `n_bins`.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        blocks: the body, by name and in order. The last is named "embedding" and gives (batch, embedding_dim); maps
            of those before it have their features second and, where they keep time, time last.
        embedding_dim: length of the vector the last block gives.
        stem: what is done to the spectrogram before the first block (normalisation, padding); not a layer of its own.
        frame_step: frames of the spectrogram for one frame of the map before "embedding", of a head that can judge
            such a frame by itself (`frame_logits`); None of one that cannot.
        class_attention: whether such frames are judged one by one, and each class weighs the verdicts
            (`audiocls.heads.class_attention.ClassAttention`); the embedding then keeps time.
    Raises:
        ValueError: if a count is below one, the last block is not named "embedding", or `class_attention` is asked of
            a head without a `frame_step`.
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int,
        blocks: Mapping[str, nn.Module],
        embedding_dim: int,
        stem: nn.Module | None = None,
        frame_step: int | None = None,
        class_attention: bool = False,
    ) -> None:
        super().__init__()
        check_counts(n_bins=n_bins, num_classes=num_classes, n_channels=n_channels, embedding_dim=embedding_dim)
        if not blocks or list(blocks)[-1] != "embedding":
            raise ValueError(f'blocks must end with one named "embedding", got {list(blocks)}: rename the last block')
        if class_attention and frame_step is None:
            raise ValueError(
                f"class_attention weighs verdicts on frames, and {type(self).__name__} cannot judge a frame by itself: "
                "leave it out, or take a head whose frame_step is not None"
            )
        self.n_bins = n_bins
        self.n_channels = n_channels
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.frame_step = frame_step
        self.stem = stem or nn.Identity()
        blocks = OrderedDict(blocks)
        if class_attention:
            blocks["embedding"] = EachFrame(blocks["embedding"])
        self.blocks = nn.Sequential(blocks)
        self.output = (ClassAttention if class_attention else nn.Linear)(embedding_dim, num_classes)
        self.apply(initialise)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the blocks in the order they run; the last is "embedding"."""
        return tuple(name for name, _ in self.blocks.named_children())

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Logits of a spectrogram.

        Args:
            spectrogram: shape (batch, channels, freq, frames).
        Returns:
            Logits, shape (batch, num_classes).
        Raises:
            ValueError: if channels or bins are not those the head was built for, or there is no frame.
        """
        return self.output(self.embedding(spectrogram))

    def embedding(self, spectrogram: Tensor) -> Tensor:
        """The input of the last layer, shape (batch, embedding_dim): `head.output(head.embedding(x))` is `head(x)`.

        With `class_attention` it is of frames, shape (batch, embedding_dim, frames).
        """
        return self.blocks(self._enter(spectrogram))

    def forward_intermediates(self, spectrogram: Tensor) -> dict[str, Tensor]:
        """Every block's map by its name, in order, the last being the embedding; logits are not among them.

        Args:
            spectrogram: shape (batch, channels, freq, frames).
        Returns:
            Maps of shape (batch, features, freq, frames), (batch, features, frames) or (batch, features); the keys are
            `layer_names`.
        Raises:
            ValueError: as `forward` does.
        """
        x = self._enter(spectrogram)
        maps = {}
        for name, block in self.blocks.named_children():
            x = maps[name] = block(x)
        return maps

    def frame_logits(self, spectrogram: Tensor) -> Tensor:
        """Logits of each frame of the map before "embedding", as if it were the only one: what was heard when.

        They come at the rate of that map, one for `frame_step` frames of the spectrogram. Of a clip that has one such
        frame they are the logits.

        Args:
            spectrogram: shape (batch, channels, freq, frames).
        Returns:
            Logits, shape (batch, num_classes, frames / frame_step), rounded as the head rounds.
        Raises:
            ValueError: if the head cannot judge a frame by itself (`frame_step` is None), or as `forward` does.
        """
        if self.frame_step is None:
            raise ValueError(
                f"{type(self).__name__} cannot judge a frame by itself, so it has no frame_logits: take a head whose "
                "frame_step is not None, such as ConvNet or CNN14"
            )
        frames = self.blocks[:-1](self._enter(spectrogram))
        return each_frame(lambda frame: self.output(self.blocks[-1](frame)), frames)

    def _enter(self, spectrogram: Tensor) -> Tensor:
        self._check(spectrogram)
        return self.stem(spectrogram)

    def _check(self, spectrogram: Tensor) -> None:
        if spectrogram.ndim != 4:
            raise ValueError(
                f"spectrogram must have the axes (batch, channels, freq, frames), got shape {tuple(spectrogram.shape)}"
            )
        _, n_channels, n_bins, n_frames = spectrogram.shape
        if n_channels != self.n_channels:
            raise ValueError(
                f"spectrogram has {n_channels} channels but this head was built for n_channels={self.n_channels}: "
                f"build it with n_channels={n_channels}, or mix the waveform down"
            )
        if n_bins != self.n_bins:
            raise ValueError(
                f"spectrogram has {n_bins} bins but this head was built for n_bins={self.n_bins}: "
                f"build it with n_bins={n_bins}, the front-end's n_bins"
            )
        if n_frames < 1:
            raise ValueError("spectrogram must have at least one frame, got 0: give a longer waveform")


def check_counts(**counts: int) -> None:
    """Refuse a count below one, naming it.

    >>> check_counts(num_classes=0)
    Traceback (most recent call last):
    ValueError: num_classes must be at least 1, got 0
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_share(**shares: float) -> None:
    """Refuse a dropout outside [0, 1), naming it.

    >>> check_share(dropout=1.5)
    Traceback (most recent call last):
    ValueError: dropout must be at least 0 and below 1, got 1.5
    """
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
