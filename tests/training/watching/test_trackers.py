"""Trackers: what they are given, and what happens where they are missing or fail."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from labkit import runs
from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.watching import trackers
from labkit.training.watching.trackers import watchers


class Listening:
    """A tracker that keeps what it is told."""

    def __init__(self, fails_at=None):
        self.started, self.rows, self.finished, self.fails_at = [], [], 0, fails_at

    def start(self, run, settings, before):
        self.started.append((run.key, settings["rank"], [row["step"] for row in before]))

    def log(self, row):
        if row["step"] == self.fails_at:
            raise ConnectionError("the tracker's server is away")
        self.rows.append(row["step"])

    def finish(self):
        self.finished += 1


@pytest.fixture
def run():
    found = runs.Run(runs.folder_for("small", "watched"))
    found.folder.mkdir(parents=True)
    recipes.write(Recipe("small", "watched", rank=7), found.folder / "recipe.toml")
    return found


def row_of(step):
    return {"step": step, "steps": 9, "epoch": 0, "loss": 1.0, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens": 5,
            "tokens_per_second": 5.0, "seconds": float(step)}


def test_a_tracker_is_started_with_recipe_and_earlier_rows_and_finished_at_the_end(run):
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row_of(step)) + "\n" for step in (1, 2, 3)))
    mine = Listening()
    with watchers([mine], run) as on_step:
        assert mine.started == []  # the recipe of this training may not be written yet
        on_step(row_of(3))
        on_step(row_of(4))
    assert mine.started == [("small/watched", 7, [1, 2])] and mine.rows == [3, 4] and mine.finished == 1


def test_a_tracker_that_fails_is_told_of_once_and_the_others_go_on(run):
    bad, good, said = Listening(fails_at=2), Listening(), []
    with watchers([bad, good], run, said.append) as on_step:
        for step in (1, 2, 3):
            on_step(row_of(step))
    assert bad.rows == [1] and good.rows == [1, 2, 3] and (bad.finished, good.finished) == (0, 1)
    assert said == ["tracker Listening failed and gets no more rows of run small/watched: ConnectionError: the tracker's server is away"]


def test_trackers_are_finished_where_training_fails(run):
    mine = Listening()
    with pytest.raises(LabError, match="diverged"), watchers([mine], run) as on_step:
        on_step(row_of(1))
        raise LabError("diverged")
    assert mine.finished == 1


def test_a_tracker_that_is_not_installed_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    expected = "tracker mlflow needs a package that is not installed; run: pip install mlflow"
    with pytest.raises(LabError, match=expected), watchers(["mlflow"], run):
        raise AssertionError("it began")


def test_an_unknown_tracker_lists_the_known_ones():
    with pytest.raises(LabError, match="no tracker 'excel'; known: tensorboard, mlflow, wandb, trackio"):
        trackers.make("excel")


def test_weights_and_biases_is_offline_by_default(run, monkeypatch):
    """Its real package is not a dependency: the calls it documents are what is held here (docs.wandb.ai, `wandb.init`)."""
    seen = []
    module = ModuleType("wandb")
    module.__spec__ = SimpleNamespace(name="wandb")
    opened = SimpleNamespace(log=lambda values, step: seen.append((values, step)), finish=lambda: None)
    module.init = lambda **given: seen.append(given) or opened
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with watchers(["wandb"], run) as on_step:
        on_step(row_of(1))
    assert seen[0]["mode"] == "offline" and seen[0]["config"]["rank"] == 7 and seen[0]["dir"] == run.folder
    assert seen[1] == ({"epoch": 0, "loss": 1.0, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens": 5, "tokens_per_second": 5.0,
                        "seconds": 1.0}, 1)
