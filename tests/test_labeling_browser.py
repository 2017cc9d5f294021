"""The labelling widget and the board in a real JupyterLab and a real browser: the keys work, and nothing of the data is a page."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import pytest

from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.alone]
WAIT = 90_000  # milliseconds: the machine may be loaded
ATTACK = "<img src=x onerror=alert(1)>"
LABELER = """
from IPython.display import display
from labkit import records, scenarios
from labkit.widgets.labeler import Labeler
scenario = scenarios.load("customer_service")
data = [row for row in records.samples(scenario) if row["language"] == "{language}"][:5]
data[1]["messages"] = [{{"role": "user", "content": "{attack}"}}]
suggestions = {{data[0]["id"]: {{"intent": ("refund", 0.8, "a/b"), "sentiment": ("neutral", 0.6, "a/b")}}}}
labeler = Labeler(data, scenario, "{language}.jsonl", "ann", suggestions=suggestions, language="{language}")
display(labeler.view)
"""
BOARD = """
from labkit.widgets.labeling_board import Board
from labkit.widgets.labeling_sources import FileSource
board = Board(FileSource(["{language}.jsonl"], scenario, len(data)), scenario, records=data, language="{language}")
display(board.view)
"""


@pytest.fixture(scope="module")
def jupyter(chromium, tmp_path_factory):
    """A JupyterLab: (its address, its folder)."""
    port, tmp_path = free_port(), tmp_path_factory.mktemp("jupyter")
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    with (tmp_path / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, **own})
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + WAIT / 1000
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < until, (tmp_path / "jupyter.log").read_text()
                time.sleep(0.2)
        yield address, tmp_path
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def page(chromium, jupyter):
    """Opens a notebook of these cells and runs them all; gives the page, on which no dialog may open."""
    from playwright.sync_api import sync_playwright

    dialogs, (address, folder) = [], jupyter
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def show(name, *cells):
            nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}), folder / f"{name}.ipynb")
            page = found.new_page(viewport={"width": 1200, "height": 1500})
            page.set_default_timeout(WAIT)
            page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
            page.goto(f"{address}/doc/tree/{name}.ipynb")
            page.locator(".jp-Notebook .cm-content").first.click()
            page.get_by_text("| Idle").first.wait_for()
            for number in range(len(cells)):
                page.locator(".jp-CodeCell .cm-content").nth(number).click()
                page.keyboard.press("Shift+Enter")
            return page

        yield show
        found.close()
    assert dialogs == []


def entries(path, count):
    """The lines of the file as soon as there are so many."""
    until = time.monotonic() + WAIT / 1000
    while time.monotonic() < until:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        time.sleep(0.1)
    raise AssertionError(f"{path} has not {count} lines")


@pytest.mark.parametrize(("language", "second", "third"), [("en", "Record 2 of 5", "Record 3 of 5"), ("zh", "第 2 / 5 条", "第 3 / 5 条")])
def test_a_record_is_labelled_with_keys_alone(page, jupyter, language, second, third):
    path = jupyter[1] / f"{language}.jsonl"
    notebook = page(language, LABELER.format(language=language, attack=ATTACK), BOARD.format(language=language))
    box = notebook.locator(".labkit-labeler")
    box.locator("small").first.click()
    notebook.keyboard.press("Enter")  # as it was suggested
    assert entries(path, 1)[0]["values"] == {"intent": "refund", "sentiment": "neutral"}
    box.get_by_text(second).wait_for()
    box.get_by_text(ATTACK).wait_for()
    notebook.keyboard.press("1")
    notebook.keyboard.press("t")
    box.locator("textarea").fill("a reply 回复")
    box.locator("textarea").press("Control+Enter")
    assert entries(path, 2)[1]["values"] == {"intent": "order_status", "sentiment": "negative", "reply": "a reply 回复"}
    box.get_by_text(third).wait_for()
    notebook.keyboard.press("Delete")
    assert entries(path, 3)[2]["status"] == "discarded"
    notebook.keyboard.press("ArrowLeft")
    box.get_by_text(third).wait_for()
    box.locator("textarea").fill("late")
    box.locator(".labkit-actions button").first.click()
    assert entries(path, 4)[3]["values"] == {"reply": "late"}
    assert notebook.locator(".jp-CodeCell").count() == 3  # the keys did nothing to the notebook's cells
    notebook.get_by_role("button", name={"en": "Refresh", "zh": "刷新"}[language]).click()
    notebook.locator(".labkit-board").get_by_text({"en": "2 of 5 records are done", "zh": "5 条记录中 2 条已完成"}[language]).wait_for()
