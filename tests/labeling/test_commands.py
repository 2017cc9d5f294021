"""`labkit label …` on a real server: records go up and come back, and what is asked of them is answered in one line or a table."""

import json

import pytest
from typer.testing import CliRunner

from labkit import cli, records, scenarios
from labkit.labeling.accounts import call

pytestmark = pytest.mark.slow


@pytest.fixture
def label(argilla_server, tmp_path, monkeypatch):
    """Runs `labkit label …` with a lab database of its own; returns what it printed."""
    monkeypatch.setenv("LABKIT_DATABASE", f"sqlite:///{tmp_path / 'lab.sqlite'}")
    monkeypatch.setenv("ARGILLA_API_URL", argilla_server.url)
    monkeypatch.setenv("ARGILLA_API_KEY", argilla_server.owner_key)

    def run(*arguments):
        done = CliRunner().invoke(cli.app, ["label", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.stdout

    return run


def labelled_by(server, name, dataset, answer_of):
    """Lets an annotator answer all records of a dataset: `answer_of(text)` gives the values by question."""
    key = next(account.api_key for account in server.accounts if account.username == name)
    there = next(each for each in call(server.url, key, "GET", "me/datasets")["items"] if each["name"] == dataset)
    page = call(server.url, key, "POST", f"me/datasets/{there['id']}/records/search?limit=100", {})["items"]
    for record in (each["record"] for each in page):
        said = " ".join(str(value) for value in record["fields"].values())
        call(server.url, key, "POST", f"records/{record['id']}/responses", {
            "values": {question: {"value": value} for question, value in answer_of(said).items()}, "status": "submitted"})
    return len(page)


def test_records_go_up_are_labelled_by_two_and_come_back(label, argilla_server, tmp_path):
    scenario = scenarios.load("customer_service")
    some = records.samples(scenario).select(range(12))
    records.write(some, tmp_path / "some.jsonl")
    arguments = ("-s", "customer_service", "--source", str(tmp_path / "some.jsonl"), "--dataset", "commands")
    assert "12 new" in label("push", *arguments, "--answers-each", "2")
    assert "12 as they were" in label("push", *arguments, "--answers-each", "2")
    assert "0 of 12 records are done" in label("progress", *arguments[:2], "--dataset", "commands")
    for name in ("ana", "bo"):
        assert labelled_by(argilla_server, name, "commands", lambda text: {"intent": "refund", "sentiment": "negative"}) == 12
    assert "12 of 12 records are done" in label("progress", *arguments[:2], "--dataset", "commands")
    out = tmp_path / "labelled.jsonl"
    assert "48 annotations by 2 annotators" in label("pull", *arguments, "--out", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12 and {row["answer"]["intent"] for row in rows} == {"refund"}
    assert "0 new or changed" in label("pull", *arguments)
    report = label("quality", "-s", "customer_service", "--out", str(tmp_path / "quality.json"))
    assert "ana" in report and "bo" in report
    assert json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))["records"] == 12


def test_gold_questions_and_a_count_choose_what_is_sent(label, tmp_path):
    scenario = scenarios.load("legal")
    rows = list(records.rows(records.samples(scenario).select(range(60))))
    pool = [row if number < 30 else {**row, "answer": {}} for number, row in enumerate(rows)]
    pool = [{**row, "id": records.content_id(row)} for row in pool]
    records.write(records.from_list(pool), tmp_path / "pool.jsonl")
    source = ("-s", "legal", "--source", str(tmp_path / "pool.jsonl"))
    chosen = label("next", *source, "--count", "5").splitlines()
    assert len(chosen) == 5 and {line.split()[0] for line in chosen} <= {row["id"] for row in pool[30:]}
    said = label("push", *source, "--dataset", "chosen", "--unlabelled", "--count", "8", "--gold", "4", "--suggest", "none")
    assert "4 gold questions among 12 records" in said and "12 new" in said


def test_a_mistake_is_one_line(label, tmp_path):
    with pytest.raises(Exception, match="does not exist"):
        label("push", "-s", "legal", "--source", str(tmp_path / "none.jsonl"))
    with pytest.raises(Exception, match="no annotations of legal were pulled yet"):
        label("quality", "-s", "legal")
    with pytest.raises(Exception, match="method must be one of"):
        label("pull", "-s", "legal", "--method", "dice")
