"""Read a PCM store to its last byte and say what of it is not as it was written."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

# Run as `python tools/verify_store.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

if TYPE_CHECKING:
    from datamodules.storage.verify import Finding

EPILOG = """
exit status: 0, every byte is as it was written; 1, something was found; 2, wrong arguments or no store

examples:
  python tools/verify_store.py stores/fma
  python tools/verify_store.py stores/fma --remove-damaged && python tools/decode_to_hdf.py ...
"""
EXIT_FINDINGS, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it."""

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see --help)\n")


def build_parser() -> Parser:
    parser = Parser(
        prog="verify_store.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, cores = parser.add_argument, len(os.sched_getaffinity(0))
    add("store", type=Path, metavar="STORE", help="folder that tools/decode_to_hdf.py has written")
    add("--workers", type=int, default=cores, metavar="N", help="threads (default: %(default)s, the cores)")
    add("--json", type=Path, metavar="FILE", help="write all findings there, with the ids of all clips")
    add("--remove-damaged", action="store_true", help="delete damaged shards: decoding again makes their clips anew")
    return parser


def check(store: Path, *, workers: int) -> tuple[list[Finding], float]:
    """Verify a store under a progress bar of bytes; also returns how many seconds it took."""
    from datamodules.storage.verify import verify  # noqa: PLC0415 - loads HDF5; --help need not wait for it

    began = time.monotonic()
    with tqdm(unit="B", unit_scale=True, desc="verifying", dynamic_ncols=True, mininterval=0.5) as bar:

        def step(checked: int, total: int) -> None:
            bar.total = total
            bar.update(checked)

        return verify(store, workers=workers, on_bytes=step), time.monotonic() - began


def report(store: Path, findings: list[Finding], seconds: float) -> str:
    """One line a finding, and what it comes to."""
    if not findings:
        return f"whole     {store}: every byte is as it was written ({seconds:.1f} s)"
    n_clips = sum(finding.n_clips for finding in findings)
    lost = f"; clips lost until they are decoded again: {n_clips}" if n_clips else ""
    return "\n".join([*map(str, findings), f"not whole {store}: findings: {len(findings)}{lost}"])


def main() -> int:
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        findings, seconds = check(arguments.store, workers=arguments.workers)
        if arguments.json:
            content = {"store": str(arguments.store), "findings": [finding._asdict() for finding in findings]}
            arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(report(arguments.store, findings, seconds))
        if arguments.remove_damaged:
            from datamodules.storage.verify import remove_damaged  # noqa: PLC0415 - as above

            for path in remove_damaged(arguments.store, findings):
                print(f"removed   {path}")
    except (ValueError, OSError) as error:
        parser.exit(EXIT_USAGE, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        print("stopped: nothing was changed", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FINDINGS if findings else 0


if __name__ == "__main__":
    sys.exit(main())
