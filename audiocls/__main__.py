"""The command `audiocls`: says what it can do at once, and loads torch only for a command that needs it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from itertools import pairwise
from pathlib import Path

USAGE = """\
usage: audiocls COMMAND [options]

  fit       train:                    audiocls fit --config conf/drums.yaml
  validate  score the validation set: audiocls validate --run_dir runs/drums
  test      score the test set:       audiocls test --run_dir runs/drums
  predict   classify audio files:     audiocls predict --run_dir runs/drums a.wav b.mp3
  embed     describe audio files:     audiocls embed --run_dir runs/drums a.wav b.mp3 --out vectors.npz
  export    write the model as ONNX:  audiocls export --run_dir runs/drums --out drums.onnx

`audiocls COMMAND --help` lists the options of a command. A second --config lays its keys over the first:
audiocls fit --config conf/drums.yaml --config conf/heads/music_crnn.yaml. Any key can be set on the command line:
--trainer.max_epochs 5, --data.batch_size 32, --model.frontend.n_mels 128. Audio files become a store by
`python tools/decode_to_hdf.py`.
"""
TRAINING = ("fit", "validate", "test")
COMMANDS = (*TRAINING, "predict", "embed", "export")
INTERRUPTED = 130  # as a shell says it of SIGINT


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status. Arguments are those of the process where none are given."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # while the command is imported or begins: training has its own way to stop
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean 'audiocls {near[0]}'?" if near else f"it is one of {', '.join(COMMANDS)}"
        print(f"audiocls: error: there is no command {command!r}: {hint}", file=sys.stderr)
        return 2
    # a user's own front-end, head or data set, in the present folder or beside his configuration
    folders = dict.fromkeys([os.getcwd(), *_config_folders(arguments)])
    sys.path += [folder for folder in folders if folder not in sys.path]
    module = importlib.import_module("audiocls.cli" if command in TRAINING else f"audiocls.{command}")
    return module.main(arguments if command in TRAINING else arguments[1:])


def _config_folders(arguments: list[str]) -> list[str]:
    """Where the configurations lie that are named; one that is no file is a recipe's name, or said to be missing."""
    options = ("--config", "-c")
    named = [value for option, value in pairwise(arguments) if option in options]
    named += [word.removeprefix("--config=") for word in arguments if word.startswith("--config=")]
    return [str(Path(name).absolute().parent) for name in named if Path(name).is_file()]


if __name__ == "__main__":
    sys.exit(main())
