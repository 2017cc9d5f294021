"""Where things are kept. Each place can be moved by one environment variable; nothing else in labkit builds such a path."""

import os
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]


def runs_folder() -> Path:
    """`LABKIT_RUNS`, else `runs/` beside the package."""
    return Path(os.environ.get("LABKIT_RUNS") or ROOT / "runs")


def cache_folder() -> Path:
    """`LABKIT_CACHE`, else `labkit/` in the user's cache directory. Safe to delete: everything in it can be made again."""
    if os.environ.get("LABKIT_CACHE"):
        return Path(os.environ["LABKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labkit"


def samples_folder() -> Path:
    """The sample data that comes with the lab."""
    return ROOT / "data" / "samples"


def database_url() -> str:
    """`LABKIT_DATABASE` (any SQLAlchemy URL), else the SQLite file `lab.sqlite` in the runs folder."""
    return os.environ.get("LABKIT_DATABASE") or f"sqlite:///{quote(str(runs_folder() / 'lab.sqlite'))}"
