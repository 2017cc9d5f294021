"""A server of the suite's own, that a test may stop, kill and start again."""

import os
import signal
import time
from pathlib import Path

from labkit.labeling import server
from tests.ports import free_port


class Served:
    """The lab's Argilla in `folder`, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url, self.owner_key, self.pid = f"http://127.0.0.1:{self.port}", "", 0

    def start(self) -> None:
        up = server.up(self.folder, self.port)
        self.owner_key, self.pid = up.owner_key, up.pid

    def stop(self) -> None:
        server.down(self.folder)

    def kill(self) -> None:
        """End the process as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        until = time.monotonic() + 10
        while server.running(self.folder):
            assert time.monotonic() < until, "the killed server still holds its folder"
            time.sleep(0.02)
