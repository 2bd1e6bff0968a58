"""YAML text that every parser reads alike.

Kubernetes' parsers are of YAML 1.1, where a bare `no` is false, `12:30` is 750 and `1e-06` is text; we read 1.2.
So text is quoted unless it cannot be taken for anything else, and a number has a point before its exponent.
"""

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@:-]*[A-Za-z0-9]|[A-Za-z]")
_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_WIDE = 10_000  # no line is folded


class _Unambiguous(RoundTripRepresenter):
    """Writes floats as both versions read them."""

    def represent_float(self, value: float) -> ScalarNode:
        digits, e, exponent = repr(value).partition("e")
        if not e:
            node: ScalarNode = super().represent_float(value)
            return node
        return self.represent_scalar("tag:yaml.org,2002:float", f"{float(digits)!r}e{int(exponent):+d}")


_Unambiguous.add_representer(float, _Unambiguous.represent_float)


def yaml_text(*documents: Any) -> str:
    """Plain data as block YAML, in the order given; several documents with `---` between them."""
    writer = YAML()
    writer.Representer = _Unambiguous
    writer.width = _WIDE
    writer.indent(mapping=2, sequence=4, offset=2)
    texts = []
    for document in documents:
        stream = StringIO()
        writer.dump(_shown(document), stream)
        texts.append(stream.getvalue())
    return "---\n".join(texts)


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(str(key)): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    if "\n" in value and value.endswith("\n") and not value.startswith((" ", "\n")) and " \n" not in value:
        literal: str = LiteralScalarString(value)
        return literal
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    quoted: str = DoubleQuotedScalarString(value)
    return quoted
