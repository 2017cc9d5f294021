"""Votes: none is lost, none is mixed up, and the tally is arithmetic."""

import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.evaluation import votes
from labkit.evaluation.votes import Candidate, Vote
from tests import databases

ROOT = Path(__file__).resolve().parents[2]
BASE, OTHER_BASE = "b" * 64, "c" * 64


def candidates(*shown):
    """Sides in order from (run, adapter) pairs, or from names alone."""
    pairs = [each if isinstance(each, tuple) else (each, None if each == "base" else each[-1] * 64) for each in shown]
    return tuple(Candidate(side, run, f"answer {side}", BASE, adapter, "llama.cpp")
                 for side, (run, adapter) in zip("ABCD", pairs, strict=False))


def vote(choice, *shown, **settings):
    asked = [{"role": "system", "content": "Sort fruit."}, {"role": "user", "content": "an apple"}]
    plain = {"scenario": "small", "language": "en", "messages": asked, "candidates": candidates(*shown), "choice": choice}
    return Vote(**{**plain, **settings})


def cast_many(*all_of_them):
    for each in all_of_them:
        votes.cast(each)


def as_cast(row):
    """A row of `all_votes`, or a line of an export, as the vote that was cast."""
    plain = {key: value for key, value in row.items() if key not in ("id", "made")}
    return Vote(**{**plain, "candidates": tuple(Candidate(**each) for each in plain["candidates"])})


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, monkeypatch):
    """The default SQLite file, and a PostgreSQL database where LABKIT_TEST_POSTGRESQL names one (its votes are deleted)."""
    databases.use(request.param, monkeypatch, votes._TABLES)
    return request.param


# what is kept


def test_a_vote_comes_back_as_it_was_cast_with_its_id_and_time(database):
    before = datetime.now(UTC)
    shown = candidates("small/x", "base")
    cast = vote("B", candidates=(dataclasses.replace(shown[0], stopped=True), shown[1]), language="zh", reason="更好\n“简短”", blind=True,
                sampling={"temperature": 0.7, "seed": 3}, session="browser 1")
    identity = votes.cast(cast)
    [row] = votes.all_votes()
    assert as_cast(row) == cast and row["id"] == identity
    made = datetime.fromisoformat(row["made"])
    assert made.utcoffset().total_seconds() == 0 and abs((made - before).total_seconds()) < 60


def test_votes_come_in_the_order_in_which_they_were_cast_and_by_scenario(database):
    identities = [votes.cast(vote("A", "small/x", "base", scenario=name)) for name in ("one", "two", "one")]
    assert [row["id"] for row in votes.all_votes()] == identities == sorted(identities)
    assert [row["id"] for row in votes.all_votes("one")] == [identities[0], identities[2]]
    assert votes.all_votes("three") == []


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
PLAIN = st.recursive(st.none() | st.booleans() | st.integers(-2**60, 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)


@st.composite
def any_vote(draw):
    sides = "ABCD"[: draw(st.integers(2, 4))]
    shown = []
    for side in sides:
        run = draw(st.sampled_from(["base", "small/x", "small/y"]))
        shown.append(Candidate(side, run, draw(TEXT), draw(st.sampled_from([BASE, OTHER_BASE])), None if run == "base" else
                               draw(st.sampled_from(["1" * 64, "2" * 64])), draw(TEXT), draw(st.booleans())))
    return Vote(scenario=draw(st.sampled_from(["small", "large"])), language=draw(st.sampled_from(["en", "zh"])),
                messages=draw(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": TEXT}), min_size=1)),
                candidates=tuple(shown), choice=draw(st.sampled_from([*sides, "tie", "both_bad"])), reason=draw(TEXT),
                blind=draw(st.booleans()), sampling=draw(st.dictionaries(TEXT, PLAIN, max_size=4)), session=draw(TEXT))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cast=st.lists(any_vote(), max_size=5))
def test_all_votes_and_an_export_give_back_what_was_cast(cast, tmp_path):
    (tmp_path / "runs" / "lab.sqlite").unlink(missing_ok=True)
    cast_many(*cast)
    assert [as_cast(row) for row in votes.all_votes()] == cast
    assert votes.export(tmp_path / "votes.jsonl") == len(cast)
    lines = (tmp_path / "votes.jsonl").read_bytes().decode().split("\n")
    assert lines.pop() == "" and [json.loads(line) for line in lines] == votes.all_votes()
    for row in votes.tally():  # what must hold of any tally
        counted = row["first_wins"] + row["second_wins"] + row["ties"] + row["both_bad"]
        assert row["votes"] == counted <= sum(each.scenario == row["scenario"] for each in cast)
        assert row["first"] != row["second"] and (row["share"] is None or row["low"] <= row["share"] <= row["high"])


@pytest.mark.parametrize(("wrong", "says"), [
    ({"choice": "C"}, "one of A, B, tie, both_bad"),
    ({"choice": "a"}, "one of A, B, tie, both_bad"),
    ({"choice": ""}, "choice"),
    ({"candidates": candidates("base")}, "two to four answers, not 1"),
    ({"candidates": (*candidates("base", "small/x", "small/y", "small/z"), Candidate("E", "base", "", BASE, None, ""))}, "not 5"),
    ({"candidates": candidates("base", "small/x")[::-1]}, "in this order"),
    ({"candidates": candidates("base", "small/x")[:1] * 2}, "in this order"),
    ({"candidates": candidates("base", ("small/x", None))}, "no adapter"),
    ({"candidates": candidates(("base", "1" * 64), "small/x")}, "base has an adapter"),
    ({"candidates": candidates("base", "small")}, "neither a run"),
    ({"messages": []}, "what was asked"),
    ({"messages": [{"role": "user"}]}, "what was asked"),
    ({"language": "fr"}, "en or zh"),
    ({"scenario": ""}, "needs a scenario"),
    ({"reason": "a\0b"}, "NUL"),
    ({"reason": "half a character \ud83d"}, "plain text"),
    ({"sampling": {"temperature": float("nan")}}, "plain text"),
    ({"sampling": {1: "a"}}, "plain text"),
    ({"sampling": {"stop": {"a", "b"}}}, "plain text"),
])
def test_a_vote_that_cannot_be_is_refused_and_not_kept(wrong, says):
    with pytest.raises(LabError, match=says) as error:
        votes.cast(dataclasses.replace(vote("A", "base", "small/x"), **wrong))
    assert "\n" not in str(error.value)
    assert votes.all_votes() == []


def test_a_backslash_before_u0000_is_no_nul():
    cast = vote("A", "base", "small/x", reason="\\u0000 and \\\\u0000")
    votes.cast(cast)
    assert [as_cast(each) for each in votes.all_votes()] == [cast]


# the tally


def row(**settings):
    plain = {"scenario": "small", "first": "small/x", "second": "base", "first_wins": 0, "second_wins": 0, "ties": 0, "both_bad": 0,
             "votes": 0, "share": None, "low": None, "high": None}
    return {**plain, **settings}


def test_a_pair_is_counted_whichever_side_each_was_on(database):
    cast_many(vote("A", "small/x", "base"), vote("B", "base", "small/x"), vote("A", "base", "small/x"), vote("tie", "base", "small/x"),
              vote("both_bad", "small/x", "base"), vote("both_bad", "base", "small/x"))
    [found] = votes.tally()
    assert found == row(first_wins=2, second_wins=1, ties=1, both_bad=2, votes=6, share=2 / 3, low=found["low"], high=found["high"])
    # Wilson for 2 of 3: (2 + z²/2 ± z √(2/3 + z²/4)) / (3 + z²), z = 1.96
    assert (found["low"], found["high"]) == pytest.approx((0.2077, 0.9385), abs=5e-5)


def test_the_interval_is_wilsons():
    assert votes.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    square = 1.959963984540054**2
    assert votes.wilson(0, 10) == pytest.approx((0, square / (10 + square)))  # its closed form at the ends
    assert votes.wilson(10, 10) == pytest.approx((10 / (10 + square), 1))


def test_without_a_decided_vote_there_is_no_share():
    cast_many(vote("tie", "base", "small/x"), vote("both_bad", "base", "small/x"))
    assert votes.tally() == [row(ties=1, both_bad=1, votes=2)]


def test_a_win_among_four_counts_against_each_other_and_nothing_between_them():
    votes.cast(vote("C", "base", "small/x", "small/y", "small/z"))
    low, high = votes.wilson(1, 1)
    win = {"first_wins": 1, "votes": 1, "share": 1.0, "low": low, "high": high}
    loss = {"second_wins": 1, "votes": 1, "share": 0.0, "low": 1 - high, "high": 1 - low}
    found = votes.tally()
    for each, wanted in zip(found, [row(first="small/x", second="small/y", **loss), row(first="small/y", second="base", **win),
                                    row(first="small/y", second="small/z", **win)], strict=True):
        assert each == pytest.approx(wanted, abs=1e-12)


def test_a_tie_among_three_counts_for_every_pair():
    votes.cast(vote("tie", "base", "small/x", "small/y"))
    assert [(each["first"], each["second"], each["ties"], each["votes"]) for each in votes.tally()] == [
        ("small/x", "base", 1, 1), ("small/x", "small/y", 1, 1), ("small/y", "base", 1, 1)]


def test_a_checkpoint_against_itself_is_left_out_and_counts_once_against_another():
    cast_many(vote("A", "base", "base"), vote("B", "small/x", "small/x"))
    assert votes.tally() == []
    cast_many(vote("C", "base", "base", "small/x"), vote("tie", "base", "small/x", "base"), vote("A", "base", "base", "small/x"))
    [found] = votes.tally()
    assert (found["first_wins"], found["second_wins"], found["ties"], found["votes"]) == (1, 1, 1, 3)


def test_other_weights_under_the_same_name_are_listed_apart():
    old, new = ("small/x", "1" * 64), ("small/x", "2" * 64)
    cast_many(vote("A", old, "base"), vote("B", new, "base"), vote("B", old, new))
    assert [(each["first"], each["second"], each["first_wins"], each["second_wins"]) for each in votes.tally()] == [
        ("small/x@11111111", "base", 1, 0), ("small/x@11111111", "small/x@22222222", 0, 1), ("small/x@22222222", "base", 0, 1)]


def test_other_bases_are_told_apart_too():
    here, there = (dataclasses.replace(candidates("base")[0], base=base) for base in (BASE, OTHER_BASE))
    x = [dataclasses.replace(candidates("base", "small/x")[1], base=base) for base in (BASE, OTHER_BASE)]
    cast_many(vote("A", candidates=(here, x[0])), vote("A", candidates=(there, x[1])))
    assert [(each["first"], each["second"]) for each in votes.tally()] == [
        ("small/x@xxxxxxxx+bbbbbbbb", "base@bbbbbbbb"), ("small/x@xxxxxxxx+cccccccc", "base@cccccccc")]


def test_a_scenarios_tally_is_its_part_of_the_whole():
    old, new = ("small/x", "1" * 64), ("small/x", "2" * 64)
    cast_many(vote("A", old, "base", scenario="one"), vote("A", new, "base", scenario="two"))
    whole = votes.tally()
    assert [(each["scenario"], each["first"]) for each in whole] == [("one", "small/x"), ("two", "small/x")]
    assert votes.tally("one") == whole[:1] and votes.tally("none") == []


# many at once, and sudden ends


CASTS = """
import sys
from tests.evaluation.test_votes import vote, votes
for number in range(int(sys.argv[2])):
    print(votes.cast(vote("A", "base", "small/x", session=f"{sys.argv[1]} {number}")), flush=True)
"""


def caster(name, count):
    return subprocess.Popen([sys.executable, "-c", CASTS, name, str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_four_processes_that_cast_fifty_votes_each_lose_none(database):
    working = [caster(str(number), 50) for number in range(4)]
    told = [int(line) for each in working for line in each.communicate(timeout=120)[0].split()]
    assert [each.returncode for each in working] == [0] * 4
    found = votes.all_votes()
    assert sorted(told) == [row["id"] for row in found] and len(found) == 200
    assert {row["session"] for row in found} == {f"{name} {number}" for name in range(4) for number in range(50)}
    assert all(len(row["candidates"]) == 2 for row in found)


def test_threads_may_cast_at_the_same_time(database):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: votes.cast(vote("A", "base", "small/x", session=str(number))), range(80)))
    assert {row["id"]: row["session"] for row in votes.all_votes()} == {each: str(number) for number, each in enumerate(told)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_casts_on_a_connection_of_its_own(database):
    votes.cast(vote("A", "base", "small/x", session="parent"))
    child = os.fork()
    if child == 0:
        try:
            votes.cast(vote("A", "base", "small/x", session="child"))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    votes.cast(vote("A", "base", "small/x", session="parent again"))
    assert [row["session"] for row in votes.all_votes()] == ["parent", "child", "parent again"]


def test_kill_9_during_casts_leaves_every_acknowledged_vote(database, tmp_path):
    told = []
    for attempt in range(4):
        working = [caster(f"{attempt} {number}", 10_000) for number in range(2)]
        for each in working:
            told += [int(each.stdout.readline()) for _ in range(5)]
        time.sleep(0.01 * attempt)
        for each in working:
            each.send_signal(signal.SIGKILL)
        told += [int(line) for each in working for line in each.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
    found = votes.all_votes()
    assert set(told) <= {row["id"] for row in found}
    assert all(len(row["candidates"]) == 2 for row in found)
    if database == "sqlite":
        with sqlite3.connect(tmp_path / "runs" / "lab.sqlite") as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert opened.execute("SELECT count(*) FROM votes").fetchone() == (len(found),)


# databases that do not work


def test_the_default_database_is_a_file_in_the_runs_folder_in_wal_mode(tmp_path):
    votes.cast(vote("A", "base", "small/x"))
    with sqlite3.connect(tmp_path / "runs" / "lab.sqlite") as opened:
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with votes._connection() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # full
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_a_database_that_was_deleted_is_made_anew(tmp_path):
    votes.cast(vote("A", "base", "small/x"))
    for path in (tmp_path / "runs").glob("lab.sqlite*"):
        path.unlink()
    votes.cast(vote("B", "base", "small/x"))
    assert [row["choice"] for row in votes.all_votes()] == ["B"]


def expect_error(says):
    for work in (lambda: votes.cast(vote("A", "base", "small/x")), votes.tally, votes.all_votes):
        with pytest.raises(LabError, match=says) as error:
            work()
        assert "\n" not in str(error.value) and "SELECT" not in str(error.value)


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path):
    path = tmp_path / "runs" / "lab.sqlite"
    path.parent.mkdir()
    path.write_text("these are my notes " * 100)
    expect_error(f"{path} cannot be used: file is not a database; move that file away")
    assert path.read_text() == "these are my notes " * 100


def test_a_damaged_database_is_named(tmp_path):
    path = tmp_path / "runs" / "lab.sqlite"
    for _ in range(40):
        votes.cast(vote("A", "base", "small/x"))
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(LabError, match=f"{path} cannot be used: database disk image is malformed; move"):
        votes.all_votes()


def test_a_table_of_another_make_is_an_error_in_one_line(tmp_path):
    (tmp_path / "runs").mkdir()
    with sqlite3.connect(tmp_path / "runs" / "lab.sqlite") as opened:
        opened.execute("CREATE TABLE votes (id INTEGER PRIMARY KEY, name TEXT)")
    expect_error("lab.sqlite cannot be used: .*column")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "file" / "runs"))
    expect_error("cannot be used: .*Not a directory")


@pytest.mark.parametrize(("url", "says"), [
    ("notes.sqlite", "LABKIT_DATABASE is not a database's URL"),
    ("nosuch://host/db", "LABKIT_DATABASE is not a database's URL"),
    ("sqlite://", "would forget every vote"),
    ("sqlite:///:memory:", "would forget every vote"),
])
def test_a_url_that_cannot_be_used_says_so(monkeypatch, url, says):
    monkeypatch.setenv("LABKIT_DATABASE", url)
    expect_error(says)


def test_a_server_that_is_not_there_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("LABKIT_DATABASE", "postgresql://somebody:secret@127.0.0.1:9/votes")
    with pytest.raises(LabError) as error:
        votes.tally()
    assert "secret" not in str(error.value) and "\n" not in str(error.value)
    assert "psycopg" in str(error.value) or "127.0.0.1:9/votes cannot be used" in str(error.value)


def on_a_small_disk(tmp_path, mount_options, code):
    """Run code in a process that has a disk of its own mounted at `tmp_path`/disk; skips where that is not allowed."""
    (tmp_path / "disk").mkdir()
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", tmp_path / "disk"]).returncode:
        pytest.skip("no disk can be mounted here (unshare -rm)")
    shell = f"mount -t tmpfs -o {mount_options} x {tmp_path}/disk && exec {sys.executable} -c '{textwrap.dedent(code)}'"
    return subprocess.run(["unshare", "-rm", "sh", "-c", shell], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "LABKIT_RUNS": f"{tmp_path}/disk"}, timeout=120)


def test_a_full_disk_is_an_error_and_the_votes_before_it_are_kept(tmp_path):
    done = on_a_small_disk(tmp_path, "size=512k", """
        from labkit.errors import LabError
        from tests.evaluation.test_votes import vote, votes
        told = []
        try:
            while True:
                told.append(votes.cast(vote("A", "base", "small/x", reason="long " * 400)))
        except LabError as error:
            print(error)
        assert told and told == [row["id"] for row in votes.all_votes()][: len(told)], told
        """)
    assert done.returncode == 0, done.stderr
    assert "lab.sqlite cannot be used: database or disk is full; free some space" in done.stdout and len(done.stdout.splitlines()) == 1


def test_a_read_only_folder_is_an_error(tmp_path):
    done = on_a_small_disk(tmp_path, "ro", """
        from labkit.errors import LabError
        from tests.evaluation.test_votes import vote, votes
        try:
            votes.cast(vote("A", "base", "small/x"))
        except LabError as error:
            print(error)
        """)
    assert done.returncode == 0, done.stderr
    assert "lab.sqlite cannot be used: unable to open database file; make its folder writable" in done.stdout


# the command line


def test_the_command_exports_all_votes(tmp_path):
    cast_many(vote("A", "base", "small/x", reason="短"), vote("tie", "base", "small/x"))
    done = subprocess.run([sys.executable, "-c", "from labkit.cli import main; main()", "votes", "export",
                           str(tmp_path / "out" / "votes.jsonl")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "votes.jsonl: 2 votes" in done.stdout, done.stderr
    assert [json.loads(line) for line in (tmp_path / "out" / "votes.jsonl").read_text().splitlines()] == votes.all_votes()


def test_help_does_not_import_the_database_library():
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "from labkit.cli import main; main()", "votes", "--help"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "typer" in done.stderr and "sqlalchemy" not in done.stderr
