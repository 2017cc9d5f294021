"""A server's data in one archive, taken while people label, and put back.

The archive is a zip file of the database and the job journal, each a consistent copy by SQLite's own backup, and of a manifest, written
last, with their sha256. The search index is not in it: it is made anew from the database. The archive holds everybody's API keys and
password hashes, as the database does: it is readable by its owner alone.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit import files
from labkit.errors import LabError
from labkit.labeling import environment, server

MANIFEST = "manifest.json"
_KIND = "labkit argilla backup"
_COUNTED = ("users", "workspaces", "datasets", "records", "responses", "suggestions")


def backup(path: str | os.PathLike, folder: str | os.PathLike | None = None) -> dict[str, Any]:
    """Write the server's data into the archive `path`, whether it runs or not; returns the manifest. What was acknowledged before the
    call is in it.

    Raises:
        LabError: there is no data, the file exists already, or the disk is full.
    """
    place, path = server.home(folder), Path(path)
    if not (place / server.DATABASE).exists():
        raise LabError(f"{place} has no {server.DATABASE}: nothing to back up")
    if path.exists():
        raise LabError(f"{path} exists already; choose another name for the backup")
    with files.whole(path) as part:
        part.chmod(0o600)
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=path.parent) as temporary:
            # The database first: a job that is enqueued in between is then in the copy, and running it once more does no harm.
            copies = [_copy(place / name, Path(temporary) / name) for name in (server.DATABASE, server.JOBS) if (place / name).exists()]
            manifest = {"kind": _KIND, "made": datetime.now(UTC).isoformat(timespec="seconds"), "server": environment.version(),
                        "revision": _revision(copies[0]), "rows": _rows(copies[0]),
                        "files": {copy.name: files.sha256_of(copy) for copy in copies}}
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
                for copy in copies:
                    archive.write(copy, copy.name)
                archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
    path.chmod(0o600)
    return manifest


def restore(path: str | os.PathLike, folder: str | os.PathLike | None = None, replace: bool = False) -> dict[str, Any]:
    """Put a backup's data into a folder where no server runs; returns the manifest. With `replace`, data that is there already is moved
    into a folder `replaced-TIME` inside, and never deleted. The owner's key comes with the data; sessions of the web page end.

    Raises:
        LabError: a server runs there, data is there already, or the archive is damaged or no backup.
    """
    place, path = server.home(folder), Path(path)
    if server.running(place) is not None:
        raise LabError(f"a server works in {place}; end it first: labkit label down")
    if (place / server.DATABASE).exists() and not replace:
        raise LabError(f"{place} has data already; restore into another folder, or with --replace, which moves it aside")
    if not path.is_file():
        raise LabError(f"{path} does not exist")
    server.make_folder(place)
    with server.starting(place), tempfile.TemporaryDirectory(prefix=".restore-", dir=place) as temporary:
        try:
            manifest = _unpack(path, Path(temporary))
            _move_aside(place)
            for name in sorted(manifest["files"], key=lambda name: name == server.DATABASE):  # the database last: with it, it is there
                (Path(temporary) / name).replace(place / name)
        except OSError as error:
            raise LabError(f"{path} cannot be restored into {place}: {error.strerror or error}") from error
    return manifest


def _move_aside(place: Path) -> None:
    """All that belongs to the data that is there: databases with their logs, the search index, the key."""
    old = [each for pattern in ("argilla.*sqlite*", f"{server.JOBS}*", server.CREDENTIALS) for each in place.glob(pattern)]
    if old:
        aside = Path(tempfile.mkdtemp(prefix=f"replaced-{datetime.now(UTC):%Y%m%d-%H%M%S}-", dir=place))
        for each in old:
            each.rename(aside / each.name)


def _copy(source: Path, target: Path) -> Path:
    """A copy of a database that others may be writing to, and the proof that it is sound."""
    with contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as old, \
            contextlib.closing(sqlite3.connect(target)) as new:
        try:
            old.backup(new)
            found = new.execute("PRAGMA quick_check").fetchone()[0]
        except sqlite3.Error as error:
            raise LabError(f"{source} cannot be copied: {error}") from error
        if found != "ok":
            raise LabError(f"{source} is damaged: {found}")
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    target.chmod(0o600)
    return target


def _revision(database: Path) -> str:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        return opened.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def _rows(database: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        return {table: opened.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _COUNTED}


def _unpack(path: Path, place: Path) -> dict[str, Any]:
    """The archive's files, each compared with its sha256; only names that a backup has are looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["kind"] != _KIND or not {server.DATABASE} <= set(manifest["files"]) <= {server.DATABASE, server.JOBS}:
                raise LabError(f"{path} is no backup of an Argilla server")
            for name, digest in manifest["files"].items():
                with archive.open(name) as packed, (place / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
                if files.sha256_of(place / name) != digest:
                    raise LabError(f"{path} is damaged: {name} is not what was packed; take another backup")
                (place / name).chmod(0o600)
    except (zipfile.BadZipFile, zipfile.zlib.error, KeyError, ValueError, TypeError, EOFError) as error:
        raise LabError(f"{path} is damaged or no backup of an Argilla server: {error}") from None
    return manifest
