"""The server is killed at 20 moments while people answer: no acknowledged answer is lost, and nobody has to repair anything."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.labeling import accounts, server
from labkit.labeling.server import CREDENTIALS, DATABASE
from tests.labeling.asking import found, make_dataset, with_status

KILLS, STREAMS, RECORDS, NEEDED = 20, 3, 500, 2
PRELOADED = Path(__file__).with_name("preloaded.py")
SIDE = Path(server.__file__).parent


class Starter:
    """Starts the server of a folder in a moment, as often as it is asked to."""

    def __init__(self, python, folder, port):
        self.kept = json.loads((folder / CREDENTIALS).read_text())
        environment = {**os.environ, "PYTHONPATH": str(SIDE), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}
        self.log = (folder / "preloaded.log").open("wb")
        self.process = subprocess.Popen([python, PRELOADED, folder, str(port), self.kept["secret"]], cwd=folder, env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.started = None
        self.url = f"http://127.0.0.1:{port}"
        assert self.process.stdout.readline() == "ready\n"

    def start(self):
        told = {"secret": self.kept["secret"], "workspace": accounts.WORKSPACE, "owner": {**self.kept["owner"], "password": ""}}
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        self.started = int(self.process.stdout.readline())

    def wait_until_ready(self):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/api/v1/version", timeout=10):
                    return
            time.sleep(0.02)
        raise AssertionError("the server did not come back")

    def kill(self):
        os.kill(self.started, signal.SIGKILL)
        self.started = None
        assert self.process.stdout.readline() == "ended\n"

    def close(self):
        if self.started:  # the test failed before it was killed
            os.kill(self.started, signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()
        self.log.close()


def answer(url, key, todo, acknowledged, refused, stop):
    """One person: answers record after record until the server is gone. An answer that may have arrived unacknowledged is given again."""
    while todo and not stop.is_set():
        record, value = todo[-1]
        try:
            accounts.call(url, key, "POST", f"records/{record}/responses", {"values": {"kind": {"value": value}}, "status": "submitted"})
        except LabError as error:
            if "not unique" not in str(error).lower() and "already" not in str(error).lower():
                if "does not answer" not in str(error):
                    refused.append(str(error))
                return
        except (OSError, ValueError, urllib.request.http.client.HTTPException):  # cut off in the middle of the answer
            return
        else:
            acknowledged[record] = value
        todo.pop()


@pytest.mark.slow
def test_no_acknowledged_answer_is_lost_by_killing_the_server_twenty_times(own_server, argilla_python):
    chance = random.Random(4)
    begun = own_server(annotators=("ana", "bo", "晨"))
    keys = {each.username: each.api_key for each in begun.accounts if each.role == "annotator"}
    assert len(keys) == STREAMS
    dataset, records = make_dataset(begun.url, begun.owner_key, "killed", [f"水果 number {number}" for number in range(RECORDS)], NEEDED)
    server.down(begun.folder)

    starter = Starter(argilla_python, begun.folder, int(begun.url.rsplit(":", 1)[1]))
    acknowledged = {name: {} for name in keys}
    todo = {name: [(record, chance.choice(("apple", "pear"))) for record in chance.sample(records, RECORDS)] for name in keys}
    refused = []
    try:
        for kill in range(KILLS):
            starter.start()
            starter.wait_until_ready()
            if kill % 5 == 4:  # what the last kill left is right at once
                agrees(begun, dataset, keys)
            stop, wanted = threading.Event(), given(acknowledged) + chance.randint(1, 8)
            people = [threading.Thread(target=answer, args=(begun.url, keys[name], todo[name], acknowledged[name], refused, stop))
                      for name in keys]
            for each in people:
                each.start()
            until = time.monotonic() + 60
            while given(acknowledged) < wanted and time.monotonic() < until:
                time.sleep(0.004)
            time.sleep(chance.uniform(0, 0.06))  # an answer takes about so long: every part of its way is met
            starter.kill()
            stop.set()
            for each in people:
                each.join(60)
            assert given(acknowledged) >= wanted
    finally:
        starter.close()
    assert not refused

    again = server.up(begun.folder)
    assert again.owner_key == begun.owner_key
    with contextlib.closing(sqlite3.connect(begun.folder / DATABASE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept = agrees(begun, dataset, keys)
    for name in keys:
        for record, value in acknowledged[name].items():
            assert kept[name].get(record) == value, (name, record)


def given(acknowledged):
    return sum(map(len, acknowledged.values()))


def agrees(begun, dataset, keys):
    """Compare search and progress with the answers themselves; returns who answered what: {name: {record: value}}."""
    users = {user["id"]: user["username"] for user in accounts.call(begun.url, begun.owner_key, "GET", "users")["items"]}
    kept, statuses = {name: {} for name in keys}, {}
    with contextlib.closing(sqlite3.connect(begun.folder / DATABASE)) as database:
        rows = database.execute('SELECT record_id, user_id, "values" FROM responses WHERE status = \'submitted\'').fetchall()
        for identity, status in database.execute("SELECT id, status FROM records"):
            statuses[as_uuid(identity)] = status
    for record, user, values in rows:
        kept[users[as_uuid(user)]][as_uuid(record)] = json.loads(values)["kind"]["value"]
    answers = Counter(record for name in kept for record in kept[name])
    assert statuses == {record: "completed" if answers[record] >= NEEDED else "pending" for record in statuses}
    for name, key in keys.items():
        assert found(begun.url, key, dataset, filters=with_status("submitted")) == len(kept[name])
        assert found(begun.url, key, dataset, "水果", with_status("submitted")) == len(kept[name])
        mine = accounts.call(begun.url, key, "GET", f"me/datasets/{dataset}/metrics")["responses"]
        assert mine["submitted"] == len(kept[name])
    progress = accounts.call(begun.url, begun.owner_key, "GET", f"datasets/{dataset}/progress")
    assert progress["completed"] == sum(status == "completed" for status in statuses.values())
    assert progress["total"] == RECORDS
    return kept


def as_uuid(text):
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" if "-" not in text else text
