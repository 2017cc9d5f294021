"""The Argilla server's own Python environment: made on first use, kept in the cache, whole or not there at all.

The server cannot live beside the lab's packages (it needs click < 8.2, pydantic 2.9), so it gets a virtual environment from the exact pins
in `requirements-argilla.txt`. Another set of pins, or another Python, is another folder.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from labkit import files, places
from labkit.errors import LabError

PINS = Path(__file__).with_name("requirements-argilla.txt")
NEEDED_BYTES = 1_500_000_000  # 0.6 GB installed, and what pip unpacks meanwhile
_MADE = "made.json"


def version() -> str:
    """The pinned version of argilla-server."""
    return re.search(r"^argilla-server==(\S+)", PINS.read_text(encoding="utf-8"), re.MULTILINE)[1]


def folder() -> Path:
    """Where the environment is, or will be: named after the server's version and the hash of pins and Python."""
    content = PINS.read_bytes() + f"{sys.implementation.cache_tag} {sys.platform}".encode()
    return places.cache_folder() / f"argilla-{version()}-{files.short(hashlib.sha256(content).hexdigest())}"


def python() -> Path:
    """A Python that has the server: the one that `LABKIT_ARGILLA_PYTHON` names, else the environment's, which is made where it is missing
    (1 to 5 minutes, about 600 MB).

    Raises:
        LabError: the named Python lacks the server; no room; a package cannot be had.
    """
    named = os.environ.get("LABKIT_ARGILLA_PYTHON")
    if named:
        return _checked(Path(named))
    kept = folder()
    if not is_whole(kept):
        make(kept)
    return _python_of(kept)


def is_ready() -> bool:
    """Whether `python` would answer at once."""
    return bool(os.environ.get("LABKIT_ARGILLA_PYTHON")) or is_whole(folder())


def is_whole(path: Path) -> bool:
    """Whether an environment was made to its end there, and the Python that it was made with still exists."""
    return (path / _MADE).exists() and _python_of(path).exists()


def make(path: Path) -> None:
    """Make the environment beside its place, try it, and move it there. Two at once do not disturb each other; what a killed one left
    behind goes."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if is_whole(path):  # made by another while this one waited
            return
        free = shutil.disk_usage(path.parent).free
        if free < NEEDED_BYTES:
            raise LabError(f"the Argilla server's environment needs {NEEDED_BYTES / 1e9:.1f} GB in {path.parent}, where "
                           f"{free / 1e9:.1f} are free; make room, or name another place with LABKIT_CACHE")
        part = path.with_name(f"{path.name}.part")
        for leftover in (part, path):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            _install(part)
            _checked(_python_of(part))
            files.write_json(part / _MADE, {"server": version(), "python": sys.version.split()[0]})
            part.rename(path)  # only its scripts know their old place, and nobody calls those
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _python_of(path: Path) -> Path:
    return path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def _checked(path: Path) -> Path:
    """This Python, if it has the pinned server."""
    asked = "import importlib.metadata as found; print(found.version('argilla-server'))"
    try:
        said = subprocess.run([path, "-c", asked], capture_output=True, text=True, env=_clean_environment(), timeout=120)
    except OSError as error:
        raise LabError(f"{path} is no Python that can be started ({error.strerror}); mend LABKIT_ARGILLA_PYTHON or unset it") from None
    if said.returncode or said.stdout.strip() != version():
        found = f"argilla-server {said.stdout.strip()}" if said.returncode == 0 else "no argilla-server"
        raise LabError(f"{path} has {found}, where {version()} is needed; mend LABKIT_ARGILLA_PYTHON or unset it")
    return path


def _install(path: Path) -> None:
    """A virtual environment with the pinned packages, by pip, with a bar where somebody looks."""
    from tqdm.auto import tqdm

    # pip of the lab's own Python, where there is one, installs for the other: nothing of the operating system is needed, no ensurepip.
    own_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0
    made = subprocess.run([sys.executable, "-m", "venv", *(["--without-pip"] if own_pip else []), path], capture_output=True, text=True)
    if made.returncode:
        raise LabError(f"no virtual environment could be made in {path}: {_last_line(made.stdout + made.stderr)}")
    pip = [sys.executable, "-m", "pip", "--python", _python_of(path)] if own_pip else [_python_of(path), "-m", "pip"]
    command = [*pip, "install", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:", "--progress-bar", "off", "-r", PINS]
    total = sum(1 for line in PINS.read_text(encoding="utf-8").splitlines() if "==" in line)
    said = []
    with tqdm(total=total, desc="Argilla's server, once", unit=" packages", disable=None) as bar, \
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                             env=_clean_environment()) as process:
        try:
            for line in process.stdout:
                said.append(line)
                bar.update(line.startswith("Collecting "))
                if line.startswith("Installing "):
                    bar.set_description("Argilla's server, unpacking")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        errors = [line for line in said if line.startswith("ERROR")] or said
        hint = "" if sys.version_info < (3, 14) else "; the server needs Python 3.11 to 3.13, name one that has it by LABKIT_ARGILLA_PYTHON"
        raise LabError(f"argilla-server {version()} could not be installed: {_last_line(''.join(errors[:1]))}{hint}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
