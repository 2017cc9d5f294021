"""The web app and JupyterLab together: started, watched, and ended with one Ctrl-C.

Each server runs as `python -m labkit.lab MODULE …`, which ends it when the lab's process is no more: it reads a pipe whose other
end only the lab holds, so that even `kill -9` of the lab leaves nothing behind.
"""

import contextlib
import os
import runpy
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from types import FrameType

import psutil

from labkit import places
from labkit.errors import LabError

HOST = "127.0.0.1"
_TOKEN = "LABKIT_JUPYTER_TOKEN"  # on a command line every user of the machine could read it
_START_SECONDS = 120
_END_SECONDS = 10  # JupyterLab gives a busy kernel 5 seconds


def check_port(port: int, variable: str) -> None:
    """LabError where something listens on this port already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise LabError(f"port {port} is taken by another program; choose another one: make lab {variable}={port + 1}") from None


def check_ports(port: int, jupyter_port: int) -> None:
    """LabError where the two servers cannot have these ports."""
    if port == jupyter_port:
        raise LabError(f"the web app and JupyterLab cannot share port {port}; choose another one: make lab JUPYTER_PORT={port + 1}")
    check_port(port, "PORT")
    check_port(jupyter_port, "JUPYTER_PORT")


def serve(port: int, jupyter_port: int) -> None:
    """Run both servers until Ctrl-C or SIGTERM; then end them and everything they started.

    Raises:
        LabError: a port is taken, or one of them did not come up or ended by itself.
    """
    check_ports(port, jupyter_port)
    token = secrets.token_urlsafe(16)
    commands = {
        "the web app": ["apps.main", "--port", str(port)],
        "JupyterLab": ["jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.ip={HOST}", f"--ServerApp.port={jupyter_port}",
                       "--ServerApp.port_retries=0", f"--ServerApp.root_dir={places.ROOT}",
                       "--LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb", "--LabApp.news_url=",
                       "--LabApp.extension_manager=readonly", "--log-level=ERROR", "--LabApp.log_level=ERROR"],
    }
    addresses = {"the web app": f"http://{HOST}:{port}/", "JupyterLab": f"http://{HOST}:{jupyter_port}/lab?token={token}"}
    started: dict[str, subprocess.Popen] = {}
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for name, command in commands.items():
            started[name] = subprocess.Popen([sys.executable, "-m", "labkit.lab", *command], cwd=places.ROOT, stdin=subprocess.PIPE,
                                             start_new_session=True,  # Ctrl-C in the terminal reaches this process alone
                                             env={**os.environ, **({_TOKEN: token} if name == "JupyterLab" else {})})
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


def _end(servers: list[subprocess.Popen]) -> None:
    """SIGTERM to the servers, which end their kernels in order; SIGKILL to what is left of them and their children after a while."""
    children = [child for server in servers if server.poll() is None for child in psutil.Process(server.pid).children(recursive=True)]
    for server in servers:
        server.terminate()
    until = time.monotonic() + _END_SECONDS
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(max(0.1, until - time.monotonic()))
    for each in (*children, *servers):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    for server in servers:
        server.wait()


def _end_with_parent() -> None:
    """End this process as SIGTERM does when standard input ends, which is when the process that holds its other end does."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    if _TOKEN in os.environ:
        sys.argv.append(f"--IdentityProvider.token={os.environ.pop(_TOKEN)}")
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
