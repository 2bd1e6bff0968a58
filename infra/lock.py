"""Resolve every dependency but torch into hashed locks (`make lock`).

torch is left out because which build is right (CPU, CUDA) is the machine's business, not the lock's. An override
with a marker that is never true drops torch and everything that only torch needs (the CUDA wheels).
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

TORCH_NEEDS = (
    "filelock",
    "fsspec",
    "jinja2",
    "networkx",
    "sympy",
    "typing-extensions",
)  # torch is not asked, so say it

ROOT = Path(__file__).resolve().parent.parent
BUILD_TOOLS = (
    "setuptools",
    "wheel",
    "packaging",
    "hatchling",
    "ninja",
    "py-cpuinfo",
)  # what building the sdists imports


def main() -> None:
    """Write requirements.lock and its subset requirements-build.lock."""
    lock = ROOT / "requirements.lock"
    with tempfile.TemporaryDirectory() as folder:
        override = Path(folder) / "override.txt"
        override.write_text("torch ; python_version < '0'\n", encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", str(ROOT / "pyproject.toml"), "--extra", "dev"]
        command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
        needs = Path(folder) / "torch-needs.in"
        needs.write_text("\n".join(TORCH_NEEDS) + "\n", encoding="utf-8")
        command.insert(6, str(needs))
        command += ["--no-header", "--no-annotate", "--override", str(override), "--output-file", str(lock), "--quiet"]
        subprocess.run(command, check=True, cwd=ROOT)
    blocks = re.findall(
        r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    needed = [block for block in blocks if block.split("==")[0] in BUILD_TOOLS]
    (ROOT / "requirements-build.lock").write_text("".join(needed), encoding="utf-8")


if __name__ == "__main__":
    main()
