"""Several processes take the same steps as one."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from labkit import records, runs
from labkit.errors import LabError
from labkit.training import launch, trainer
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from tests.ports import free_port
from tests.training.tasks import tiny


@pytest.fixture()
def shared(tmp_path, monkeypatch, tiny_base):
    """A cache for all processes, and a scenario's name that they know."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return tiny_base


@pytest.fixture()
def some(tmp_path):
    """A scenario, and a few of its samples as rows and as a file: 25 to learn from, so that the last of five batches of 6 has one record,
    and one of two processes none."""
    from labkit import scenarios

    scenario = scenarios.load(scenarios.names()[0])
    samples = records.samples(scenario)
    rows = records.from_list([row for split, count in (("train", 25), ("validation", 4))
                              for row in list(records.rows(records.in_split(samples, split)))[:count]])
    records.write(rows, tmp_path / "some.jsonl")
    return scenario, rows, str(tmp_path / "some.jsonl")


def recipe(scenario, name, base, **changes):
    return Recipe(**{"scenario": scenario.name, "name": name, "base": base, "layers": 2, "rank": 4, "batch_size": 6, "epochs": 2,
                     "precision": "fp32", "dropout": 0.0, "ema": 0.5, "learning_rate": 1e-3, **changes})


def learned(run):
    """What the run saved, by name."""
    from safetensors.torch import load_file

    found = {}
    for folder in ("adapter", "model"):
        for path in (run.folder / folder).glob("*.safetensors"):
            found |= load_file(path)
    return found


def check_same(alone, together, steps, relative=0.0):
    """Two runs have the same loss curve and end in the same weights."""
    assert together.state() == "done" and len(together.metrics()) == len(alone.metrics()) == steps
    for one, other in zip(alone.metrics(), together.metrics(), strict=True):
        for key in ("loss", "validation_loss"):
            assert other.get(key) == pytest.approx(one.get(key), abs=1e-4)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], abs=1e-4, rel=relative)
    one, other = learned(alone), learned(together)
    assert one and one.keys() == other.keys()
    for name, value in one.items():
        assert value.shape == other[name].shape and (value - other[name]).abs().max() < 1e-3, name


@pytest.mark.slow
@pytest.mark.parametrize(("method", "shard"), [("lora", False), ("full", False), ("lora", True), ("full", True)])
def test_two_processes_have_the_loss_curve_of_one_and_its_weights(shared, some, method, shard):
    scenario, rows, file = some
    changes = {"method": method, "shard": shard, "patience": 9, "checkpoint_steps": 4}
    alone = trainer.train(recipe(scenario, "alone", shared, **changes), rows, scenario)
    launch.run(recipe(scenario, "together", shared, **changes), file, processes=2)
    check_same(alone, runs.find(f"{scenario.name}/together"), 10, 2e-4 if shard else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("machines", "processes"), [(1, 2), (2, 1)])
def test_what_torchrun_starts_on_one_machine_or_on_two_ends_like_one_process(shared, some, tmp_path, machines, processes):
    """As `labkit train --help` says; two machines are two torchruns here, which find each other by host and port."""
    scenario, rows, file = some
    alone = trainer.train(recipe(scenario, "alone", shared), rows, scenario)
    recipes.write(recipe(scenario, "together", shared), tmp_path / "together.toml")
    words = ["--nnodes", str(machines), "--nproc-per-node", str(processes), "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = [subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *words, "--node-rank", str(rank), "-m",
                                 "labkit.training.launched", str(tmp_path / "together.toml"), "--source", file], env=environment)
               for rank in range(machines)]
    try:
        assert [process.wait(300) for process in started] == [0] * machines
    finally:
        for process in started:
            process.kill()
    check_same(alone, runs.find(f"{scenario.name}/together"), 10)


@pytest.mark.slow
def test_the_first_process_warns_shows_and_tracks_as_one_alone_would(tmp_path, capfd):
    base = tiny.save_tiny_bert(tmp_path / "bert")
    wanted = Recipe(scenario="samples-sentiment", base=base, task="classify", method="full", token_drop=0.0, max_tokens=8, max_steps=2)
    launch.run(wanted, data="samples/sentiment", processes=2, trackers=["tensorboard"], language="zh")
    run = runs.find("samples-sentiment/default")
    assert run.state() == "done" and recipes.read(run.folder / "recipe.toml") == wanted
    out, told = capfd.readouterr()
    warned = [line for line in out.splitlines() if "longer than 8 tokens" in line]
    assert warned and len(set(warned)) == len(warned)  # by one process alone
    assert "第 2 / 2 步" in told
    assert list((run.folder / "tensorboard").glob("*.tfevents.*"))


def test_a_tracker_that_there_is_not_is_refused_before_anything_starts(shared, some):
    scenario, _, file = some
    with pytest.raises(LabError, match="there is no tracker 'paper'"):
        launch.run(recipe(scenario, "together", shared), file, processes=2, trackers=["paper"])
    assert not runs.folder_for(scenario.name, "together").exists()


@pytest.mark.slow
def test_divided_layers_are_stopped_and_gone_on_with(shared, some):
    """The first training is interrupted at a step, with its processes; the second one goes on from the checkpoint."""
    scenario, _, file = some
    changes = {"method": "full", "shard": True, "epochs": 20, "checkpoint_steps": 1000}
    launch.run(recipe(scenario, "whole", shared, **changes), file, processes=2)
    whole = runs.find(f"{scenario.name}/whole")
    wanted = recipe(scenario, "halted", shared, **changes)
    halted = runs.Run(runs.folder_for(scenario.name, "halted"))
    halted.folder.mkdir(parents=True)
    recipes.write(wanted, halted.folder / "first.toml")
    process = subprocess.Popen([*launch.command(halted.folder / "first.toml", ["--source", file], 2)],
                               env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"})
    while len(halted.metrics()) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert halted.state() != "done" and 10 <= len(halted.metrics()) < len(whole.metrics())
    launch.run(wanted, file, processes=2)
    assert halted.state() == "done"
    assert [row["loss"] for row in halted.metrics()] == [row["loss"] for row in whole.metrics()]
    one, other = learned(whole), learned(halted)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_cannot_be_divided_is_refused():
    for changes in ({"task": "classify"}, {"optimiser": "lion"}, {"quantised": "nf4"}):
        with pytest.raises(LabError, match="shard is for task `chat` with optimiser `adamw`"):
            Recipe(scenario="small", shard=True, **changes)


def test_a_launcher_that_there_is_not_is_named():
    with pytest.raises(LabError, match="--launcher must be none or accelerate, not 'mpi'"):
        launch.check("mpi")
