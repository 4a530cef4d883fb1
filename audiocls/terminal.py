"""What the terminal shows: what is wrong on one line and what is nearest to it, and libraries kept quiet."""

from __future__ import annotations

import ast
import difflib
import importlib
import logging
import os
import re
import traceback
import warnings
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities import rank_zero_only

import audiocls
import datamodules

# a failure of ours is a sentence to the user; one from elsewhere keeps its traceback
OURS = tuple(str(Path(package.__file__ or "").parent) + os.sep for package in (audiocls, datamodules))
# where the classes are that a configuration may name, by the option that names them
SHOWN = {
    "data": "datamodules",
    "model.augment": "audiocls.augment",
    "model.frontend": "audiocls.frontends",
    "model.head": "audiocls.heads",
    "model.lr_scheduler": "audiocls.schedules",
}
NOISE = "lit(logger|models)|TPU|Detected KeyboardInterrupt"  # what is left of a run is said at its end
KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "list": "a list",
    "dict": "keys with values",
}  # fmt: skip


def shortened(message: str, known: Iterable[str] = ()) -> str:
    """The telling part of a parser's message on one line, and the nearest name that would have been right.

    Args:
        message: jsonargparse's, often of many lines.
        known: options of the parser that wrote it.
    """
    if said := wrong_kind(message) or missing_class(message):
        return said
    noise = r"NoneType|Union subtypes|Subtypes:|Given value|^Errors:|^\s*$|^usage:|Expected a path but"
    lines = [line.strip(" -") for line in message.strip().splitlines() if not re.search(noise, line.strip(" -"))]
    text = " ".join(line if line.endswith((":", ".")) else f"{line};" for line in lines).rstrip(";:. ")
    text = re.sub(r"Type (?:\w+\.)+Callable\[.*?\] expects a function or a callable class: ", "", text)
    return text + nearest(message, known)


def wrong_kind(message: str) -> str:
    """What a parser says of a value that an option does not take, in a sentence; empty where it says something else."""
    value = re.search(r"(?:Given|Got) value: (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    kinds = [KINDS[kind] for kind in re.findall(r"Expected a <class '(\w+)'>", message) if kind in KINDS]
    lists = re.findall(r"Expected a typing\.Literal(\[.*?\])", message)
    choices = list(dict.fromkeys(str(choice) for found in lists for choice in ast.literal_eval(found)))
    if value is None or not (kinds or choices) or "is not accepted" in message:
        return ""
    if choices:  # numbers among them are said to be any number
        kinds = [kind for kind in kinds if "number" not in kind] + [f"one of {', '.join(choices)}"]
    wanted = " or ".join(dict.fromkeys(kinds))
    return f"--{_option(message)} must be {wanted}, got {value[1]}{meant(value[1], choices, form='{}')}"


def missing_class(message: str) -> str:
    """What a parser says of a class that there is none of, in a sentence; empty where it says something else."""
    names = re.findall(r"(?:Got value: |import path string: |given class_path ')([\w.]+)", message)
    module = re.search(r"No module named '([^']+)'", message)
    if not names or not (module or re.search(r"has no attribute|dot import path string", message)):
        return ""
    option, wanted = _option(message), names[-1]
    classes = [f"{package}.{name}" for name, package in shown_classes().items()]
    ours = "." not in wanted or wanted.startswith(("audiocls.", "datamodules."))
    if not ours and module and wanted.startswith(module[1]):
        owner = "data" if option.startswith("data") else "model"
        return (
            f"the {owner} needs the module {module[1]!r}, which is not found: run where it lies, or put its folder on "
            f"PYTHONPATH{meant(wanted, classes)}"
        )
    if not ours:
        return ""
    of = [full for full in classes if full.rpartition(".")[0] == SHOWN.get(option, full.rpartition(".")[0])]
    hint = meant(wanted.rpartition(".")[2], of, last=True)
    if not hint and option in SHOWN:
        hint = f": it is one of {', '.join(full.rpartition('.')[2] for full in of)}, or a class of yours, as mine.MyOwn"
    return f"--{option} {wanted}: there is no such class{hint}"


def _option(message: str) -> str:
    """The option that a message is about, its parents before it."""
    return ".".join(re.findall(r'Parser key "([^"]+)"', message))


def nearest(message: str, known: Iterable[str] = ()) -> str:
    """What the user may have meant by an unknown option; empty where nothing is known."""
    if option := re.search(r"[Uu]nrecognized arguments: --([^\s=]+)", message):
        return meant(option.group(1), known, form="--{}")
    if option := re.search(r"Option '([^']+)' is not accepted", message):
        if owner := re.search(r"class_path[ =]'([\w.]+)'", message):
            names = accepted(owner.group(1))
            takes = f"; {owner.group(1).rpartition('.')[2]} takes {', '.join(names)}"
            return takes + (meant(option.group(1), names) or _others(owner.group(1), option.group(1)))
        return meant(option.group(1), known)
    return ""


def _others(class_path: str, option: str) -> str:
    """Which other classes of the package have an option, where they are few."""
    package = class_path.rpartition(".")[0]
    classes = [name for name, where in shown_classes().items() if where == package]
    taking = [name for name in classes if option in accepted(f"{package}.{name}")]
    return f"; {option!r} is an option of {' and '.join(taking)}" if 0 < len(taking) <= 3 else ""


def meant(name: str, known: Iterable[str], *, form: str = "{!r}", last: bool = False) -> str:
    """The known name that is most like `name`, as a question; `last` compares what stands behind the last dot."""
    by_key = {(full.rpartition(".")[2] if last else full): full for full in known}
    near = difflib.get_close_matches(name, by_key, n=1)
    return f"; did you mean {form.format(by_key[near[0]])}?" if near else ""


def shown_classes() -> dict[str, str]:
    """Every class that our packages show to a configuration, imported: its name -> its package."""
    shown = {}
    for package in SHOWN.values():
        module = importlib.import_module(package)
        names = getattr(module, "__all__", [name for name in vars(module) if name[0].isupper()])
        shown |= {name: package for name in names if isinstance(getattr(module, name), type)}
    return shown


def accepted(class_path: str) -> list[str]:
    """Names of the arguments of a class, with those that it hands on."""
    module, _, name = class_path.rpartition(".")
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(importlib.import_module(module), name), fail_untyped=False)
    return option_names(parser, leave_out=("help", "config", "self", "params", "optimizer"))


def option_names(parser: ArgumentParser, *, leave_out: tuple[str, ...] = ("help",)) -> list[str]:
    """Names of all options of a parser."""
    names = [action.dest for action in parser._actions if not action.dest.endswith(".help")]
    return [name for name in names if name not in leave_out]


def sentence(error: BaseException | None) -> BaseException | None:
    """What our own code raised as a sentence to the user: the error, or that which a library wrapped in it; None where
    it is a library's or a slip."""
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if frames and frames[-1].filename.startswith(OURS):
            return error
        error = error.__cause__
    return None


def quiet_libraries() -> None:
    """Leave out what Lightning says of products and of its own insides."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    for name in ("audiocls", "datamodules"):
        # what one process of several has said need not be said again by the others
        logging.getLogger(name).setLevel(logging.INFO if rank_zero_only.rank == 0 else logging.ERROR)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: not re.search(NOISE, record.getMessage()))
    for message in (
        "LightningCLI's args parameter",  # they are those of the process, with the configuration's place filled in
        ".*does not have many workers",  # one process reading whole batches from mapped files is the quickest here
        ".*LeafSpec",
        ".*smaller than the logging interval",  # every epoch is logged, however short
        ".*callbacks used to create the checkpoint need to be provided",  # a test needs none of the training's
        ".*WeightAveraging callback, but loading",  # the averaged weights are those that are loaded
        "It is recommended to use `self.log",  # what is logged is the same on all processes, by torchmetrics
        "Checkpoint directory .* exists and is not empty",  # a run that is resumed
        ".*is an instance of `nn.Module` and is already saved",  # said while a checkpoint is loaded
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", module="jsonargparse")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
