"""Every engine runs the same function over all chunks, in order, and leaves no process behind."""

import os
import subprocess
import sys

import psutil
import pyarrow
import pyarrow.compute
import pytest

from labkit.data import engines
from labkit.errors import LabError

try:
    import ray
except ModuleNotFoundError:
    ray = None


def numbers(count):
    from datasets import Dataset

    return Dataset.from_dict({"number": list(range(count))})


def doubled(table):
    return table.set_column(0, "number", pyarrow.compute.multiply(table["number"], 2)).append_column(
        "process", pyarrow.array([os.getpid()] * len(table)))


def broken(table):
    raise LabError("row 3 is odd", "第3行有误")


def killed(table):
    os.kill(os.getpid(), 9)


def children():
    return [each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE
            and "resource_tracker" not in " ".join(each.cmdline())]


NAMES = ["local", "datasets",
         pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.skipif(ray is None, reason="NO RAY: ray is not installed")])]


@pytest.fixture(scope="session")
def ray_of_two():
    """A Ray of two workers for all tests, since starting one takes seconds; the engine uses the one that is there."""
    with engines.start("ray", 2):
        yield


@pytest.fixture()
def name(request):
    """The engine's name; for Ray one is started first."""
    if request.param == "ray":
        request.getfixturevalue("ray_of_two")
    return request.param


@pytest.mark.parametrize("name", NAMES, indirect=True)
@pytest.mark.parametrize("processes", [1, 2])
def test_the_results_come_in_the_order_of_the_records(name, processes):
    with engines.start(name, processes) as engine:
        tables = list(engine(numbers(5500), doubled))
    assert [value for table in tables for value in table["number"].to_pylist()] == list(range(0, 11000, 2))
    used = {value for table in tables for value in table["process"].to_pylist()}
    assert (os.getpid() in used) == (processes == 1 and name != "ray") and len(used) <= (2 if name == "ray" else processes)


@pytest.mark.parametrize("name", NAMES, indirect=True)
def test_no_records_are_no_work(name):
    with engines.start(name, 2) as engine:
        assert sum(map(len, engine(numbers(0), doubled))) == 0


@pytest.mark.parametrize("name", NAMES, indirect=True)
@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_process_arrives_as_it_was(name, processes):
    with pytest.raises(LabError) as caught, engines.start(name, processes) as engine:
        list(engine(numbers(3000), broken))
    assert str(caught.value) == "row 3 is odd" and caught.value.said("zh") == "第3行有误"


@pytest.mark.parametrize("name", NAMES[:2])
def test_stopping_in_the_middle_leaves_no_process_behind(name):
    before = {each.pid for each in children()}
    with pytest.raises(KeyboardInterrupt), engines.start(name, 2) as engine:
        for _ in engine(numbers(30_000), doubled):
            raise KeyboardInterrupt
    assert {each.pid for each in children()} <= before


@pytest.mark.slow
@pytest.mark.skipif(ray is None, reason="NO RAY: ray is not installed")
def test_a_ray_that_the_engine_started_ends_with_it():
    code = ("from tests.data.test_engines import *\n"
            "try:\n"
            "    with engines.start('ray', 2) as engine:\n"
            "        for table in engine(numbers(3000), doubled):\n"
            "            print(len(children()) > 0)\n"
            "            raise KeyboardInterrupt\n"
            "except KeyboardInterrupt:\n"
            "    print(ray.is_initialized(), [each.name() for each in children()])")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout.split("\n")[:2] == ["True", "False []"], told.stderr


def test_a_process_that_is_killed_is_an_error_and_no_waiting_for_ever():
    with pytest.raises(LabError, match="ended by itself"), engines.start("local", 2) as engine:
        list(engine(numbers(3000), killed))


def test_few_records_are_not_worth_a_process():
    with engines.start("local", 4, records=100) as engine:
        assert list(engine(numbers(10), doubled))[0]["process"].to_pylist() == [os.getpid()] * 10


@pytest.mark.parametrize(("name", "processes", "says"), [
    ("spark", 1, "no engine 'spark'; there are local"), ("local", 0, "at least 1, not 0"),
])
def test_what_cannot_be_is_refused(name, processes, says):
    with pytest.raises(LabError, match=says), engines.start(name, processes):
        pass


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LabError, match=r"pip install 'ray\[data\]'"), engines.start("ray", 2):
        pass


def test_a_slice_is_sent_without_the_rows_around_it():
    table = pyarrow.table({"number": list(range(100_000))})
    sent = engines.to_bytes(table.slice(500, 10))
    assert len(sent) < 2000 and engines.from_bytes(sent)["number"].to_pylist() == list(range(500, 510))
