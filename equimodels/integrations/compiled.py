"""A potential as one file of machine code: compiled ahead of time by torch, loaded with torch alone and no compiler."""

import json
import warnings
from pathlib import Path

import torch

from equimodels.errors import SettingError
from equimodels.integrations.exported import FACTS, require_exportable, traced
from equimodels.integrations.processor import this_processor
from equimodels.models.potential import Potential


def save_compiled(model: Potential, path: Path | str) -> None:
    """Write the program of `save_exported` as machine code (AOTInductor), for processors like this one, in a minute.

    `load_exported` loads it, with the version of torch that wrote it. Raises SettingError for what `save_exported`
    refuses, and where there is no C++ compiler.
    """
    require_exportable(model, path)
    require_compiler()
    program, facts = traced(model)
    settings = {
        "aot_inductor.metadata": {FACTS: json.dumps({**facts, "processor": this_processor()})},
        "cpp.dynamic_threads": True,  # as many as whoever runs it has, not as there are here
        "cpp.march": "",  # no instructions but those of the vector units that are asked for
    }
    with warnings.catch_warnings():
        # torch 2.13 copies its own trees with a class it has deprecated.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)


def require_compiler() -> None:
    """Raise SettingError unless there is the C++ compiler that torch would call: CXX, or g++ (clang++ on macOS)."""
    from torch._inductor import config, cpp_builder  # seconds, which whoever only loads need not spend
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler as error:
        found = ", ".join(name for name in config.cpp.cxx if name)
        raise SettingError("CXX", found, "a C++ compiler that is installed; who loads the file needs none") from error
