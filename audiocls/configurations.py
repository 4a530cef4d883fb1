"""Configurations: where they are found, and whether they can be read at all, said with file, line and column."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import audiocls


def find_config(name: str) -> Path:
    """A configuration by its path, or a recipe of the installation by its name.

    Raises:
        ValueError: if there is none; says which is nearest.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(audiocls.__file__).parent
    recipe = name.removeprefix("conf/").removesuffix(".yaml")
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{recipe}.yaml").is_file():
            return folder / f"{recipe}.yaml"
    if Path(name).is_dir():
        own = Path(name, "config.yaml")
        hint = f"did you mean {own}?" if own.is_file() else "name a file in it"
        raise ValueError(f"configuration {name!r} is a folder: {hint}")
    recipes = sorted({p.stem for folder in (package / "conf", package.parent / "conf") for p in folder.glob("*.yaml")})
    near = difflib.get_close_matches(Path(recipe).name, recipes, n=1)
    meant = f"did you mean conf/{near[0]}.yaml?" if near else f"the recipes are {', '.join(recipes)}"
    raise ValueError(f"configuration {name!r} does not exist: {meant}")


def has_keys(config: Path) -> bool:
    """Does a configuration say anything? An overlay of remarks alone does not.

    Raises:
        ValueError: if it is no YAML, gives a key twice, of which YAML would take the last, or holds something else than
            keys; says where.
    """
    try:
        top = yaml.compose(config.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ValueError(f"{config} is no text ({error.reason}): give a YAML file in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(_place(config, error.problem_mark) + _yaml_said(error)) from None
    except OSError as error:
        raise ValueError(f"{config} cannot be read ({error.strerror}): give another configuration") from None
    if top is None:
        return False
    if not isinstance(top, yaml.MappingNode):
        raise ValueError(
            f"{_place(config, top.start_mark)}a configuration holds keys with values, such as run_dir: runs/mine, and "
            f"this one a {'list' if isinstance(top, yaml.SequenceNode) else 'single value'}"
        )
    for node in _nodes(top, set()):
        if node.tag not in (*yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:merge"):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise ValueError(f"{_place(config, node.start_mark)}the tag {tag} is not read: write a plain value")
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if first.setdefault(str(key.value), key) is not key:
                line = first[str(key.value)].start_mark.line + 1
                raise ValueError(
                    f"{_place(config, key.start_mark)}{key.value} is given a second time, after line {line}: keep one"
                )
    return True


def _place(config: Path, mark: Any) -> str:
    return f"{config}, line {mark.line + 1}, column {mark.column + 1}: "


def _yaml_said(error: yaml.MarkedYAMLError) -> str:
    """YAML's own reason, what it was at before it, and where that begins if it is elsewhere."""
    tab = " (YAML is indented by spaces)" if "'\\t'" in str(error.problem) else ""
    if error.context is None or error.context_mark is None or error.problem_mark is None:
        return f"{error.problem}{tab}"
    apart = error.context_mark.line != error.problem_mark.line
    return f"{error.context}{f' of line {error.context_mark.line + 1}' if apart else ''}, {error.problem}{tab}"


def _nodes(node: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    """A node and all that is in it, each once: an alias may lead back to where it stands."""
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        for inner in part if isinstance(part, tuple) else (part,):
            yield from _nodes(inner, seen)
