"""The server's own Python environment: whole or not at all. (That it is made from the pins is seen where no ready one is named.)"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.errors import LabError
from labkit.labeling import environment


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LABKIT_ARGILLA_PYTHON", raising=False)


@pytest.fixture
def quick_install(monkeypatch):
    """In place of the installation: an environment without packages; counts how often."""
    made = []

    def install(path):
        made.append(path)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)

    monkeypatch.setattr(environment, "_install", install)
    monkeypatch.setattr(environment, "_checked", lambda path: path)
    return made


def test_every_package_is_pinned_exactly():
    lines = [line for line in environment.PINS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 60 and all(re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", line) for line in lines)
    assert environment.version() == "2.8.0"
    assert next(line for line in lines if line.startswith("click==")) < "click==8.2"
    assert any(line.startswith("filelock==") for line in lines)  # the launcher imports it


def test_other_pins_are_another_environment(monkeypatch, tmp_path):
    before = environment.folder()
    assert before.parent == tmp_path / "cache" and before.name.startswith("argilla-2.8.0-")
    other = tmp_path / "pins.txt"
    other.write_text(environment.PINS.read_text().replace("click==8.1.8", "click==8.1.7"))
    monkeypatch.setattr(environment, "PINS", other)
    assert environment.folder() != before


def test_it_is_made_once_and_kept(quick_install):
    assert not environment.is_ready()
    python = environment.python()
    assert environment.is_ready() and python.exists() and environment.python() == python and len(quick_install) == 1
    assert subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True).stdout.strip() == \
        str(environment.folder())


def test_what_an_interrupted_installation_left_is_not_used(quick_install):
    half = environment.folder()
    for leftover in (half, half.with_name(half.name + ".part")):
        (leftover / "bin").mkdir(parents=True)
        (leftover / "bin" / "python").write_text("")
    assert not environment.is_ready()
    environment.python()
    assert len(quick_install) == 1 and not half.with_name(half.name + ".part").exists()


def test_an_installation_that_fails_leaves_nothing(quick_install, monkeypatch):
    def fail(path):
        (path / "lib").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_install", fail)
    with pytest.raises(KeyboardInterrupt):
        environment.python()
    assert not environment.is_ready() and [each.name for each in environment.folder().parent.iterdir() if each.is_dir()] == []


def test_one_whose_python_is_gone_is_made_again(quick_install):
    python = environment.python()
    python.unlink()
    assert environment.python().exists() and len(quick_install) == 2


def test_no_room_is_said_before_anything_is_begun(quick_install, monkeypatch):
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 500_000_000})())
    with pytest.raises(LabError, match="0.5 are free"):
        environment.python()
    assert not quick_install


@pytest.mark.parametrize("named, said", [(sys.executable, "no argilla-server, where 2.8.0 is needed"),
                                         ("/nowhere/python", "no Python that can be started")])
def test_a_named_python_without_the_server_is_refused(monkeypatch, named, said):
    monkeypatch.setenv("LABKIT_ARGILLA_PYTHON", named)
    with pytest.raises(LabError, match=said):
        environment.python()


def test_a_named_python_with_the_server_is_taken(monkeypatch, argilla_python):
    monkeypatch.setenv("LABKIT_ARGILLA_PYTHON", str(argilla_python))
    assert environment.python() == Path(argilla_python)


def test_packages_that_cannot_be_had_are_one_line(monkeypatch, tmp_path):
    pins = tmp_path / "pins.txt"
    pins.write_text("argilla-server==0.0.0.1\n")
    monkeypatch.setattr(environment, "PINS", pins)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(LabError, match=r"argilla-server 0\.0\.0\.1 could not be installed: ERROR: .*"):
        environment.python()
    assert not environment.is_ready()
