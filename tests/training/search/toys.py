"""Trials that train nothing, at the top of a module so that other processes can be given them."""

import json
import math
import os
import signal
import time
from dataclasses import dataclass

from labkit.errors import LabError
from labkit.training.recipe import Recipe
from labkit.training.search import space

RECIPE = Recipe(scenario="toy")
TABLE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "rank": [4, 8, 16]}


def space_of(table=None):
    return space.of(RECIPE, table or TABLE)


def bowl(settings, report):
    """Lowest, 0, at a learning rate of 0.01; five steps that come down to it."""
    value = (math.log10(settings["learning_rate"]) + 2) ** 2
    for step in range(1, 6):
        report(step, value + 1 / step)
    return value


@dataclass(frozen=True)
class Logged:
    """Notes every beginning and end in a file, takes some time, and dies once at its `dies_at`-th beginning."""

    path: str
    seconds: float = 0.0
    dies_at: int = 0

    def __call__(self, settings, report):
        begun = self.note("begin", settings)
        if self.dies_at and begun == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        report(1, 1.0)
        time.sleep(self.seconds)
        self.note("end", settings)
        return (math.log10(settings["learning_rate"]) + 2) ** 2

    def note(self, what, settings):
        """Append a line; gives how many of the kind there are now."""
        line = json.dumps([what, os.getpid(), os.environ.get("OMP_NUM_THREADS"), settings]) + "\n"
        with open(self.path, "a") as file:  # one write of few bytes: whole, whoever else writes
            file.write(line)
        return sum(entry[0] == what for entry in notes(self.path))


def broken(settings, report):
    raise LabError("no such data")


def buggy(settings, report):
    return {}["missing"]


def notes(path):
    try:
        with open(path) as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
