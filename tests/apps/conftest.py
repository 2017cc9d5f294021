"""Fixtures for the app's tests: a lab with tiny runs, the real server, a real browser, and a parrot for an engine."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from apps import checkpoints
from labkit import models, runs, scenarios
from labkit.serving import Speed, Weights
from tests.ports import free_port
from tests.serving.tiny import make_run

ROOT = Path(__file__).resolve().parents[2]
WAIT = 90_000  # milliseconds: the machine may be loaded


class Parrot:
    """An engine that says given pieces, one every `pause` seconds, and notes what happens to it."""

    def __init__(self, pieces, pause=0.0, adapter=None):
        self.pieces, self.pause = pieces, pause
        self.weights = Weights("parrot", "b" * 64, adapter, "parrot")
        self.speed = None
        self.warmed, self.asked, self.closed, self.at_work = [], [], False, False

    def stream(self, messages, sampling, stop=None):
        self.asked.append((messages, sampling))
        self.at_work, said = True, 0
        try:
            for piece in self.pieces:
                if stop is not None and stop.wait(self.pause):
                    break
                said += 1
                yield piece
        finally:
            self.at_work = False
            self.speed = Speed(3, said, 0.01, 100.0, stopped=stop is not None and stop.is_set())

    def warm(self, messages):
        self.warmed.append(messages)

    def close(self):
        self.closed = True


@pytest.fixture
def scenario():
    return scenarios.load(scenarios.names()[0])


@pytest.fixture
def parrot_server(monkeypatch, scenario):
    """Starts the app in this process with a parrot as every checkpoint's engine; returns (address, the parrots opened so far)."""
    from apps import main

    apps = []

    def start(pieces, pause=0.0):
        opened = []

        def open_one(checkpoint):
            opened.append(Parrot(pieces, pause))
            return opened[-1]

        monkeypatch.setattr(checkpoints.Checkpoint, "open", open_one)
        port = free_port()
        apps.append(main.launch(port, wait=False))
        return f"http://127.0.0.1:{port}", opened

    yield start
    for app in apps:
        app.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A runs folder with the first scenario's runs `alpha` and `beta` (random adapters on the embedded base), `own` (labels of its
    own, and a random base in a folder), `broken` (an altered adapter) and `begun` (not finished)."""
    folder = tmp_path_factory.mktemp("lab") / "runs"
    scenario = scenarios.load(scenarios.names()[0])
    base = models.resolve()
    for seed, name in enumerate(("alpha", "beta"), 1):
        add_run(folder, scenario, name, base, seed)
    broken = folder / scenario.name / "broken"
    shutil.copytree(folder / scenario.name / "alpha", broken)
    weights = broken / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    begun = folder / scenario.name / "begun"
    begun.mkdir()
    shutil.copy(folder / scenario.name / "alpha" / "scenario.toml", begun)
    (begun / "recipe.toml").write_text("")
    return folder


def add_run(folder, scenario, name, base, seed=1):
    run = make_run(base, folder / scenario.name / name, seed, size=0.05)
    scenarios.write(scenario, run.folder / "scenario.toml")
    return runs.Run(run.folder)


@pytest.fixture(scope="session")
def server(lab):
    """The app as `make lab` starts it, on the runs of `lab`; returns its address."""
    with running(lab) as address:
        yield address


@contextlib.contextmanager
def running(folder):
    port = free_port()
    environment = {**os.environ, "LABKIT_RUNS": str(folder), "OMP_NUM_THREADS": "1"}
    log = folder.parent / "app.log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "apps.main", "--port", str(port)], cwd=ROOT, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(f"http://127.0.0.1:{port}/", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)
    said = log.read_text()
    assert "Traceback" not in said, said


def wait_for(address, process):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, "the app ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"{address} did not answer")


@pytest.fixture
def visit(browser):
    """Opens an address in a browser context of its own, in English unless told otherwise; nothing but the app can be reached.

    The page's `asked` lists the addresses that it asked, `problems` what went wrong in its scripts.
    """
    contexts = []

    def open_page(address, locale="en-US", size=(1280, 900), ready="#checkpoint input, #checkpoint-1 input"):
        context = browser.new_context(locale=locale, viewport={"width": size[0], "height": size[1]})
        contexts.append(context)
        context.set_default_timeout(WAIT)
        page = context.new_page()
        page.asked, page.problems = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("websocket", lambda socket: page.asked.append(socket.url))
        context.route("**/*", lambda route: route.continue_() if is_local(route.request.url) else route.abort())
        page.goto(address)
        page.wait_for_function("selector => document.querySelector(selector)?.value", arg=ready)
        return page

    yield open_page
    for context in contexts:
        context.close()


def is_local(url):
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def ask(page, question):
    """Type a question and press Enter."""
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")


def wait_idle(page):
    page.wait_for_selector("#send:not([disabled])")


def pick(page, picker, text):
    """Choose the option that contains `text` in a dropdown."""
    page.click(f"{picker} input")
    page.click(f"[role=option]:has-text('{text}')")


def limit(page, tokens):
    """Set the longest answer."""
    if not page.is_visible("#sampling input[type=number] >> nth=0"):
        page.click("#sampling > button")
    page.fill("#sampling input[type=number] >> nth=3", str(tokens))
    page.press("#sampling input[type=number] >> nth=3", "Tab")
