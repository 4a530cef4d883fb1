"""What words on a command line come to as `audiocls fit` reads them: the whole configuration, and its data module."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from audiocls import __main__ as command_line
from audiocls.cli import Parser
from audiocls.terminal import sentence
from datamodules.base import AudioDataModule


def resolved_config(words: Sequence[str]) -> str:
    """The whole configuration that `audiocls fit` would train with, as YAML.

    Args:
        words: options of `audiocls fit`.
    Raises:
        SystemExit: if it does not accept the words; it has said why.
    """
    with redirect_stdout(io.StringIO()) as printed:
        try:
            status = command_line.main(["fit", *words, "--print_config"])
        except SystemExit as left:
            status = left.code
    if status:
        raise SystemExit(status)
    return printed.getvalue()


def open_data(config: Mapping[str, Any], **settings: Any) -> AudioDataModule:
    """The data module of a configuration; what is missing in its settings ends in one line.

    Args:
        config: of `resolved_config`, read.
        settings: of the data module that take the place of the configuration's.
    Raises:
        SystemExit: if a setting is missing or wrong; it has been said which.
        ValueError: if the data module refuses its settings, in its own words.
    """
    parser = Parser(prog="audiocls")
    parser.add_subclass_arguments(AudioDataModule, "data", required=True, fail_untyped=False)
    given = config["data"]["init_args"] | settings
    chosen = parser.parse_object({"data": config["data"] | {"init_args": given}})
    try:
        data = parser.instantiate_classes(chosen)["data"]
    except ValueError as error:
        raise ValueError(sentence(error) or error) from error
    assert isinstance(data, AudioDataModule)
    return data
