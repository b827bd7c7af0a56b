"""YAML as its authors mean it: the core schema of YAML 1.2, with the line of every key.

PyYAML alone reads `1e-3` as a text, `010` as 8, `no` as false and `12:30:45` as a number, and keeps the
last of two equal keys without a word. Here numbers are numbers, everything else is a text, and whatever
is in doubt is a problem with its line. No tag but those of the core schema exists, so nothing is ever
constructed from a file; aliases are refused, so nothing can grow.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from simpipe.config.problems import Problem, config_error, shown
from simpipe.errors import DiskError, UsageError

MAX_BYTES: Final = 1_000_000

Scalar = str | int | float | bool | None
Tree = dict[str, Any]


def _int(text: str) -> int:
    return int(text[2:], {"0o": 8, "0x": 16}[text[:2]]) if text[:2] in ("0o", "0x") else int(text)


def _null(text: str) -> None:
    return None


# YAML 1.2.2, section 10.3.2. The order counts: what is a whole number would also be a float, and so it is
# when it has more digits than fit one.
_SCALARS: Final[dict[str, tuple[re.Pattern[str], Callable[[str], Scalar]]]] = {
    "null": (re.compile(r"(?:null|Null|NULL|~|)\Z"), _null),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), lambda text: text.lower() == "true"),
    "int": (re.compile(r"(?:[-+]?[0-9]{1,300}|0o[0-7]{1,16}|0x[0-9a-fA-F]{1,16})\Z"), _int),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    ),
    "str": (re.compile(r"[\s\S]*"), str),
}
_TAG: Final = "tag:yaml.org,2002:"
_BREAK: Final = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # where PyYAML counts a new line


class _Loader(yaml.SafeLoader):
    """Composes nodes by the core schema; the constructors that it inherits are never called."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (PyYAML's own way to replace them)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias (*name); write the value out", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes each text that this reader, or another reader of YAML, would take for something else."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence(f"{_TAG}seq", items, flow_style=True)
)
_Dumper.add_representer(  # PyYAML folds U+0085 and U+2028, unless they are escaped
    str,
    lambda dumper, text: dumper.represent_scalar(
        f"{_TAG}str", text, style=None if text.isprintable() else '"'
    ),
)
for _name, (_pattern, _) in _SCALARS.items():
    if _name != "str":
        _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)
        _Dumper.add_implicit_resolver(_TAG + _name, _pattern, None)


@dataclass(frozen=True)
class Document:
    """A file as it was read: the tree of values, the line of each dotted path, and what is wrong so far.

    A value with a problem of its own is left out of the tree.
    """

    name: str
    tree: Tree = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class _ReportedError(Exception):
    """A value that was reported and is to be left out."""


def read(path: Path) -> Document:
    """Read a configuration file of at most 1 MB of UTF-8; an empty one is an empty tree.

    Raises:
        ConfigError: the file is no YAML mapping at all. Problems of single keys are in the document.
        UsageError: there is no such file, or it is a folder.
        DiskError: the file cannot be read.
    """
    text = _decode(path)
    lines = _BREAK.split(text)
    document = Document(str(path), text=lines)
    markers = [
        Problem(
            "a conflict that was left by a merge; keep one side and delete the markers",
            line=number,
            quoted=True,
        )
        for number, line in enumerate(lines, 1)
        if re.match(r"<{7}(?: |\Z)", line)
    ]
    if markers:
        raise config_error(document.name, markers, lines)
    try:
        node = _compose(text)
        if node is not None:
            _fill(node, document)
    except yaml.YAMLError as error:
        raise config_error(document.name, [_syntax(error, text, lines)], lines) from error
    except RecursionError as error:
        raise config_error(document.name, [Problem("nested too deeply", line=1)], lines) from error
    return document


def parse_value(text: str) -> Any:
    """The value of `--set key=text`: a scalar by the same rules, a quoted text, or a list `[0.9, 0.95]`.

    Raises:
        ValueError: not a value.
    """
    text = text.strip()
    if not text.startswith(("[", '"', "'")):
        return next(read(text) for pattern, read in _SCALARS.values() if pattern.match(text))
    document = Document("--set")
    try:
        node = _compose(text)
        value = None if node is None else _value(node, "", document)
    except (yaml.YAMLError, RecursionError, _ReportedError) as error:
        raise ValueError(f"{shown(text)} is not a value; a list is written [0.9, 0.95]") from error
    if document.problems:
        raise ValueError(document.problems[0].message)
    return value


def dump(tree: Tree) -> str:
    """`tree` as YAML which `read` takes back unchanged."""
    return yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=10**6
    )


def _decode(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path}: a folder, not a configuration file") from error
    except OSError as error:
        raise DiskError(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > MAX_BYTES:
        raise config_error(str(path), [Problem("larger than 1 MB: not a configuration file", line=1)])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem(f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", line=line)
        raise config_error(str(path), [problem]) from error


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax(error: yaml.YAMLError, text: str, lines: list[str]) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line = len(_BREAK.split(text[: error.position]))
        return Problem(f"character U+{ord(text[error.position]):04X} is not allowed in YAML", line=line)
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Problem(f"not YAML: {error}", line=1)
    line = min(error.problem_mark.line + 1, len(lines))
    if error.problem and r"'\t'" in error.problem:
        return Problem("a tab; YAML is indented with spaces", line=line, quoted=True)
    return Problem(f"not YAML: {error.problem}", line=line, quoted=True)


def _fill(root: yaml.Node, document: Document) -> None:
    """Put the values of `root` into the document, and its problems."""
    if isinstance(root, yaml.ScalarNode) and root.tag == _TAG + "null":
        return
    try:
        if isinstance(root, yaml.MappingNode):
            document.tree.update(_value(root, "", document))
            return
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "one value"
        _refuse(
            f"{kind}; sections with keys are needed, such as `train:` and below it `lr: 1e-3`",
            root,
            "",
            document,
        )
    except _ReportedError:
        pass


def _value(node: yaml.Node, path: str, document: Document) -> Any:
    tag = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.MappingNode) and tag == "map":
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode) and tag == "seq":
        return _sequence(node, path, document)
    if not isinstance(node, yaml.ScalarNode) or tag not in _SCALARS:
        _refuse(
            f"the tag {shown(node.tag.replace(_TAG, '!!'))} is not supported; write the plain value",
            node,
            path,
            document,
        )
    pattern, convert = _SCALARS[tag]
    if not pattern.match(node.value):
        _refuse(f"{shown(node.value)} cannot be read as {tag}", node, path, document)
    return convert(node.value)


def _sequence(node: yaml.SequenceNode, path: str, document: Document) -> list[Any]:
    values = []
    for position, item in enumerate(node.value):
        item_path = f"{path}.{position}"
        document.lines[item_path] = item.start_mark.line + 1
        try:
            values.append(_value(item, item_path, document))
        except _ReportedError:
            continue
    return values


def _mapping(node: yaml.MappingNode, path: str, document: Document) -> Tree:
    tree: Tree = {}
    first: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
        full = f"{path}.{key}" if path else key
        wrong = _wrong_key(key, first.get(key), line)
        if wrong:
            is_name = re.fullmatch(r"[\w.-]+", key)
            document.problems.append(Problem(wrong, full if is_name else path, line, quoted=True))
            continue
        first[key] = line
        document.lines[full] = line
        try:
            tree[key] = _value(value_node, full, document)
        except _ReportedError:
            continue
    return tree


def _wrong_key(key: str, first: int | None, line: int) -> str | None:
    if first is not None:
        return f"given twice, on line {first} and on line {line}; delete one"
    if re.fullmatch(r"[\w-]+", key):
        return None
    if re.fullmatch(r"\w+(?:\.\w+)+", key):
        section, _, leaf = key.partition(".")
        return f"in a file, keys are nested: write `{section}:` and, indented below it, `{leaf}:`"
    return "a key must be one word"


def _refuse(message: str, node: yaml.Node, path: str, document: Document) -> NoReturn:
    document.problems.append(Problem(message, path, node.start_mark.line + 1, quoted=True))
    raise _ReportedError
