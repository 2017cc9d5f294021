"""Jobs of the real server: a webhook is called, and one that was at work or waiting when the server was killed is called after all."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labkit.labeling import accounts, server
from tests.labeling.asking import make_dataset, respond


class Listener:
    """Takes the events that the server sends; until it is `released`, it answers none of them, and counts none of them."""

    def __init__(self):
        listener = self
        self.events, self.arrived, self.released = [], threading.Event(), threading.Event()
        self.released.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                listener.arrived.set()
                if not listener.released.is_set():
                    listener.released.wait(60)  # the server is killed meanwhile
                    return
                listener.events.append(event)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def records(self, wanted, seconds=40):
        """The records that events told of, when there are as many as `wanted`, or at the end of this time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = {event["data"]["record"]["id"] for event in self.events}
            if len(found) >= wanted:
                break
            time.sleep(0.05)
        return found

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.close()


@pytest.mark.slow
def test_no_event_is_lost_when_the_server_is_killed_while_it_tells_of_them(own_server, listener):
    first = own_server()
    dataset, records = make_dataset(first.url, first.owner_key, "told", [f"number {number}" for number in range(5)])
    accounts.call(first.url, first.owner_key, "POST", "webhooks", {"url": listener.url, "events": ["response.created"],
                                                                   "description": "the test's"})
    listener.released.clear()
    for record in records:
        respond(first.url, first.owner_key, record, "apple")  # acknowledged: its event is written down
    assert listener.arrived.wait(30)  # the first is at work, four wait
    assert server.status(first.folder).jobs == 5
    os.kill(first.pid, signal.SIGKILL)
    listener.released.set()

    again = server.up(first.folder)
    assert listener.records(5) == set(records)
    until = time.monotonic() + 20
    while server.status(first.folder).jobs and time.monotonic() < until:
        time.sleep(0.1)
    assert server.status(first.folder).jobs == 0 and again.url == first.url


@pytest.mark.slow
def test_a_data_sets_records_are_counted_again_when_it_asks_for_more_answers(argilla_server):
    url, key = argilla_server.url, argilla_server.owner_key
    dataset, records = make_dataset(url, key, "recounted", ["a", "b"])
    respond(url, key, records[0], "apple")
    assert accounts.call(url, key, "GET", f"datasets/{dataset}/progress")["completed"] == 1
    accounts.call(url, key, "PATCH", f"datasets/{dataset}", {"distribution": {"strategy": "overlap", "min_submitted": 2}})
    until = time.monotonic() + 20
    while accounts.call(url, key, "GET", f"datasets/{dataset}/progress")["completed"] and time.monotonic() < until:
        time.sleep(0.1)
    assert accounts.call(url, key, "GET", f"datasets/{dataset}/progress")["completed"] == 0
    accounts.call(url, key, "DELETE", f"datasets/{dataset}")
