"""`audiocls embed`: audio files as vectors, by a layer of a trained model.

A file's vector is the mean of the layer's map over bins, frames and windows; by default of the head's embedding, from
which its last layer tells the classes. What such vectors are worth for another data set, `tools/transfer.py` says.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audiocls.report.tables import write_csv
from audiocls.terminal import meant, quiet_libraries
from audiocls.trained import (
    Parser,
    add_model_options,
    audio_files,
    averaged,
    check_out,
    chosen_checkpoint,
    heard,
    layer_maps,
    load,
    write_arrays,
)


def main(arguments: list[str]) -> int:
    """Describe the files that are named; 0, or 1 if some could not be decoded, or 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    try:
        if options.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {options.batch_size}")
        check_out(options.out, (".npz", ".csv"))
        model = load(chosen_checkpoint(options))
        files = audio_files(options.files)
        layers = model.head.layer_names
        if options.layer not in layers:
            known = f"{', '.join(layers)}, got {options.layer!r}{meant(options.layer, layers)}"
            raise ValueError(f"--layer must be one of {known}")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"audiocls: error: {error}\n")
        return 2
    model.to("cuda" if torch.cuda.is_available() else "cpu")

    def measure(waveform: Tensor) -> Tensor:
        return averaged(layer_maps(model, waveform)[options.layer])

    out, paths, vectors = Path(options.out), [], []
    try:
        with tqdm(total=len(files), unit="file", dynamic_ncols=True, mininterval=0.5, leave=False) as bar:
            for path, vector, note in heard(model, files, measure, batch_size=options.batch_size):
                bar.update()
                if note:
                    bar.write(f"audiocls: {note}", file=sys.stderr)
                if vector is not None:
                    paths.append(str(path))
                    vectors.append(vector.astype(np.float32))
    except KeyboardInterrupt:
        if paths:
            part = write_vectors(out.with_suffix(f".part{out.suffix}"), paths, np.stack(vectors), layer=options.layer)
            sys.stderr.write(f"audiocls: stopped: the vectors of {len(paths)} files are in {part}\n")
        raise
    if paths:
        write_vectors(out, paths, np.stack(vectors), layer=options.layer)
        sys.stdout.write(f"{out}  {len(paths)} files, {len(vectors[0])} numbers each ({options.layer})\n")
    if n_failed := len(files) - len(paths):
        sys.stderr.write(f"audiocls: {n_failed} of {len(files)} files could not be decoded\n")
    return 1 if n_failed else 0


def write_vectors(out: Path, paths: list[str], vectors: NDArray[np.float32], *, layer: str) -> Path:
    """Write vectors (files, numbers), whole or not at all: an npz with `path`, `embedding` and `layer`, or a CSV."""
    if out.suffix == ".npz":
        return write_arrays(out, path=np.array(paths), embedding=vectors, layer=np.array(layer))
    columns = ["path", *(f"{layer}_{i}" for i in range(vectors.shape[1]))]
    return write_csv(out, columns, ([path, *row] for path, row in zip(paths, vectors.tolist(), strict=True)))


def _parser() -> Parser:
    parser = Parser(
        "audiocls embed", description="Describe audio files by a layer of a trained model.", allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", help="audio files, or folders of them")
    add_model_options(parser)
    parser.add_argument("--out", required=True, help="file to write: .npz (arrays path, embedding, layer) or .csv")
    parser.add_argument("--layer", default="embedding", help="of the head (default: embedding)")
    parser.add_argument("--batch_size", type=int, default=64, help="windows at a time (default: 64)")
    return parser
