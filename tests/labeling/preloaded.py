"""Run by the server's own Python: imports the server once, then starts it as often as it is told to, each time in a process of its own.

    PYTHONPATH=labkit/labeling PYTHON preloaded.py FOLDER PORT SECRET

Each line of standard input is what `argilla_side` reads from its own, and starts a server; the answer is a line with the process's number.
Twenty servers start so in the time of a few; what they run is what `python -m argilla_side` runs after its imports.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from argilla_side import __main__ as launcher
from filelock import FileLock


def main(folder, port, secret):
    launcher.configure(folder, port, secret)
    loaded = launcher.load(folder)
    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            run(folder, port, json.loads(line), loaded)
        print(process, flush=True)
        os.waitpid(process, 0)
        print("ended", flush=True)


def run(folder, port, told, loaded):
    code = 1
    try:
        with FileLock(folder / "server.lock", timeout=3):
            listener = launcher.bound(port)
            launcher.note(folder, port)
            launcher.serve(folder, listener, told, *loaded)
            code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
