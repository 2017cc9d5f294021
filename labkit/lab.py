"""The web app and JupyterLab together: started, watched, and ended with one Ctrl-C."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import FrameType

from labkit import places
from labkit.errors import LabError

HOST = "127.0.0.1"
_START_SECONDS = 120
_END_SECONDS = 8


def check_port(port: int, variable: str) -> None:
    """LabError where something listens on this port already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise LabError(f"port {port} is taken by another program; choose another one: make lab {variable}={port + 1}") from None


def serve(port: int, jupyter_port: int) -> None:
    """Run both servers until Ctrl-C or SIGTERM; then end them and everything they started.

    Raises:
        LabError: one of them did not come up or ended by itself.
    """
    token = secrets.token_urlsafe(16)
    commands = {
        "the web app": [sys.executable, "-m", "apps.main", "--port", str(port)],
        "JupyterLab": [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.ip={HOST}",
                       f"--ServerApp.port={jupyter_port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
                       f"--ServerApp.root_dir={places.ROOT}", "--LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb",
                       "--LabApp.news_url=", "--LabApp.extension_manager=readonly", "--ServerApp.log_level=ERROR"],
    }
    addresses = {"the web app": f"http://{HOST}:{port}/", "JupyterLab": f"http://{HOST}:{jupyter_port}/lab?token={token}"}
    started: dict[str, subprocess.Popen] = {}
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for name, command in commands.items():
            started[name] = subprocess.Popen(command, cwd=places.ROOT, start_new_session=True, stdin=subprocess.DEVNULL)
        for name, address in addresses.items():
            _wait_until_up(name, address, started)
        print(f"\n  chat and compare   {addresses['the web app']}\n  notebooks          {addresses['JupyterLab']}\n\n"
              "Ctrl-C ends both.", flush=True)
        while True:
            _check_alive(started)
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nending the web app and JupyterLab …", flush=True)
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        _end(list(started.values()))
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wait_until_up(name: str, address: str, started: dict[str, subprocess.Popen]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        _check_alive(started)
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers, if only to refuse
        except OSError:
            time.sleep(0.2)
    raise LabError(f"{name} did not answer at {address} within {_START_SECONDS} seconds")


def _check_alive(started: dict[str, subprocess.Popen]) -> None:
    for name, process in started.items():
        if process.poll() is not None:
            raise LabError(f"{name} ended by itself with code {process.returncode}; its messages are above")


def _end(processes: list[subprocess.Popen]) -> None:
    """SIGTERM to each process's group, SIGKILL to what is left after a while (kernels live in the group of their server)."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    until = time.monotonic() + _END_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, until - time.monotonic()))
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
