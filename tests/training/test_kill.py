"""Trainings that are really killed, run out of disk or memory, or meet what is no number, each in a process of its own.

The processes are forked from one that has imported everything (Python's forkserver), so that none pays for it again.
"""

import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from labkit import places, records, runs, scenarios
from labkit.errors import LabError
from labkit.training import checkpoint, learner, trainer  # noqa: F401  (the forkserver imports them by this file)
from labkit.training import chat, chat_plain, encoders  # noqa: F401
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from tests.conftest import save_tiny
from tests.training.tasks import tiny

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([__name__, "peft", "transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture()
def kept(tmp_path, small_records, small_scenario):
    """Records and scenario as files, for other processes."""
    records.write(small_records, tmp_path / "records.jsonl")
    scenarios.write(small_scenario, tmp_path / "scenario.toml")
    return tmp_path


def train(recipe, kept, environment, limit=None, said=None):
    """What a child does: train as the command would. `limit`: called first, to make the machine smaller. What a LabError says goes
    through `said`, and the exit code is 2."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    scenario = scenarios.read(kept / "scenario.toml")
    rows = records.read(kept / "records.jsonl", scenario)
    if limit:
        limit()
    try:
        trainer.train(recipe, rows, scenario)
    except LabError as error:
        said.send(str(error))
        sys.exit(2)


def start(recipe, kept, **more):
    environment = {name: value for name, value in os.environ.items() if name.startswith("LABKIT_")}
    process = _FORKED.Process(target=train, args=(recipe, kept, environment), kwargs=more)
    process.start()
    return process


def trained(recipe, kept, **more):
    """The run, trained to its end in a process of its own."""
    process = start(recipe, kept, **more)
    process.join(120)
    assert process.exitcode == 0
    return run_of(recipe)


def complaint(recipe, kept, **more):
    """What a training that cannot go on says."""
    here, there = _FORKED.Pipe(duplex=False)
    process = start(recipe, kept, said=there, **more)
    process.join(120)
    assert process.exitcode == 2
    return here.recv()


def run_of(recipe):
    return runs.Run(runs.folder_for(recipe.scenario, recipe.name))


def rows_seen(run):
    path = run.folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def weights_of(run):
    return load_file(run.weights_path)


def far(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def told(run):
    """What a run says of its steps, without times."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second")} for row in run.metrics()]


# kill -9


@pytest.mark.parametrize("kind", ["lora", "full", "encoder", "everything"])
def test_a_training_that_is_killed_again_and_again_ends_in_the_same_weights_and_rows(kind, tiny_base, kept, tmp_path):
    common = {"scenario": "small", "base": tiny_base, "layers": 2, "rank": 4, "batch_size": 2, "epochs": 15, "precision": "fp32",
              "checkpoint_steps": 7, "dropout": 0.1}
    changes = {
        "lora": {},
        "full": {"method": "full", "checkpoint_steps": 3, "epochs": 6},
        "encoder": {"base": tiny.save_tiny_bert(tmp_path / "bert"), "task": "classify", "method": "full", "weight_decay": 0.01},
        "everything": {"optimiser": "muon", "ema": 0.9, "patience": 30, "evaluate_steps": 2, "neftune": 5.0},
    }[kind]
    recipe = lambda name: Recipe(**{**common, **changes, "name": name})  # noqa: E731
    whole, killed = trained(recipe("whole"), kept), run_of(recipe("killed"))
    steps = len(whole.metrics())
    for wanted in (steps // 8, steps // 2, steps - 2):  # before the first checkpoint, half-way, shortly before the end
        process = start(recipe("killed"), kept)
        until = time.monotonic() + 60
        while rows_seen(killed) < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL and killed.state() == "stopped"
    trained(recipe("killed"), kept)
    assert killed.weights_sha256() == whole.weights_sha256()
    assert told(killed) == told(whole)
    assert not list(killed.folder.rglob("*.part")) and not (killed.folder / "checkpoint").exists()
