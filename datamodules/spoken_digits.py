"""Free Spoken Digit Dataset: ten digits, six speakers, 50 takes each, `{digit}_{speaker}_{take}.wav`, 8 kHz.

The official split (takes 0 to 4 are the test) has every speaker on both sides: it measures new takes of known
speakers, not new speakers. Validation takes 5 to 9, which the official split leaves in training.

Source: Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0,
doi:10.5281/zenodo.1342401.
"""

from __future__ import annotations

import re

import pandas as pd

from datamodules.base import AudioDataModule

_NAME = re.compile(r"(?:^|/)([0-9])_([^_/]+)_([0-9]+)\.wav$")


class SpokenDigits(AudioDataModule):
    """The official split of FSDD; `store` is decoded from its folder `recordings`."""

    def read_table(self) -> pd.DataFrame:
        """Digit as label, split by take."""
        ids = self.known_clip_ids()
        found = {clip_id: _NAME.search(clip_id) for clip_id in ids}
        strange = [clip_id for clip_id, match in found.items() if match is None]
        if strange:
            raise ValueError(
                f"{strange[0]!r} is not named {{digit}}_{{speaker}}_{{take}}.wav ({len(strange)} such files): this "
                f"store does not hold the Free Spoken Digit Dataset; use AudioFolder or AudioTable"
            )
        parts = [match.groups() for match in found.values() if match]
        take = pd.Series([int(number) for _, _, number in parts])
        return pd.DataFrame(
            {
                "clip_id": ids,
                "label": [digit for digit, _, _ in parts],
                "split": take.map(lambda n: "test" if n < 5 else "validation" if n < 10 else "train"),
            }
        )
