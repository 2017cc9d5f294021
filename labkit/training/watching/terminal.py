"""A training seen in a terminal: a bar with what matters now, a line for each measurement, an answer now and then. Where nobody looks (a
log file, a continuous integration), plain lines every so often instead of a bar."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from labkit.training.watching import memory
from labkit.training.watching.diagnosis import Diagnosis
from labkit.training.watching.pace import Pace, duration

OnPrepare = Callable[[int, int], None]
OnStep = Callable[[dict[str, Any]], None]

_WORDS = {
    "en": {"frozen": "frozen layers", "records": " records", "training": "training", "steps": " steps", "loss": "loss", "rate": "rate",
           "norm": "gradient", "speed": "{speed:,.0f} tokens/s", "memory": "{memory:.1f} GB", "left": "{left} left",
           "step": "step {step:,} of {steps:,}", "measured": "step {step:,}: {values}", "validation_loss": "validation loss",
           "prompt": "prompt", "answer": "answer", "wanted": "wanted", "warning": "warning", "prepared": "{done:,} of {total:,} records"},
    "zh": {"frozen": "冻结层", "records": " 条", "training": "训练", "steps": " 步", "loss": "损失", "rate": "学习率",
           "norm": "梯度", "speed": "{speed:,.0f} 词元/秒", "memory": "{memory:.1f} GB", "left": "还需 {left}",
           "step": "第 {step:,} / {steps:,} 步", "measured": "第 {step:,} 步：{values}", "validation_loss": "验证损失",
           "prompt": "输入", "answer": "回答", "wanted": "期望", "warning": "警告", "prepared": "{done:,} / {total:,} 条记录"},
}
_PREVIEW = 160  # characters of a prompt or an answer
_MEMORY_SECONDS = 1.0


@contextlib.contextmanager
def watch(title: str, file: TextIO | None = None, *, every_seconds: float = 10.0, language: str = "en", max_seconds: float = 0.0,
          answers: int = 1) -> Iterator[tuple[OnPrepare, OnStep]]:
    """(on_prepare, on_step) for `trainer.train`; the bars are closed when the block ends.

    Args:
        title: what is being trained.
        file: where to; by default the error stream. A bar is drawn only on a terminal.
        every_seconds: between two lines where it is none.
        language: `en` or `zh`.
        max_seconds: the recipe's, for the time that is left.
        answers: how many of the model's answers are shown after a measurement that has them.

    Example:
        >>> with watch("customer_service/default") as (on_prepare, on_step):                        # doctest: +SKIP
        ...     trainer.train(recipe, records, scenario, on_step=on_step, on_prepare=on_prepare)
    """
    file = file or sys.stderr
    show = (_Bars if file.isatty() else _Lines)(title, file, _WORDS[language], every_seconds)
    watched = _Watched(show, language, max_seconds, answers)
    try:
        yield show.prepare, watched.step
    finally:
        show.close()


class _Watched:
    """What is said about each row."""

    def __init__(self, show: "_Bars | _Lines", language: str, max_seconds: float, answers: int) -> None:
        self.show, self.language, self.words, self.answers = show, language, _WORDS[language], answers
        self.pace, self.diagnosis = Pace(max_seconds), Diagnosis(memory.limit_gb())
        self.memory, self.measured = 0.0, -_MEMORY_SECONDS

    def step(self, row: dict[str, Any]) -> None:
        if time.monotonic() - self.measured >= _MEMORY_SECONDS:
            self.memory, self.measured = row.get("memory_gb") or memory.resident_gb(), time.monotonic()
        self.pace.see(row)
        self.show.step(row, self._figures(row))
        said = self.words
        values = {said["validation_loss"]: row.get("validation_loss"), **(row.get("validation") or {})}
        listed = ", ".join(f"{name} {_number(value)}" for name, value in values.items() if isinstance(value, int | float))
        if listed:
            self.show.line(said["measured"].format(step=row["step"], values=f"{said['loss']} {_number(self.pace.loss)}, {listed}"))
        for each in (row.get("answers") or [])[: self.answers]:
            for key in ("prompt", "answer", "wanted"):
                self.show.line(f"  {said[key]}: {_preview(each[key])}")
        for concern in self.diagnosis.see({**row, "memory_gb": self.memory}):
            self.show.line(f"{said['warning']}: {concern.said(self.language)}")

    def _figures(self, row: dict[str, Any]) -> str:
        said = self.words
        parts = [f"{said['loss']} {_number(self.pace.loss)}", f"{said['rate']} {row['learning_rate']:.1e}",
                 f"{said['norm']} {row['gradient_norm']:.2g}", said["speed"].format(speed=row["tokens_per_second"]),
                 said["memory"].format(memory=self.memory)]
        if self.pace.seconds_left is not None:
            parts.append(said["left"].format(left=duration(self.pace.seconds_left, self.language)))
        return ", ".join(parts)


class _Bars:
    """For a terminal."""

    def __init__(self, title: str, file: TextIO, words: dict[str, str], every_seconds: float) -> None:
        self.title, self.file, self.words = title, file, words
        self.bars: dict[str, Any] = {}

    def prepare(self, done: int, total: int) -> None:
        bar = self._bar("frozen", total, 0, "records")
        bar.update(done - bar.n)
        if done >= total:
            bar.refresh()

    def step(self, row: dict[str, Any], figures: str) -> None:
        bar = self._bar("training", row["steps"], row["step"] - 1, "steps")
        bar.set_postfix_str(figures, refresh=False)
        bar.update(row["step"] - bar.n)
        if row["step"] == row["steps"]:
            bar.refresh()

    def line(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=self.file)

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()

    def _bar(self, name: str, total: int, initial: int, unit: str) -> Any:
        from tqdm import tqdm

        if name not in self.bars:
            shape = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]" if name == "training" else None
            self.bars[name] = tqdm(total=total, initial=initial, desc=f"{self.title} {self.words[name]}", unit=self.words[unit],
                                   file=self.file, dynamic_ncols=True, bar_format=shape)
        return self.bars[name]


class _Lines:
    """For a file."""

    def __init__(self, title: str, file: TextIO, words: dict[str, str], every_seconds: float) -> None:
        self.title, self.file, self.words, self.every = title, file, words, every_seconds
        self.said = -every_seconds

    def prepare(self, done: int, total: int) -> None:
        if self._due() or done >= total:
            self.line(f"{self.words['frozen']}: {self.words['prepared'].format(done=done, total=total)}")

    def step(self, row: dict[str, Any], figures: str) -> None:
        if self._due() or row["step"] == row["steps"]:
            self.line(f"{self.words['step'].format(**row)}: {figures}")

    def line(self, text: str) -> None:
        print(f"{self.title} {text}", file=self.file, flush=True)

    def close(self) -> None:
        """Nothing is open."""

    def _due(self) -> bool:
        if time.monotonic() - self.said < self.every:
            return False
        self.said = time.monotonic()
        return True


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def _preview(text: str) -> str:
    """One line without what steers a terminal."""
    text = "".join(letter if letter.isprintable() else " " for letter in " ".join(str(text).split()))
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"
