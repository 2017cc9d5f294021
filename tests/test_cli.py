"""The command line: help with an example, one clear line and exit code 2 for a user's mistake."""

import os
import subprocess
import sys
import time

import pytest

from labkit import scenarios
from labkit.cli import app

VERBS = ["build", "prepare", "vault", "train", "evaluate", "chat", "compare", "app", "runs", "doctor", "lab"]
VERBS += ["search", "prefer", "runs pause", "runs resume", "runs stop", "runs evaluate", "runs compare"]
VERBS += [f"label {verb}" for verb in ("up", "down", "status", "password", "backup", "restore", "push", "pull", "progress", "quality",
                                       "errors", "next", "cost", "votes push", "votes pull", "votes pairs")]


def labkit(*words, cwd=None, **environment):
    command = [sys.executable, "-c", "from labkit.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=cwd)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    from typer.testing import CliRunner

    shown = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert shown.exit_code == 0 and f"Example: labkit {verb}" in shown.output


@pytest.mark.parametrize(("words", "says"), [
    (["build", "-s", "cooking"], "there is no scenario 'cooking'"),
    (["build", "-s", "finance", "--set", "epochs=none"], "epochs must be a int"),
    (["build", "-s", "finance", "--set", "epoch=3"], "epoch is not a setting"),
    (["build", "-s", "finance", "--set", "epochs"], "KEY=VALUE"),
    (["build", "--source", "x.csv"], "exactly one --scenario"),
    (["build", "-s", "customer_service", "--source", "nowhere.csv", "--map", "text=a,intent=b"], "nowhere.csv: does not exist"),
    (["build", "-s", "customer_service", "--source", "nowhere.csv", "--map", "text=a,mood=b"], "no field 'mood'"),
    (["evaluate", "finance/none"], "there is no run"),
    (["evaluate"], "which run?"),
    (["chat", "finance/none"], "there is no run"),
    (["compare", "finance", "base", "--prompt", "x"], "two to four"),
    (["train", "--recipe", "nowhere.toml"], "nowhere.toml does not exist"),
    (["prepare", "-s", "legal", "--source", "a.doc", "--map", "text=a,category=b", "--out", "x.jsonl"], "a.doc: does not exist"),
    (["train"], "scenario is missing"),
    (["train", "-s", "legal", "--data", "samples/sentiment"], "--data is in place of --scenario"),
    (["train", "--data", "samples/nothing"], "no sample is called 'nothing'"),
    (["train", "-s", "legal", "--task", "juggle"], "there is no task 'juggle'"),
    (["train", "-s", "legal", "--launcher", "mpi"], "--launcher must be none or accelerate"),
    (["train", "-s", "legal", "--launcher", "accelerate", "--track", "paper"], "there is no tracker 'paper'"),
    (["train", "-s", "legal", "--launcher", "accelerate", "--language", "fr"], "--language must be one of en, zh"),
    (["train", "-s", "legal", "--task", "classify", "--minutes", "1"], "--minutes chooses how many layers a chat model adapts"),
    (["search", "nowhere.toml"], "nowhere.toml"),
    (["search", "nowhere.toml", "--data", "samples/sentiment"], "nowhere.toml does not exist"),
    (["search", "nowhere.toml", "--data", "samples/sentiment", "--source", "some.jsonl"], "--data is in place of --source"),
    (["train", "--data", "samples/sentiment", "--task", "tag"], "task is 'tag', but samples/sentiment is for 'classify'"),
    (["prefer", "-s", "legal", "--set", "colour=1"], "colour is not a setting"),
    (["prefer", "-s", "legal"], "there are no preference pairs"),
    (["runs", "pause", "finance/none"], "there is no run"),
    (["label", "push", "-s", "cooking"], "there is no scenario 'cooking'"),
    (["label", "push", "-s", "legal", "--source", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
    (["label", "next", "-s", "legal", "--language", "fr"], "--language must be one of en, zh"),
    (["label", "next", "-s", "legal"], "every record is labelled already"),
    (["label", "push", "-s", "legal", "--gold", "3"], "gold questions would be the only ones without a suggestion"),
    (["label", "restore", "nowhere.zip", "--folder", "nowhere"], "nowhere.zip"),
])
def test_a_mistake_ends_in_one_line_and_exit_code_2_and_leaves_nothing_behind(words, says, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = labkit(*words, cwd=empty)
    assert done.returncode == 2 and says in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(empty.iterdir())


def test_an_unknown_option_ends_in_exit_code_2():
    done = labkit("build", "--colour", "red")
    assert done.returncode == 2 and "--colour" in done.stderr and "Traceback" not in done.stderr


def test_help_and_import_take_less_than_a_second():
    best = {}
    for words in (["-c", "import labkit"], ["-c", "from labkit.cli import main; main()", "--help"]):
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True)
            best[words[1]] = min(best.get(words[1], 9.0), time.perf_counter() - began)
    assert all(seconds < 1.0 for seconds in best.values()), best


def test_runs_says_what_to_do_when_there_are_none():
    done = labkit("runs")
    assert done.returncode == 0 and "labkit build" in done.stdout


def test_doctor_finds_this_machine_in_order():
    done = labkit("doctor")
    assert done.returncode == 0, done.stdout
    for what in ("Python", "packages", "cores", "memory", "disk", "GPU", "engine", "base model", "runs"):
        assert f"{what}: " in done.stdout


def test_prepare_writes_records_scenario_and_rejects(tmp_path):
    from labkit import records

    source = tmp_path / "mine.csv"
    source.write_text("message,kind\nwhere is it now,late\nplease give my money back,gone\n,gone\n", encoding="utf-8")
    done = labkit("prepare", "-s", "customer_service", "--source", str(source), "--map", "text=message,intent=kind",
                  "--out", str(tmp_path / "out.jsonl"))
    assert done.returncode == 0, done.stderr
    scenario = scenarios.read(tmp_path / "out.scenario.toml")
    assert len(records.read(tmp_path / "out.jsonl", scenario)) == 2
    assert '"row":4' in (tmp_path / "out.rejects.jsonl").read_text()


def test_what_was_masked_comes_back_out_of_the_vault_with_its_passphrase_alone(tmp_path):
    source, out, vault = tmp_path / "mine.csv", tmp_path / "out.jsonl", tmp_path / "mine.vault"
    rows = "message,kind\nplease write to ann.b@example.com about my lamp,late\nmy money is still not back,gone\n"
    source.write_text(rows, encoding="utf-8")
    words = ("prepare", "-s", "customer_service", "--source", str(source), "--map", "text=message,intent=kind", "--out", str(out),
             "--vault", str(vault))
    refused = labkit(*words, LABKIT_VAULT_PASSPHRASE="short")
    assert refused.returncode == 2 and "the passphrase has 5 characters" in refused.stderr and not out.exists()
    assert labkit(*words, LABKIT_VAULT_PASSPHRASE="long enough").returncode == 0
    assert "ann.b" not in out.read_text(encoding="utf-8")
    assert '"text":"ann.b@example.com"' in labkit("vault", str(vault), LABKIT_VAULT_PASSPHRASE="long enough").stdout
    assert labkit("vault", str(vault), LABKIT_VAULT_PASSPHRASE="another one").returncode == 2


def test_ctrl_c_says_what_to_do_next(tmp_path):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom labkit import cli\n" \
           "from labkit import scenarios; scenarios.names = lambda: signal.raise_signal(signal.SIGINT)\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code, "build"], capture_output=True, text=True)
    assert done.returncode == 130 and "goes on from its last checkpoint" in done.stderr and "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = labkit("votes", "export", str(tmp_path / "file" / "votes.jsonl"), LABKIT_RUNS=str(tmp_path / "100% mine?"))
    assert done.returncode == 2 and "cannot write" in done.stderr and "Traceback" not in done.stderr
