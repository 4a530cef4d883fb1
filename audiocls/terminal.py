"""What the terminal shows: what is wrong on one line and what is nearest to it, and libraries kept quiet."""

from __future__ import annotations

import ast
import difflib
import importlib
import logging
import os
import pkgutil
import re
import traceback
import warnings
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities import rank_zero_only

import audiocls
import datamodules

# a failure of ours is a sentence to the user; one from elsewhere keeps its traceback
OURS = tuple(str(Path(package.__file__ or "").parent) + os.sep for package in (audiocls, datamodules))
# where the classes are that a configuration may name, by the option that names them
SHOWN = {
    "data": ("datamodules",),
    "model.augment": ("audiocls.augment",),
    "model.frontend": ("audiocls.frontends",),
    "model.head": ("audiocls.heads",),
    "model.loss": ("audiocls.losses",),
    "model.lr_scheduler": ("audiocls.schedules", "torch.optim.lr_scheduler"),
    "model.optimizer": ("torch.optim",),
}
# whose settings are looked for where one is given without its part, as --lr
USUAL = {
    "data": "datamodules.base.AudioDataModule",
    "model.frontend": "audiocls.frontends.MelSpectrogram",
    "model.optimizer": "torch.optim.AdamW",
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
    if said := refused_setting(message) or wrong_kind(message) or missing_class(message) or refused_class(message):
        return said
    noise = r"NoneType|Union subtypes|Subtypes:|Given value|^Errors:|^\s*$|^usage:|Expected a path but"
    lines = [line.strip(" -") for line in message.strip().splitlines() if not re.search(noise, line.strip(" -"))]
    text = " ".join(line if line.endswith((":", ".")) else f"{line};" for line in lines).rstrip(";:. ")
    text = re.sub(r"Type (?:\w+\.)+Callable\[.*?\] expects a function or a callable class: ", "", text)
    return text + nearest(message, known)


def refused_setting(message: str) -> str:
    """What a parser says of a setting that a class does not take, in a sentence; empty where it says something else."""
    refusal = "Option '([^']+)' is not accepted"
    found = re.search(rf"class_path '([\w.]+)':\s+{refusal}|{refusal}.*class_path='([\w.]+)'", message)
    if found is None:
        return ""
    owner, name = found[1] or found[4], found[2] or found[3]
    names = [known for known in accepted(owner) if known != name]  # one that the part around it hands on
    takes = f"{name!r} is not accepted; {owner.rpartition('.')[2]} takes {', '.join(names)}"
    hint = meant(name, names) or _others(owner, name)
    return f"--{_option(message[: found.start()])}: {takes}{hint}"


def wrong_kind(message: str) -> str:
    """What a parser says of a value that an option does not take, in a sentence; empty where it says something else."""
    value = re.search(r"(?:Given|Got) value: (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    kinds = [KINDS[kind] for kind in re.findall(r"Expected a <class '(\w+)'>", message) if kind in KINDS]
    lists = re.findall(r"Expected a typing\.Literal(\[.*?\])", message)
    choices = list(dict.fromkeys(str(choice) for found in lists for choice in ast.literal_eval(found)))
    if value is None or not (kinds or choices):
        return ""
    if choices:  # numbers among them are said to be any number
        kinds = [kind for kind in kinds if "number" not in kind] + [f"one of {', '.join(choices)}"]
    wanted = " or ".join(dict.fromkeys(kinds))
    return f"--{_option(message)} must be {wanted}, got {value[1]}{meant(value[1], choices, form='{}')}"


def missing_class(message: str) -> str:
    """What a parser says of a class that there is none of, in a sentence; empty where it says something else."""
    before = r"(?:Got value: (?:Namespace\(class_path=')?|import path string: |given class_path ')"
    names = re.findall(rf"{before}([\w.]+)", message)
    module = re.search(r"No module named '([^']+)'", message)
    if not names or not (module or re.search(r"has no attribute|dot import path string", message)):
        return ""
    option, wanted = _option(message), names[-1]
    ours = "." not in wanted or wanted.startswith(("audiocls.", "datamodules.", "torch.optim."))
    if not ours and module and wanted.startswith(module[1]):
        owner = "data" if option.startswith("data") else "model"
        return (
            f"the {owner} needs the module {module[1]!r}, which is not found: install it, run where it lies, or "
            f"put its folder on PYTHONPATH{meant(wanted, _classes(''))}"
        )
    if not ours:
        return ""
    hint = meant(wanted.rpartition(".")[2], _classes(option), last=True)
    if not hint and option in SHOWN:
        names = ", ".join(full.rpartition(".")[2] for full in _classes(option))
        hint = f": it is one of {names}, or a class of yours, as mine.MyOwn"
    return f"--{option} {wanted}: there is no such class{hint}"


def refused_class(message: str) -> str:
    """What a parser says of a class that is there and cannot be taken; empty where it says something else."""
    complaint = re.search(
        r"(is abstract)|(?:correspond to|to be) a subclass of (?:<class '|Union\[)?([\w, ]+)|"
        r"arguments are required: ([\w, ]+)", message,
    )  # fmt: skip
    named = r"(?:class_path[= ]'|Expected '|a path but |Import path (?!does)|class, but (?!is))([\w.]+)"
    option = _option(message)
    if complaint is None or not option:
        return ""
    abstract, bases, lacking = complaint.groups()
    # the class is named before the complaint, those that it is part of before it; or else behind
    wanted = (re.findall(named, message[: complaint.end()])[-1:] or re.findall(named, message)[:1] or [""])[0]
    if lacking:
        return f"--{option} {wanted} needs {' and '.join(f'--{option}.{name}' for name in lacking.split(', '))}"
    if abstract:
        full = _full_name(wanted)
        methods = sorted(pkgutil.resolve_name(full).__abstractmethods__) if "." in full else ["the methods it lacks"]
        return f"--{option} {wanted} is abstract: add {', '.join(methods)} to it"
    bases = " or ".join(_full_name(base, message) for base in bases.split(", "))
    hint = meant(wanted.rpartition(".")[2], _classes(option) if option in SHOWN else (), last=True)
    return f"--{option} must be a class derived from {bases}, got {wanted}{hint}"


def _classes(option: str) -> list[str]:
    """Full names of the shown classes that an option takes; of all where none are listed for it."""
    shown = shown_classes().items()
    return [f"{package}.{name}" for name, package in shown if package in SHOWN.get(option, (package,))]


def _full_name(name: str, message: str = "") -> str:
    """A class's name with its package before it, as we show it or as the message has it."""
    if package := shown_classes().get(name):
        return f"{package}.{name}"
    return next(iter(re.findall(rf"[\w.]+\.{name}\b", message)), name)


def _option(message: str) -> str:
    """The option that a message is about, its parents before it."""
    return ".".join(re.findall(r'Parser key "([^"]+)"', message))


def nearest(message: str, known: Iterable[str] = ()) -> str:
    """What the user may have meant by an unknown option; empty where nothing is known."""
    if option := re.search(r"(?:[Uu]nrecognized arguments: --|does not accept option ')([^\s=']+)", message):
        return _placed(option.group(1), list(known)) or meant(option.group(1), known, form="--{}")
    if option := re.search(r"Option '([^']+)' is not accepted", message):
        return meant(option.group(1), known)
    return ""


def _placed(option: str, known: list[str]) -> str:
    """Where an option belongs that was given without the part that takes it, as --lr and --optimizer.lr."""
    owner, dot, setting = option.partition(".")
    places = [f"{name}{dot}{setting}" for name in known if name.endswith(f".{owner}")]
    name = option.rpartition(".")[2]
    places += [f"{part}.{name}" for part, usual in USUAL.items() if part in known and name in accepted(usual)]
    return f"; did you mean --{places[0]}?" if places else ""


def _others(class_path: str, option: str) -> str:
    """Which other classes of the package have an option, where they are few."""
    package = class_path.rpartition(".")[0]
    classes = [name for name, where in shown_classes().items() if where == package]
    taking = [name for name in classes if option in accepted(f"{package}.{name}")]
    return f"; {option!r} is an option of {' and '.join(taking)}" if 0 < len(taking) <= 3 else ""


def meant(name: str, known: Iterable[str], *, form: str = "{!r}", last: bool = False) -> str:
    """The known name that is most like `name`, as a question; `last` compares what stands behind the last dot."""
    by_key = {(full.rpartition(".")[2] if last else full).lower(): full for full in known}
    near = difflib.get_close_matches(name.lower(), by_key, n=1)
    return f"; did you mean {form.format(by_key[near[0]])}?" if near else ""


def shown_classes() -> dict[str, str]:
    """Every class that our packages show to a configuration, imported: its name -> its package."""
    shown = {}
    for package in chain.from_iterable(SHOWN.values()):
        module = importlib.import_module(package)
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == package]
        names = getattr(module, "__all__", own)
        shown |= {name: package for name in names if isinstance(getattr(module, name), type)}
    return shown


def accepted(class_path: str) -> list[str]:
    """Names of the arguments of a class, with those that it hands on."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_class_arguments(pkgutil.resolve_name(class_path), fail_untyped=False)
    return option_names(parser, leave_out=("help", "config", "self", "params", "optimizer"))


def option_names(parser: ArgumentParser, *, leave_out: tuple[str, ...] = ("help",)) -> list[str]:
    """Names of all options of a parser, and of those of its commands."""
    names = [action.dest for action in parser._actions if not action.dest.endswith(".help")]
    commands = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    names += [name for action in commands for command in action.choices.values() for name in option_names(command)]
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
