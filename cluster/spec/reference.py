"""Every setting of a kind of spec in a table of Markdown: what it may be, its default, what it does."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from cluster.spec.shape import Shape


def reference(model: type[BaseModel]) -> str:
    """The table; settings in the order of the model, nested ones by their path."""
    rows = ["| setting | may be | default | |", "|---|---|---|---|", *_rows(Shape(model), ())]
    return "\n".join(rows) + "\n"


def _rows(shape: Shape, path: Sequence[str]) -> Iterator[str]:
    for key in shape.keys(path):
        here = (*path, key)
        below = list(_rows(shape, here))
        text, default = shape.description(here) or "", shape.default(here)
        if not below or text or default is not None:
            shown = "required" if shape.required(here) else f"`{default}`" if default is not None else ""
            yield f"| `{'.'.join(here)}` | {_cell(_allowed(shape, here))} | {shown} | {_cell(text)} |"
        yield from below


def _allowed(shape: Shape, path: Sequence[str]) -> str:
    words = (shape.allowed(path) or "").replace("nothing (null)", "null")
    items = shape.allowed((*path, 0)) if words.startswith("a list") else None
    return f"{words} of {items}" if items else words


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")
