"""Which processors machine code runs on: it is refused where it would end the process without a word."""

import platform

import torch

from equimodels.errors import SettingError

_LEVELS = ("DEFAULT", "AVX2", "AVX512")  # of torch, for x86: each with all that the ones before it have


def this_processor() -> str:
    """Its kind and what its vector units can do, as torch uses them: "x86_64 AVX2"."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def require_processor(made_for: str) -> None:
    """Raise SettingError unless code that was made on one processor, as `this_processor` says it, runs on this one."""
    here = this_processor()
    (machine, level), (our_machine, our_level) = made_for.split(" ", 1), here.split(" ", 1)
    reaches = level in _LEVELS and our_level in _LEVELS and _LEVELS.index(level) <= _LEVELS.index(our_level)
    if machine != our_machine or not (level == our_level or reaches):
        raise SettingError("processor", here, f"{made_for}, which the file was compiled for, and what includes it")
