"""Networks from a spectrogram to logits, each built as `head(n_bins, num_classes)` and swapped for another in YAML."""

from audiocls.heads.base import Head
from audiocls.heads.conv_net import ConvNet
from audiocls.heads.keyword_cnn import KeywordCNN
from audiocls.heads.music_crnn import MusicCRNN

__all__ = ["ConvNet", "Head", "KeywordCNN", "MusicCRNN"]
