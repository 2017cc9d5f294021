"""`labkit build` from somebody's own file to an evaluated run, and again, and after something went wrong."""

import json
import shutil
import threading

import pytest
from typer.testing import CliRunner

from labkit import records, runs
from labkit.cli import app
from labkit.errors import LabError
from labkit.evaluation import report
from labkit.training import trainer

LABELS = ["lost card", "top up", "冻结"]
BAD = {  # line of the file: (its bytes, what is said about it)
    4: (b",lost card", "column 'message' is empty"),
    13: (b"too,many,cells", "3 cells where the header has 2"),
    17: (b"too few", "1 cells where the header has 2"),
    22: (b"caf\xe9,top up", "not UTF-8 text"),
    30: (b"half a\0line,top up", "holds a NUL character"),
    31: (b"   ,top up", "column 'message' is empty"),
}
UNLABELLED = 9
LAST = 61
WORDS = ["card", "parcel", "window", "branch", "teapot", "garden", "ticket", "harbour", "mirror", "candle", "saddle", "lantern"]
# Texts that no step changes or takes for one another
TEXTS = {number: f"Where is my {WORDS[number % 12]} for the {WORDS[(number // 12 * 5 + number + 1) % 12]}" +
         f" that you {['sent', 'sold', 'lost', 'kept', 'took', 'made'][number // 12]}" for number in range(2, LAST + 1)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture()
def mine(tmp_path):
    """A CSV of 60 rows on the lines 2 to 61; six of them do not work, one has no label."""
    lines = [b"message,kind"]
    for number in range(2, LAST + 1):
        good = f"{TEXTS[number]},{LABELS[number % 3]}".encode()
        lines.append(BAD[number][0] if number in BAD else good.split(b",")[0] + b"," if number == UNLABELLED else good)
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture()
def build(mine, tiny_base):
    """Runs `labkit build` on that file; returns what it printed."""

    def once(*more, exit_code=0):
        done = CliRunner().invoke(app, [
            "build", "-s", "customer_service", "--source", str(mine), "--map", "text=message,intent=kind", "--base", tiny_base,
            "--set", "max_steps=2", "--set", "rank=2", "--set", "layers=1", "--set", "precision=fp32", *more])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == exit_code, done.output
        return done.output

    return once


def files_of(run):
    """Every file of a run but its lock and what is written on each read of the source, with content and time of change."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.folder.rglob("*")
            if path.is_file() and path.name != ".lock" and not path.name.startswith("prepared.")}


def test_a_file_of_ones_own_becomes_an_evaluated_run_and_no_row_is_lost(build):
    said = build()
    run = runs.find("customer_service/mine")  # named after the file
    assert run.state() == "done" and run.scenario.field("intent").values == sorted(LABELS)

    kept = records.read(run.folder / "records.jsonl", run.scenario)
    rejects = [json.loads(line) for line in (run.folder / "prepared.rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {reject["row"]: reject["problem"] for reject in rejects} == {line: problem for line, (_, problem) in BAD.items()}
    dropped = [json.loads(line) for line in (run.folder / "prepared.dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row["meta"]["row"] for row in kept] + [row["row"] for row in rejects + dropped] + [UNLABELLED]
    assert sorted(rows) == list(range(2, LAST + 1))
    assert all(row["messages"] == [{"role": "user", "content": TEXTS[row["meta"]["row"]]}] and
               row["answer"] == {"intent": LABELS[row["meta"]["row"] % 3]} for row in kept)

    assert f"of {LAST - 1} rows {len(kept) + 1} became records" in said and f"{len(BAD)} rejected" in said
    assert "1 records have no answer" in said
    assert "row 4: column 'message' is empty" in said and f"{len(BAD)} rows did not work; all are in" in said
    assert (run.folder / "prepared.report.html").exists()
    assert "customer_service/mine: ready" in said
    assert run.evaluation()["records"]["count"] == kept["split"].count("test") > 0
    assert run.evaluation()["adapter"] == run.manifest()["adapter"]["sha256"]
    assert run.manifest()["data"]["fingerprint"] == records.fingerprint(kept)
    assert len(run.metrics()) == 2


def test_a_second_build_does_nothing_again(build, monkeypatch):
    build()
    run = runs.find("customer_service/mine")
    before = files_of(run)
    monkeypatch.setattr(report, "evaluate", lambda *arguments: pytest.fail("evaluated again"))
    assert "customer_service/mine: ready" in build()
    assert files_of(run) == before


def test_a_build_whose_evaluation_was_interrupted_goes_on_with_the_evaluation_alone(build, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(report.predict, "predict", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        build(exit_code=130)
    run = runs.find("customer_service/mine")
    assert run.state() == "done" and run.evaluation() is None
    before = files_of(run)
    assert "customer_service/mine: ready" in build()
    after = files_of(run)
    written = {path.name for path in after if after[path] != before.get(path)}
    assert written == {"evaluation.json", "predictions.jsonl", "README.md", "records.jsonl"}
    assert run.evaluation()["adapter"] == run.manifest()["adapter"]["sha256"]


def test_a_training_that_was_stopped_is_trained_to_its_end_and_evaluated(build, monkeypatch):
    real = trainer.train

    def stopped_at_once(*arguments, **named):
        stop = threading.Event()
        stop.set()
        real(*arguments, **named, stop=stop)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", stopped_at_once)
        build(exit_code=130)
    run = runs.find("customer_service/mine")
    assert run.state() == "stopped" and len(run.metrics()) == 1
    build()
    assert run.state() == "done" and [row["step"] for row in run.metrics()] == [1, 2] and run.evaluation()


@pytest.mark.parametrize("change", ["altered", "missing"])
def test_a_damaged_run_says_what_is_wrong_and_what_to_do_and_that_works(build, change):
    build()
    run = runs.find("customer_service/mine")
    weights = run.adapter_folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x") if change == "altered" else weights.unlink()
    with pytest.raises(LabError) as error:
        build()
    what = "was altered after training" if change == "altered" else "is missing"
    assert str(error.value) == (f"run customer_service/mine is damaged (adapter/adapter_model.safetensors {what}); "
                                f"delete {run.folder} to train it anew")
    shutil.rmtree(run.folder)
    build()
    assert run.state() == "done"


def test_another_file_under_the_same_name_is_not_mixed_into_a_finished_run(build, mine):
    build()
    mine.write_bytes(mine.read_bytes() + b"one more question,top up\n")
    with pytest.raises(LabError, match="finished already, with another recipe or other data; choose another name"):
        build()
    build("--name", "more")
    assert runs.find("customer_service/more").manifest()["data"] != runs.find("customer_service/mine").manifest()["data"]
