"""Networks from a spectrogram to logits, each built as `head(n_bins, num_classes)` and swapped for another in YAML."""

from audiocls.heads.base import Head
from audiocls.heads.beatbox_cnn import BeatboxCNN
from audiocls.heads.choi2017 import CRNN, K1C2, K2C1, K2C2
from audiocls.heads.conv_net import ConvNet
from audiocls.heads.fcn import FCN5, CompactCNN
from audiocls.heads.keyword_cnn import KeywordCNN
from audiocls.heads.moments import Moments
from audiocls.heads.music_crnn import MusicCRNN
from audiocls.heads.music_transformer import MusicTaggingTransformer
from audiocls.heads.musicnn import Musicnn
from audiocls.heads.panns import CNN6, CNN10, CNN14
from audiocls.heads.resnet import ResNet
from audiocls.heads.sample_cnn import SampleCNN
from audiocls.heads.sb_cnn import SBCNN
from audiocls.heads.short_chunk import HarmonicCNN, ShortChunkCNN
from audiocls.heads.timm_head import TimmHead
from audiocls.heads.vggish import VGGish

__all__ = [
    "CNN6",
    "CNN10",
    "CNN14",
    "CRNN",
    "FCN5",
    "K1C2",
    "K2C1",
    "K2C2",
    "SBCNN",
    "BeatboxCNN",
    "CompactCNN",
    "ConvNet",
    "HarmonicCNN",
    "Head",
    "KeywordCNN",
    "Moments",
    "MusicCRNN",
    "MusicTaggingTransformer",
    "Musicnn",
    "ResNet",
    "SampleCNN",
    "ShortChunkCNN",
    "TimmHead",
    "VGGish",
]
