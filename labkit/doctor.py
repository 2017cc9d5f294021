"""What is installed, what the machine has, and what is wrong, with the fix."""

import importlib.metadata
import os
import shutil
import sys
from dataclasses import dataclass

from labkit import places, process
from labkit.serving import compiled


@dataclass(frozen=True)
class Finding:
    """One check: `what` was looked at, what was `found`, whether it is `ok`, and the `fix` where it is not."""

    what: str
    found: str
    ok: bool = True
    fix: str = ""


def look() -> list[Finding]:
    """All checks; nothing is changed, nothing is asked of the network."""
    return [_python(), *_packages(), _cores(), _memory(), _disk(), _gpu(), _engine(), _kernels(), _base(), *_runs()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fix = "use Python 3.11 or newer: make PYTHON=python3.11 setup"
    return Finding("Python", f"{version} ({sys.executable})", sys.version_info >= (3, 11), fix)


def _packages() -> list[Finding]:
    from packaging.requirements import Requirement

    lines = (places.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if "==" in line and not line.startswith("#")]
    wanted = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins if pin.marker is None or pin.marker.evaluate()}
    wrong = []
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if found != version:
            wrong.append(f"{name} is {found}, not {version}")
    if wrong:
        return [Finding("packages", "; ".join(wrong), False, "run `make setup`")]
    return [Finding("packages", f"all {len(wanted)} at the pinned versions")]


def _cores() -> Finding:
    kind = "bfloat16 natively" if process.multiplies_bf16() else "float32 (no native bfloat16)"
    return Finding("cores", f"{os.cpu_count()}, training in {kind}")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return Finding("memory", f"{free:.1f} GB free", free >= 3, "close other programs: building a checkpoint takes up to 4 GB")


def _disk() -> Finding:
    folder = places.runs_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("disk", f"{free:.1f} GB free at {folder}", free >= 2, "free 2 GB, or set LABKIT_RUNS and LABKIT_CACHE to another disk")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", "none; everything runs on the CPU")
    return Finding("GPU", f"{torch.cuda.get_device_name(0)}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GB")


def _engine() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("engine", "transformers on the GPU")
    problem = compiled.problem()
    if problem:
        return Finding("engine", problem, False, "run `make clean setup`, which compiles it anew")
    return Finding("engine", "llama.cpp on the CPU for the embedded base, transformers for others")


def _kernels() -> Finding:
    import torch

    from labkit.training import kernels

    if torch.cuda.is_available():
        return Finding("kernels", "PyTorch's own, on the GPU")
    if kernels.compiled() is None:
        return Finding("kernels", "PyTorch alone; training takes up to 1.6 times as long as with a C++ compiler (Debian: g++) at hand")
    return Finding("kernels", "compiled for this processor")


def _base() -> Finding:
    from labkit import models
    from labkit.errors import LabError

    try:
        base = models.resolve()
    except LabError as error:
        return Finding("base model", str(error), False, "run `make setup`")
    return Finding("base model", f"{base.name} {base.sha256[:8]} in {base.folder}")


def _runs() -> list[Finding]:
    from labkit import runs

    found = runs.catalogue()
    states = {run.key: run.state() for run in found}
    broken = [Finding(f"run {run.key}", "; ".join(runs.verify(run)), False, f"delete {run.folder} and run `labkit build`")
              for run in found if states[run.key] == "damaged"]
    return broken + [Finding("runs", f"{list(states.values()).count('done')} finished, {len(found)} in all")]
