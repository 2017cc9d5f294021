"""A run as TensorBoard's event files, in `RUN/tensorboard/`: `tensorboard --logdir runs` shows all runs side by side.

Written through tensorboardX's own record writer, at once and in this thread (its `SummaryWriter` queues for a thread whose errors nobody
sees). Looking at them needs the package `tensorboard`, which need not be installed here.
"""

import time
from typing import Any

from labkit.errors import LabError
from labkit.runs import Run
from labkit.training.watching import trackers

_FLUSH_SECONDS = 2.0
_TAGS = {"loss": "loss/training", "validation_loss": "loss/validation", "learning_rate": "steps/learning_rate",
         "gradient_norm": "steps/gradient_norm", "tokens_per_second": "speed/tokens_per_second", "seconds": "speed/seconds",
         "memory_gb": "speed/memory_gb", "gpu_memory_gb": "speed/gpu_memory_gb", "epoch": "steps/epoch", "tokens": "speed/tokens"}


class TensorBoard:
    """A `Tracker`. When a training goes on, its file is written anew from the run's metrics, and begins with the mark by which TensorBoard
    drops what it read before, so that no step is there twice. The last earlier file stays: a TensorBoard that is open waits at its end."""

    def start(self, run: Run, settings: dict[str, Any], before: list[trackers.Row]) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event, self._summary, self._began = Event, summary, None
        folder = trackers.folder_of(run)
        earlier = sorted(folder.glob("*.tfevents.*")) if folder.is_dir() else []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
            self._writer.write_event(Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)))
            self._text("recipe", 0, "\n".join(f"    {name} = {value!r}" for name, value in settings.items()))
            if before:
                self._began = time.time() - before[-1]["seconds"]
            for row in before:
                self._write(row)
            self._flush()
            for path in earlier[:-1]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise LabError(f"cannot write into {folder}: {error.strerror or error}") from error

    def log(self, row: trackers.Row) -> None:
        if self._began is None:
            self._began = time.time() - row["seconds"]
        self._write(row)
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS or "validation_loss" in row:
            self._flush()

    def finish(self) -> None:
        self._writer.close()

    def _write(self, row: trackers.Row) -> None:
        at = self._began + row["seconds"]
        event = self._event(wall_time=at, step=row["step"])
        for name, number in trackers.numbers(row).items():
            event.summary.value.extend(self._summary.scalar(_TAGS.get(name, name), number).value)
        self._writer.write_event(event)
        for place, each in enumerate(row.get("answers") or []):
            said = {key: "\n".join(f"    {line}" for line in str(each[key]).splitlines()) for key in ("prompt", "answer", "wanted")}
            self._text(f"answers/{place + 1}", row["step"], "\n\n".join(f"{key}:\n\n{text}" for key, text in said.items()), at)

    def _text(self, tag: str, step: int, text: str, at: float | None = None) -> None:
        """Texts are shown as Markdown: what is indented stands as it is."""
        event = self._event(wall_time=at or time.time(), step=step)
        event.summary.CopyFrom(self._summary.text(tag, text))
        self._writer.write_event(event)

    def _flush(self) -> None:
        self._writer.flush()
        self._flushed = time.monotonic()
