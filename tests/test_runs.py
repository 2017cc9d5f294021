"""The catalogue: what is listed, what is sound, what is never served."""

import json

import pytest

from labkit import files, places, runs, scenarios
from labkit.errors import LabError


@pytest.fixture()
def run(small_scenario):
    """A finished run without weights worth the name."""
    folder = places.runs_folder() / "small" / "one"
    (folder / "adapter").mkdir(parents=True)
    scenarios.write(small_scenario, folder / "scenario.toml")
    (folder / "recipe.toml").write_text('scenario = "small"\n')
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    names = ["recipe.toml", "adapter/adapter_model.safetensors"]
    files.write_json(folder / "manifest.json", {"files": {name: files.sha256_of(folder / name) for name in names}})
    return runs.Run(folder)


def test_a_finished_run_is_found_by_its_key(run, small_scenario):
    assert runs.find("small/one") == run and run.state() == "done" and run.scenario == small_scenario
    assert runs.catalogue() == [run]


def test_an_altered_or_missing_file_is_reported(run):
    (run.adapter_folder / "adapter_model.safetensors").write_bytes(b"Weights")
    assert runs.verify(run) == ["adapter/adapter_model.safetensors was altered after training"] and run.state() == "damaged"
    (run.folder / "recipe.toml").unlink()
    assert "recipe.toml is missing" in runs.verify(run)
    assert runs.catalogue() == [run]


def test_an_unknown_run_lists_the_known_ones(run):
    with pytest.raises(LabError, match="small/two.*small/one"):
        runs.find("small/two")


def test_a_run_is_training_while_its_lock_is_held(run):
    (run.folder / "manifest.json").unlink()
    assert run.state() == "stopped"
    with runs.lock(run.folder):
        assert run.state() == "training"
    assert run.state() == "stopped"


def test_metrics_can_be_read_while_a_line_is_being_written(run):
    (run.folder / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n" + '{"step": ')
    assert run.metrics() == [{"step": 1}]


def test_an_unfinished_run_has_no_manifest(run):
    (run.folder / "manifest.json").unlink()
    with pytest.raises(LabError, match="not finished"):
        run.manifest()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_a_name_that_would_leave_the_folder_is_refused(name):
    with pytest.raises(LabError, match="cannot be a run's name"):
        runs.folder_for("small", name)
