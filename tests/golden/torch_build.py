"""Which build of torch on which processor numbers belong to: another one sums in another order."""

from pathlib import Path

import torch


def build_of_torch():
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {model}"
