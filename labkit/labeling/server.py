"""An Argilla server of one's own: started with one call, with nothing else to install, ended, asked how it is.

The server is Argilla's own, unchanged, in an environment of its own (`environment.py`), started through `argilla_side`: SQLite, a search
engine and a job queue inside the one process, bound to this machine. Everything it keeps lies in one folder: `argilla.sqlite` (the data),
`jobs.sqlite` (jobs that wait), the search engine's index (made anew where it is missing), `credentials.json` (the owner's key, mode 0600),
`server.log`. It writes every answer to disk before it acknowledges it, so it may be killed at any time.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit import files, places
from labkit.errors import LabError
from labkit.labeling import accounts, environment
from labkit.labeling.accounts import Account

PORT = 6900
OWNER = "owner"
DATABASE, JOBS, CREDENTIALS, LOG = "argilla.sqlite", "jobs.sqlite", "credentials.json", "server.log"
NEEDED_BYTES = 200_000_000
START_SECONDS, END_SECONDS = 120, 20

_DYING_SECONDS = 10
_LOG_BYTES = 10_000_000
# The exit codes of `argilla_side`.
_LOCKED, _PORT_TAKEN, _DATABASE_NEWER = 31, 32, 33


@dataclass(frozen=True)
class Server:
    """A running server: its address, where it keeps its data, the number of its process, its owner's API key, and the accounts that
    `up` has just made, the only time that their passwords are known."""

    url: str
    folder: Path
    pid: int
    owner_key: str = field(repr=False)
    accounts: tuple[Account, ...] = ()


@dataclass(frozen=True)
class Status:
    """How a server is: None for what only a running one has. `jobs` counts those that wait, `memory_bytes` is resident memory."""

    folder: Path
    server: Server | None
    version: str | None
    started: datetime | None
    memory_bytes: int | None
    disk_bytes: int
    jobs: int


def home(folder: str | os.PathLike | None = None) -> Path:
    """The server's folder: the one given, else `argilla` in the runs folder."""
    return Path(folder).resolve() if folder else places.runs_folder().resolve() / "argilla"


def up(folder: str | os.PathLike | None = None, port: int | None = None, annotators: Iterable[str] = ()) -> Server:
    """Start the server in the background and return when its page answers; one that runs already is returned as it is.

    Args:
        folder: where it keeps its data; made on first use.
        port: of 127.0.0.1; without one that of last time, else 6900, else any free one.
        annotators: names who should have an account; missing ones are made.

    Raises:
        LabError: the port is taken, there is no room, the environment cannot be made, or the server ended by itself.
    """
    place, wanted = home(folder), list(dict.fromkeys(annotators))
    for name in wanted:
        if not name or name != name.strip() or len(name) > 100:
            raise LabError(f"{name!r} is no name for an annotator: 1 to 100 characters, no spaces around them")
    python = environment.python()
    make_folder(place)
    with starting(place):
        known = _answering(place)
        if known is None:
            known = _start(place, port, python)
        elif port is not None and known.url != _url(port):
            raise LabError(f"the server of {place} runs already at {known.url}; end it first to move it: labkit label down")
        there = {account.username for account in accounts.everybody(known.url, known.owner_key)}
        made = [accounts.add(known.url, known.owner_key, name) for name in wanted if name not in there]
    return replace(known, accounts=(*known.accounts, *made))


def down(folder: str | os.PathLike | None = None) -> bool:
    """End the server, with all its children; False where none ran. A server that does not end in 20 s is killed, which loses nothing."""
    place = home(folder)
    server = running(place)
    if server is None:
        return False
    for kind, seconds in ((signal.SIGTERM, END_SECONDS), (getattr(signal, "SIGKILL", signal.SIGTERM), END_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg") and os.getpgid(server.pid) == server.pid:
                os.killpg(server.pid, kind)
            else:
                os.kill(server.pid, kind)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not _is_locked(place) and not _is_alive(server.pid):
                return True
            time.sleep(0.05)
    raise LabError(f"process {server.pid} does not end; see {place / LOG}")


def running(folder: str | os.PathLike | None = None) -> Server | None:
    """The server that works in this folder, or None. What a killed one left behind is not taken for a server: only a living process
    holds the folder's lock."""
    place = home(folder)
    if not (place / CREDENTIALS).exists():
        return None
    until = time.monotonic() + 5
    while _is_locked(place):
        noted = _noted(place)
        if noted and _is_alive(noted["pid"]):
            return Server(_url(noted["port"]), place, noted["pid"], _credentials(place)["owner"]["api_key"])
        if time.monotonic() > until:
            raise LabError(f"something holds {place / 'server.lock'} and is no server; see {place / LOG}")
        time.sleep(0.05)  # it has just begun and not yet written where it is
    return None


def _answering(place: Path) -> Server | None:
    """The server that works there, or None, also where it was killed a moment ago: it gives its port back before its lock."""
    server = running(place)
    until = time.monotonic() + _DYING_SECONDS
    while server and not _answers(server.url) and time.monotonic() < until:
        time.sleep(0.05)
        server = running(place)
    return server


def connection(folder: str | os.PathLike | None = None) -> tuple[str, str]:
    """Address and owner's key of the running server, for push and pull.

    Raises:
        LabError: none runs.
    """
    server = running(folder)
    if server is None:
        raise LabError(f"no server works in {home(folder)}; start it with: labkit label up")
    return server.url, server.owner_key


def status(folder: str | os.PathLike | None = None) -> Status:
    """How the server is."""
    place = home(folder)
    server = running(place)
    noted = _noted(place) if server else None
    disk = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) if place.exists() else 0
    return Status(place, server, accounts.call(server.url, server.owner_key, "GET", "version")["version"] if server else None,
                  datetime.fromtimestamp(noted["started"], UTC) if noted else None, _memory(server.pid) if server else None, disk,
                  _waiting(place / JOBS))


def follow(server: Server) -> None:
    """Stay until the server ends; Ctrl-C, or the terminal's closing, ends it."""
    def hang_up(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, hang_up) for kind in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))}
    try:
        while _is_alive(server.pid) and _is_locked(server.folder):
            time.sleep(0.5)
    except KeyboardInterrupt:
        down(server.folder)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def password(username: str, folder: str | os.PathLike | None = None) -> Account:
    """Give an account of the running server a new password, for somebody who has lost theirs."""
    return accounts.renew(*connection(folder), username)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def make_folder(place: Path) -> None:
    """The server's folder, readable by its owner alone; LabError where it cannot be made or is full."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o700)
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise LabError(f"{place} cannot be made: {error.strerror or error}") from error
    if free < NEEDED_BYTES:
        raise LabError(f"{place} has {free / 1e6:.0f} MB free, and the server needs {NEEDED_BYTES / 1e6:.0f} to start; make room")


@contextlib.contextmanager
def starting(place: Path) -> Iterator[None]:
    """While the block runs, nobody else starts a server there or restores into it."""
    from filelock import FileLock

    with FileLock(place / "up.lock"):
        yield


def _is_locked(place: Path) -> bool:
    from filelock import FileLock, Timeout

    path = place / "server.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # one that has ended, of which its parent has taken no notice
    except psutil.NoSuchProcess:
        return False


def _memory(pid: int) -> int | None:
    import psutil

    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).memory_info().rss
    return None


def _noted(place: Path) -> dict[str, Any] | None:
    try:
        return json.loads((place / "server.json").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _waiting(path: Path) -> int:
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        return journal.execute("SELECT count(*) FROM jobs WHERE status IN ('queued', 'scheduled', 'started')").fetchone()[0]


def _credentials(place: Path) -> dict[str, Any]:
    """The owner's name and key, and the secret that signs the page's sessions; a lost file is made again from the database."""
    path, database = place / CREDENTIALS, place / DATABASE
    if path.exists() and database.exists():
        return files.read_json(path)
    owner = {"username": OWNER, "api_key": accounts.new_key()}
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as opened:
            row = opened.execute("SELECT username, api_key FROM users WHERE role = 'owner' ORDER BY inserted_at").fetchone()
        if row is None:
            raise LabError(f"{database} has no owner's account; restore a backup, or move it away to begin anew")
        owner = {"username": row[0], "api_key": row[1]}
    made = {"owner": owner, "secret": secrets.token_urlsafe(32)}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(made, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o600)
    return made


def _start(place: Path, port: int | None, python: Path) -> Server:
    is_first = not (place / DATABASE).exists()
    kept = _credentials(place)
    owner = {**kept["owner"], "password": accounts.new_password()}
    told = {"secret": kept["secret"], "workspace": accounts.WORKSPACE, "owner": owner}
    chosen = port or (_noted(place) or {}).get("port") or PORT
    code, process = _launch(place, chosen, python, told)
    if code == _PORT_TAKEN and port is None:
        chosen = _free_port()
        code, process = _launch(place, chosen, python, told)
    if code is not None:
        raise LabError(_why(code, place, chosen))
    made = (Account(owner["username"], "owner", owner["api_key"], owner["password"]),) if is_first else ()
    return Server(_url(chosen), place, process.pid, owner["api_key"], made)


def _launch(place: Path, port: int, python: Path, told: dict[str, Any]) -> tuple[int | None, subprocess.Popen]:
    """Start the process and wait for its page; the exit code is None when it answers."""
    log = place / LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name(f"{LOG}.1"))
    given = {name: value for name, value in os.environ.items()
             if not name.startswith(("ARGILLA_", "PYTHON")) and name != "VIRTUAL_ENV"}  # settings of another server, or of the client
    given.update(PYTHONPATH=str(Path(__file__).parent), PYTHONNOUSERSITE="1", PYTHONUNBUFFERED="1")
    with log.open("ab") as output:
        process = subprocess.Popen([python, "-m", "argilla_side", place, str(port)], cwd=place, env=given, stdin=subprocess.PIPE,
                                   stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    with contextlib.suppress(BrokenPipeError):  # it ended already; its exit code says why
        process.stdin.write(json.dumps(told).encode())
        process.stdin.close()
    try:
        until = time.monotonic() + START_SECONDS
        while process.poll() is None:
            if _answers(_url(port)) and process.poll() is None:  # a server that holds the port already answers for another
                return None, process
            if time.monotonic() > until:
                raise LabError(f"the server did not answer within {START_SECONDS} s; see {log}")
            time.sleep(0.1)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, process


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _why(code: int, place: Path, port: int) -> str:
    if code == _PORT_TAKEN:
        return f"port {port} is taken by another program; choose another: labkit label up --port NUMBER"
    if code == _LOCKED:
        return f"another server works in {place}; end it with: labkit label down"
    if code == _DATABASE_NEWER:
        return f"{place / DATABASE} was made by a later version of Argilla than {environment.version()}; use that lab, or another folder"
    lines = [line.strip() for line in (place / LOG).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"the server ended with exit code {code} while starting: {lines[-1] if lines else 'no reason given'}; see {place / LOG}"
