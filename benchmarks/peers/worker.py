"""Runs functions of a file for another process, with the packages of this environment: PYTHON worker.py FILE

The first line of output says how it went with the file: {"value": {package: version}} of torch and those that the file
names in `PACKAGES`. Then each line of input is {"call": name, "arguments": {...}} and each of output {"value": ...}, or
{"error": the traceback}. Only the standard library here: what else is imported, the file imports.
"""

import json
import os
import runpy
import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any


def answer(functions: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """What the function returns, which must be representable as JSON, or why it did not."""
    try:
        return {"value": functions[request["call"]](**request["arguments"])}
    except Exception:
        return {"error": traceback.format_exc()}


def main(file: Path) -> None:
    """Answer until the input ends."""
    sys.path.insert(0, str(file.parent))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # packages print, and that is no answer
    functions: dict[str, Any] = {"versions": lambda names: {name: metadata.version(name) for name in names}}
    try:
        functions |= runpy.run_path(str(file))
        first = answer(functions, {"call": "versions", "arguments": {"names": ["torch", *functions["PACKAGES"]]}})
    except Exception:
        first = {"error": traceback.format_exc()}
    answers.write(json.dumps(first) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(functions, json.loads(line))) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
