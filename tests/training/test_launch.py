"""Several processes take the same steps as one."""

import pytest

from labkit import records, runs
from labkit.errors import LabError
from labkit.training import launch, trainer
from labkit.training.recipe import Recipe


@pytest.fixture()
def shared(tmp_path, monkeypatch, tiny_base):
    """A cache for all processes, and a scenario's name that they know."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    return tiny_base


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_processes_have_the_loss_curve_of_one(shared, tmp_path, method):
    from labkit import scenarios

    scenario = scenarios.load(scenarios.names()[0])
    samples = records.samples(scenario)
    rows = records.from_list([row for split, count in (("train", 24), ("validation", 4))
                              for row in list(records.rows(records.in_split(samples, split)))[:count]])
    records.write(rows, tmp_path / "some.jsonl")
    recipe = lambda name: Recipe(scenario=scenario.name, name=name, base=shared, method=method, layers=2, rank=4, batch_size=6, epochs=2,  # noqa: E731
                                 precision="fp32", dropout=0.0, ema=0.5, learning_rate=1e-3)
    alone = trainer.train(recipe("alone"), rows, scenario)
    launch.run(recipe("together"), str(tmp_path / "some.jsonl"), processes=2)
    together = runs.find(f"{scenario.name}/together")
    assert together.state() == "done" and len(together.metrics()) == len(alone.metrics()) == 8
    for one, other in zip(alone.metrics(), together.metrics(), strict=True):
        for key in ("loss", "gradient_norm", "validation_loss"):
            assert other.get(key) == pytest.approx(one.get(key), abs=1e-4)


def test_a_launcher_that_there_is_not_is_named():
    with pytest.raises(LabError, match="--launcher must be none or accelerate, not 'mpi'"):
        launch.check("mpi")
