"""From YAML text to plain data in which every value knows its line and column.

YAML 1.2: `1e-4` is a number, `no` and `12:30` are text. Keys are text as they are written, dates are text too. Built
from ruamel's node tree, not from its round-trip objects, because only the nodes show every duplicate key.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cluster.spec.problems import Place, Problem, dotted

MOST_VALUES = 100_000  # aliases of aliases grow exponentially
DEEPEST = 60  # an alias of itself never ends

Path = tuple[str | int, ...]

_STANDARD = "tag:yaml.org,2002:"
_TEXTS = {"str", "timestamp"}
_SCALARS = {"int", "float", "bool", "null"}


@dataclass
class Tree:
    """Plain data, the place of each of its parts (of a mapping entry: where its key begins), and what was wrong."""

    data: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def parse(text: str, source: str) -> Tree:
    """Read one YAML document. Never raises for what the text says: syntax errors are problems of the tree."""
    tree = Tree(places={(): Place(source, 1, 1)})
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source, 1, 1)
        tree.problems.append(Problem(place, "", f"is not YAML: {_without_content(error)}"))
    except (YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else _unreadable(error)
        tree.problems.append(Problem(Place(source, 1, 1), "", f"is not YAML: {reason}"))
    else:
        if node is not None:
            tree.data = _Reader(tree, source, yaml.constructor).read(node, (), 0)
    return tree


class _Reader:
    """One walk over the nodes of a document."""

    def __init__(self, tree: Tree, source: str, constructor: Any) -> None:
        self.tree, self.source, self.constructor = tree, source, constructor
        self.values = 0

    def read(self, node: Node, path: Path, depth: int) -> Any:
        if not path or path not in self.tree.places:
            self.tree.places[path] = self.place(node)
        self.values += 1
        if depth > DEEPEST or self.values > MOST_VALUES:
            reason = "levels, an alias of itself?" if depth > DEEPEST else "values, aliases of aliases?"
            # The root's place, once: every branch of such a tree would say the same.
            limit = DEEPEST if depth > DEEPEST else MOST_VALUES
            self.complain(self.tree.places[()], (), f"has more than {limit} {reason}")
            return None
        if isinstance(node, MappingNode) and node.tag == f"{_STANDARD}map":
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode) and node.tag == f"{_STANDARD}seq":
            return [self.read(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        kind = str(node.tag).removeprefix(_STANDARD)
        if isinstance(node, ScalarNode) and kind in _TEXTS:
            return node.value
        if isinstance(node, ScalarNode) and kind in _SCALARS:
            return self.scalar(node, path)
        self.complain(self.place(node), path, "has a YAML tag", allowed="plain values, without '!'")
        return None

    def mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        data = {}
        for key, (key_node, value_node) in self.entries(node, path, depth).items():
            self.tree.places[(*path, key)] = self.place(key_node)
            data[key] = self.read(value_node, (*path, key), depth + 1)
        return data

    def entries(self, node: MappingNode, path: Path, depth: int) -> dict[str, tuple[Node, Node]]:
        """The entries of a mapping: its own, then those of the mappings that it merges with `<<`."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{_STANDARD}merge":
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            elif not isinstance(key_node, ScalarNode):
                self.complain(self.place(key_node), path, "has a list or a mapping as a key", allowed="text")
            elif key_node.value in own:
                first = self.place(own[key_node.value][0])
                where = (*path, key_node.value)
                self.complain(self.place(key_node), where, f"is given twice; the first is in line {first.line}")
            else:
                own[key_node.value] = (key_node, value_node)
        for other in merged:
            if not isinstance(other, MappingNode):
                self.complain(self.place(node), path, "merges with << what is not a mapping")
            elif depth < DEEPEST:
                for key, entry in self.entries(other, path, depth + 1).items():
                    own.setdefault(key, entry)
        return own

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        try:
            return self.constructor.construct_object(node)
        except (ValueError, YAMLError):
            self.complain(self.place(node), path, "cannot be read as a value of its YAML type")
            return None

    def place(self, node: Node) -> Place:
        return Place(self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def complain(self, place: Place, path: Path, message: str, *, allowed: str | None = None) -> None:
        problem = Problem(place, dotted(path), message, allowed)
        if problem not in self.tree.problems:
            self.tree.problems.append(problem)


def _without_content(error: MarkedYAMLError) -> str:
    """ruamel's words without what it quotes from the file, which may be part of a secret."""
    words = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return re.sub(r"""\s*(['"])(.*?)\1""", lambda found: found[0] if _is_grammar(found[2]) else "", words)


def _is_grammar(quoted: str) -> bool:
    """A token of YAML: ',' or '<stream end>'."""
    return len(quoted) <= 1 or quoted.startswith("<")


def _unreadable(error: BaseException) -> str:
    return "a control character" if hasattr(error, "position") else type(error).__name__
