"""Starting, ending, moving and asking a real server."""

import contextlib
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from labkit.errors import LabError
from labkit.labeling import accounts, server
from tests.labeling.asking import found, log_in, make_dataset, respond, who_is, with_status
from tests.ports import free_port


@pytest.fixture
def taken_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_everybody_gets_a_password_of_their_own_and_logs_in_with_it(argilla_server):
    assert [(each.username, each.role) for each in argilla_server.accounts] == \
        [("owner", "owner"), ("ana", "annotator"), ("bo", "annotator"), ("晨", "annotator")]
    assert len({each.password for each in argilla_server.accounts} | {each.api_key for each in argilla_server.accounts}) == 8
    for each in argilla_server.accounts:
        assert who_is(argilla_server.url, log_in(argilla_server.url, each.username, each.password)) == each.username


def test_passwords_and_keys_are_not_in_what_a_server_prints_of_itself(argilla_server):
    said = repr(argilla_server)
    assert not any(secret in said for each in argilla_server.accounts for secret in (each.password, each.api_key))


def test_passwords_are_kept_nowhere_and_the_owners_key_is_for_the_owner_alone(argilla_server):
    kept = argilla_server.folder / server.CREDENTIALS
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(argilla_server.folder.stat().st_mode) == 0o700
    for path in argilla_server.folder.rglob("*"):
        if path.is_file() and "temporary" not in path.parts:
            content = path.read_bytes()
            assert not any(each.password.encode() in content for each in argilla_server.accounts), path


def test_the_server_listens_on_this_machine_alone_and_talks_to_nobody_else(argilla_server):
    connections = psutil.Process(argilla_server.pid).net_connections()
    assert {each.laddr.ip for each in connections} == {"127.0.0.1"}
    assert {each.raddr.ip for each in connections if each.raddr} <= {"127.0.0.1"}


def test_up_beside_a_running_server_returns_it_and_adds_only_who_is_missing(argilla_server):
    again = server.up(argilla_server.folder, annotators=("ana", "dora"))
    assert (again.url, again.pid, again.owner_key) == (argilla_server.url, argilla_server.pid, argilla_server.owner_key)
    assert [each.username for each in again.accounts] == ["dora"]
    accounts.remove(again.url, again.owner_key, "dora")


def test_a_running_server_is_not_moved_to_another_port(argilla_server):
    with pytest.raises(LabError, match="runs already at " + argilla_server.url):
        server.up(argilla_server.folder, free_port())


def test_who_lost_a_password_gets_a_new_one_and_the_old_one_ends(argilla_server):
    old = accounts.add(argilla_server.url, argilla_server.owner_key, "eve")
    new = server.password("eve", argilla_server.folder)
    assert who_is(argilla_server.url, log_in(argilla_server.url, "eve", new.password)) == "eve"
    with pytest.raises(urllib.error.HTTPError):
        log_in(argilla_server.url, "eve", old.password)
    accounts.remove(argilla_server.url, argilla_server.owner_key, "eve")


def test_status_says_where_it_is_and_what_it_takes(argilla_server):
    seen = server.status(argilla_server.folder)
    assert seen.server.url == argilla_server.url and seen.version == "2.8.0" and seen.jobs == 0
    assert abs(seen.started.timestamp() - psutil.Process(argilla_server.pid).create_time()) < 30
    assert 100e6 < seen.memory_bytes < 1e9 and seen.disk_bytes > 1e5
    assert server.connection(argilla_server.folder) == (argilla_server.url, argilla_server.owner_key)


def test_where_nothing_runs_status_says_so_and_a_connection_is_refused_in_one_line(tmp_path):
    seen = server.status(tmp_path / "none")
    assert seen.server is None and seen.memory_bytes is None and seen.disk_bytes == 0
    with pytest.raises(LabError, match="labkit label up"):
        server.connection(tmp_path / "none")
    assert server.down(tmp_path / "none") is False


def test_a_wrong_key_or_name_is_one_line(argilla_server):
    with pytest.raises(LabError, match="the API key is not known there"):
        accounts.everybody(argilla_server.url, "wrong")
    with pytest.raises(LabError, match="not unique"):
        accounts.add(argilla_server.url, argilla_server.owner_key, "ana")
    with pytest.raises(LabError, match="no account nobody"):
        server.password("nobody", argilla_server.folder)


def test_what_is_at_the_address_of_no_server_is_one_line():
    with pytest.raises(LabError, match="does not answer"):
        accounts.everybody(f"http://127.0.0.1:{free_port()}", "key")


def test_by_default_it_lies_in_the_runs_folder(tmp_path):
    assert server.home() == tmp_path / "runs" / "argilla"


@pytest.mark.slow
def test_a_second_start_keeps_everything_and_takes_less_than_20_seconds(own_server, tmp_path):
    first = own_server()
    dataset, records = make_dataset(first.url, first.owner_key, "kept", ["a red apple", "一个梨"])
    respond(first.url, first.owner_key, records[0], "apple")
    session = log_in(first.url, "owner", first.accounts[0].password)
    assert server.down(first.folder) is True
    assert not psutil.pid_exists(first.pid) or psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE
    with pytest.raises(LabError, match="does not answer"):
        accounts.everybody(first.url, first.owner_key)

    began = time.monotonic()
    second = server.up(first.folder)
    assert time.monotonic() - began < 20
    assert (second.url, second.owner_key, second.accounts) == (first.url, first.owner_key, ())
    assert who_is(second.url, session) == "owner"  # nobody has to log in again
    assert found(second.url, second.owner_key, dataset, "梨") == 1
    assert found(second.url, second.owner_key, dataset, filters=with_status("submitted")) == 1


@pytest.mark.slow
def test_a_killed_server_leaves_nothing_to_repair(own_server):
    first = own_server()
    os.kill(first.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while server.running(first.folder):
        assert time.monotonic() < until
        time.sleep(0.05)
    note = first.folder / "server.json"  # it names a process that is gone; another may have its number now
    note.write_text(note.read_text().replace(str(first.pid), str(os.getpid())))
    assert server.running(first.folder) is None and server.down(first.folder) is False
    (first.folder / server.CREDENTIALS).unlink()  # and the owner's key is in the database still
    second = server.up(first.folder)
    assert second.owner_key == first.owner_key and second.url == first.url


@pytest.mark.slow
def test_a_server_that_is_dying_is_waited_for_and_another_started(own_server):
    first = own_server()
    server.down(first.folder)
    holds = "import filelock, sys, time; filelock.FileLock(sys.argv[1]).acquire(); print(flush=True); time.sleep(2)"
    dying = subprocess.Popen([sys.executable, "-c", holds, first.folder / "server.lock"], stdout=subprocess.PIPE)
    dying.stdout.readline()  # it holds the lock as one does that was killed and has closed its port
    note = first.folder / "server.json"
    note.write_text(note.read_text().replace(str(first.pid), str(dying.pid)))
    second = server.up(first.folder)
    assert dying.poll() == 0 and second.pid != dying.pid
    assert "owner" in {each.username for each in accounts.everybody(second.url, second.owner_key)}


@pytest.mark.slow
def test_a_taken_port_is_one_line_where_it_was_asked_for_and_else_another_is_taken(own_server, monkeypatch, taken_port, tmp_path):
    with pytest.raises(LabError, match=f"port {taken_port} is taken"):
        own_server(port=taken_port)
    monkeypatch.setattr(server, "PORT", taken_port)
    (tmp_path / "argilla" / "server.json").unlink(missing_ok=True)
    started = own_server(port=None)
    assert started.url != f"http://127.0.0.1:{taken_port}"
    assert [each.username for each in started.accounts] == ["owner"]  # the start that failed had made nobody


@pytest.mark.slow
def test_two_servers_side_by_side_know_nothing_of_each_other(own_server, argilla_server):
    other = own_server()
    assert other.url != argilla_server.url
    make_dataset(other.url, other.owner_key, "only here", ["a"])
    there = accounts.call(argilla_server.url, argilla_server.owner_key, "GET", "me/datasets")["items"]
    assert "only here" not in [each["name"] for each in there]
    with pytest.raises(LabError, match="not known"):
        accounts.everybody(other.url, argilla_server.owner_key)
    server.down(other.folder)
    assert server.running(argilla_server.folder)


@pytest.mark.slow
def test_a_database_of_a_later_argilla_is_refused_and_left_as_it_is(own_server, tmp_path):
    first = own_server()
    server.down(first.folder)
    with contextlib.closing(sqlite3.connect(first.folder / server.DATABASE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(LabError, match="later version of Argilla"):
        server.up(first.folder)
    with contextlib.closing(sqlite3.connect(first.folder / server.DATABASE)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("ffffffffffff",)
        assert database.execute("SELECT count(*) FROM users").fetchone() == (1,)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGHUP])
def test_a_server_in_the_foreground_ends_with_its_terminal(argilla_python, tmp_path, ending):
    code = (f"from labkit.labeling import server; started = server.up({str(tmp_path / 'front')!r}, {free_port()}); "
            "print('up', flush=True); server.follow(started)")
    heard = lambda: signal.signal(ending, signal.SIG_DFL)  # what started the tests may have told them not to hear it  # noqa: E731
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    try:
        assert process.stdout.readline() == "up\n"
        assert server.running(tmp_path / "front")
        time.sleep(0.5)
        process.send_signal(ending)
        assert process.wait(30) == 0
        assert server.running(tmp_path / "front") is None
    finally:
        process.stdout.close()
        server.down(tmp_path / "front")


def test_a_name_that_is_none_is_refused_before_anything_is_begun(argilla_python, tmp_path):
    for name in ("", " ana", "a" * 101):
        with pytest.raises(LabError, match="no name for an annotator"):
            server.up(tmp_path / "named", annotators=["bo", name])
    assert not (tmp_path / "named").exists()


def test_a_full_disk_is_said_before_anything_is_begun(argilla_python, tmp_path, monkeypatch):
    monkeypatch.setattr(server.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(LabError, match="1 MB free"):
        server.up(tmp_path / "full")


def test_a_folder_that_cannot_be_made_is_one_line(argilla_python, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be made"):
        server.up(tmp_path / "file" / "argilla")
