"""Start the server: `python -m argilla_side FOLDER PORT`, in the foreground, until SIGTERM or Ctrl-C.

Reads one JSON object from standard input: `secret` (signs the sessions of the web page), `workspace`, and `owner` (username, password,
api_key), who is made when the database is. Holds FOLDER/server.lock for as long as it lives, and writes FOLDER/server.json once it does,
so that nobody has to trust the number of a process that may be gone. The exit codes below say what the lab can explain.
"""

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

LOCKED, PORT_TAKEN, DATABASE_NEWER = 31, 32, 33


def main(folder: Path, port: int) -> None:
    """Serve until told to stop."""
    from filelock import FileLock, Timeout

    for kind in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has ended: in order, so that workers are waited for
        signal.signal(kind, lambda number, frame: sys.exit(0))
    told = json.load(sys.stdin)
    lock = FileLock(folder / "server.lock")
    try:
        lock.acquire(timeout=3)  # a look whether the lock is held holds it for a moment
    except Timeout:
        fail(LOCKED, f"another server works in {folder}")
    listener = bound(port)
    note(folder, port)
    configure(folder, port, told["secret"])
    serve(folder, listener, told, *load(folder))


def fail(code: int, message: str) -> None:
    """End with a line in the log and a code that the lab understands."""
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def bound(port: int) -> socket.socket:
    """A socket of this machine alone; taken before anything slow, so that a taken port is known at once."""
    listener = socket.socket()
    if os.name != "nt":  # there it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        fail(PORT_TAKEN, f"port {port}: {error.strerror}")
    return listener


def note(folder: Path, port: int) -> None:
    """Write which process serves this folder, and where."""
    part = folder / "server.json.part"
    part.write_text(json.dumps({"pid": os.getpid(), "port": port, "started": time.time()}))
    part.replace(folder / "server.json")


def configure(folder: Path, port: int, secret: str) -> None:
    """Settings of the server, by its own environment variables, before it is imported."""
    os.environ.update({
        "ARGILLA_HOME_PATH": str(folder),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'argilla.sqlite'}?check_same_thread=False",
        # A batch of records holds the writer's place for seconds; whoever saves an answer meanwhile waits, and 5 seconds are too few.
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": "60",
        "ARGILLA_SEARCH_ENGINE": "labkit",
        "ARGILLA_AUTH_SECRET_KEY": secret,
        # The page comes from the server itself, so no other page needs to ask it.
        "ARGILLA_CORS_ORIGINS": json.dumps([f"http://127.0.0.1:{port}", f"http://localhost:{port}"]),
        "ARGILLA_SHOW_HUGGINGFACE_SPACE_PERSISTENT_STORAGE_WARNING": "0",
        "ARGILLA_ENABLE_TELEMETRY": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    })
    if os.environ.get("LABKIT_ONLINE") != "1":
        os.environ["HF_HUB_OFFLINE"] = "1"
    # The server copies its web page into a temporary folder at every start and leaves it there.
    temporary = folder / "temporary"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    tempfile.tempdir = str(temporary)


def load(folder: Path) -> tuple:
    """Import the server with the lab's parts in place; returns its application and the job journal, which is not open yet."""
    import warnings

    warnings.filterwarnings("ignore", message=".*ARGILLA_ENABLE_TELEMETRY.*")
    from argilla_side import jobs, speed

    journal = jobs.install(folder / "jobs.sqlite")
    speed.load_late()
    import argilla_side.search.engine  # noqa: F401, I001  registers itself as `labkit`
    from argilla_server._app import app

    speed.install(app)
    jobs.connect()
    return app, journal


def serve(folder: Path, listener: socket.socket, told: dict, app, journal) -> None:
    """Prepare the database, then run the server's own application on the socket, and its jobs beside it."""
    import uvicorn
    from argilla_side import database, jobs

    try:
        database.prepare(folder / "argilla.sqlite", told["owner"], told["workspace"])
    except database.Newer as error:
        fail(DATABASE_NEWER, str(error))
    with jobs.working(journal):
        config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
