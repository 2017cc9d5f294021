"""TensorBoard's files, read back by TensorBoard itself."""

import json

import pytest

from labkit import runs
from labkit.errors import LabError
from labkit.training import recipe as recipes
from labkit.training.recipe import Recipe
from labkit.training.watching import trackers
from labkit.training.watching.trackers import watchers


def row_of(step, loss=None, **more):
    loss = 3.0 / step if loss is None else loss
    return {"step": step, "steps": 10, "epoch": 0, "loss": loss, "learning_rate": 1e-3, "gradient_norm": 0.5, "tokens": 100,
            "tokens_per_second": 50.0, "seconds": 2.0 * step, **more}


@pytest.fixture
def run():
    found = runs.Run(runs.folder_for("small", "watched"))
    found.folder.mkdir(parents=True)
    recipes.write(Recipe("small", "watched", rank=7), found.folder / "recipe.toml")
    return found


def written(run, *rows):
    """Into metrics.jsonl, as the loop writes them."""
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def read_back(run):
    """What TensorBoard's own reader makes of the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(trackers.folder_of(run)), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def texts(found, tag):
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors(f"{tag}/text_summary")]


def test_every_figure_of_every_row_is_there(run):
    rows = [row_of(1), row_of(2, memory_gb=1.5, validation_loss=0.75, validation={"macro_f1": 0.25})]
    with watchers(["tensorboard"], run) as on_step:
        for row in rows:
            written(run, row)
            on_step(row)
    found = read_back(run)
    points = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert points["loss/training"] == [(1, 3.0), (2, 1.5)]
    assert points["loss/validation"] == [(2, 0.75)] and points["validation/macro_f1"] == [(2, 0.25)]
    assert points["speed/memory_gb"] == [(2, 1.5)]
    assert points["steps/learning_rate"] == [(1, pytest.approx(1e-3)), (2, pytest.approx(1e-3))]
    assert points["speed/tokens_per_second"] == [(1, 50.0), (2, 50.0)]
    times = [event.wall_time for event in found.Scalars("loss/training")]
    assert times[1] - times[0] == pytest.approx(2.0)
    assert "rank = 7" in texts(found, "recipe")[0][1]


def test_answers_stand_as_they_are_in_both_languages(run):
    answer = {"prompt": "**Where** is\nmy card?", "answer": "<img src=x onerror=alert(1)>", "wanted": "取卡"}
    with watchers(["tensorboard"], run) as on_step:
        on_step(row_of(1, answers=[answer]))
    step, text = texts(read_back(run), "answers/1")[0]
    assert step == 1
    for line in ("    **Where** is", "    my card?", "    <img src=x onerror=alert(1)>", "    取卡"):
        assert line in text.splitlines()  # indented: Markdown takes it for code


def test_a_training_that_goes_on_has_no_step_twice(run):
    rows = [row_of(step) for step in range(1, 7)]
    with watchers(["tensorboard"], run) as on_step:
        for row in rows:
            on_step(row)
    written(run, *rows[:3])  # killed; the loop dropped what came after the checkpoint at step 3
    with watchers(["tensorboard"], run) as on_step:
        for step in (4, 5):
            row = row_of(step, loss=9.0)
            written(run, row)
            on_step(row)
    points = [(event.step, event.value) for event in read_back(run).Scalars("loss/training")]
    assert points == [(1, 3.0), (2, 1.5), (3, 1.0), (4, 9.0), (5, 9.0)]


def test_a_reader_that_was_open_meanwhile_sees_no_step_twice(run):
    with watchers(["tensorboard"], run) as on_step:
        for step in range(1, 7):
            on_step(row_of(step))
    reader = read_back(run)
    assert len(reader.Scalars("loss/training")) == 6
    with watchers(["tensorboard"], run) as on_step:
        for step in range(1, 4):
            on_step(row_of(step, loss=9.0))
    reader.Reload()
    assert [(event.step, event.value) for event in reader.Scalars("loss/training")] == [(1, 9.0), (2, 9.0), (3, 9.0)]


def test_what_was_written_can_be_read_while_training_goes_on(run):
    with watchers(["tensorboard"], run) as on_step:
        on_step(row_of(1, validation_loss=0.5))
        assert read_back(run).Scalars("loss/validation")[0].value == 0.5


def test_a_run_is_exported_afterwards(run):
    written(run, *(row_of(step) for step in range(1, 4)))
    for _ in range(4):
        assert trackers.export(["tensorboard"], run) == 3
    assert len(list(trackers.folder_of(run).iterdir())) == 2  # they do not pile up
    assert [event.step for event in read_back(run).Scalars("loss/training")] == [1, 2, 3]


def test_a_run_without_metrics_is_a_clear_error(run):
    with pytest.raises(LabError, match="small/watched has no metrics yet"):
        trackers.export(["tensorboard"], run)


def test_a_folder_that_cannot_be_written_is_told_and_training_goes_on(run):
    trackers.folder_of(run).write_text("a file where the folder should be")
    said = []
    with watchers(["tensorboard"], run, said.append) as on_step:
        on_step(row_of(1))
        on_step(row_of(2))
    assert len(said) == 1 and "tracker tensorboard failed" in said[0] and "small/watched" in said[0]
