"""Dual numbers across borders where torch's own would be lost: hooks of FSDP, and activations computed again.

A dual tensor (`torch.autograd.forward_ad`) carries a value and its rate of change along one direction. Hooks that put
tensors through functions of their own lose the rate, and so does a recomputation after the forward pass is over. Across
such a border the two travel as a `Pair` of plain tensors.
"""

import contextlib
import dataclasses
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from jobs.strategy.dual_rules import WithoutZeros, unpacked


class Pair(NamedTuple):
    """A value and its rate of change, of one shape."""

    value: Tensor
    rate: Tensor


def split(tree: Any) -> Any:
    """`tree` (tuples, lists, dicts, dataclasses) with a `Pair` in place of each dual tensor."""
    return _changed(tree, _split)


def join(tree: Any) -> Any:
    """`tree` with a dual tensor in place of each `Pair`: the inverse of `split`. Needs `dual_numbers`."""
    return _changed(tree, _join)


@contextlib.contextmanager
def dual_numbers() -> Iterator[None]:
    """Where dual tensors live. One may be inside another: they share the direction, as torch knows only one."""
    if forward_ad._current_level >= 0:
        yield
    else:
        _load_rules()
        with forward_ad.dual_level(), WithoutZeros():
            yield


@functools.cache
def _load_rules() -> None:
    """What torch does when the first dual tensor is made: it compiles rules, by means that it has itself deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def carried(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward`, given and returning pairs; dual tensors inside only. Without pairs it is as it was."""

    def run(*inputs: Any, **named: Any) -> Any:
        if not _has_pairs((inputs, named)):
            return forward(*inputs, **named)
        with dual_numbers():
            return split(forward(*join(inputs), **join(named)))

    return run


def pairs_at_hooks(block: nn.Module) -> None:
    """Let the hooks that `block` has by now see pairs where it is called with dual tensors.

    Its forward must be `carried`. Hooks registered later are outside, and see dual tensors again.
    """
    block.register_forward_pre_hook(
        lambda _, inputs, named: (split(inputs), split(named)), prepend=True, with_kwargs=True
    )
    block.register_forward_hook(lambda _, inputs, output: join(output))


def _split(value: Any) -> Any:
    if isinstance(value, Tensor):
        primal, tangent = unpacked(value)
        if tangent is not None:
            return Pair(primal, tangent)
    return value


def _join(value: Any) -> Any:
    return forward_ad.make_dual(*value) if isinstance(value, Pair) else value  # type: ignore[no-untyped-call]


def _has_pairs(tree: Any) -> bool:
    found = False

    def look(value: Any) -> Any:
        nonlocal found
        found = found or isinstance(value, Pair)
        return value

    _changed(tree, look)
    return found


def _changed(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with `change` made to tensors and pairs; what is unchanged stays the same object."""
    if isinstance(tree, Tensor | Pair):
        return change(tree)
    if isinstance(tree, dict):
        new = {key: _changed(value, change) for key, value in tree.items()}
        return new if any(new[key] is not value for key, value in tree.items()) else tree
    if isinstance(tree, tuple | list):
        parts = [_changed(value, change) for value in tree]
        if all(part is value for part, value in zip(parts, tree, strict=True)):
            return tree
        return tree._make(parts) if hasattr(tree, "_make") else type(tree)(parts)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
        changes = {name: _changed(value, change) for name, value in fields.items()}
        changes = {name: value for name, value in changes.items() if value is not fields[name]}
        return dataclasses.replace(tree, **changes) if changes else tree
    return tree
