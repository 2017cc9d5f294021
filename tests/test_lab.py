"""`labkit lab` with real servers: both come up, on this machine only, and nothing is left of them however the lab ends."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from labkit import build, places, records, scenarios
from labkit.training.recipe import Recipe
from tests.ports import free_port

pytestmark = [pytest.mark.alone,
              pytest.mark.skipif(not hasattr(os, "killpg"), reason="the lab's servers are ended by signals")]


@pytest.fixture(scope="module")
def everything_built(tiny_base, tmp_path_factory):
    """(runs folder, scenario) with nothing left to build: a run of a tiny model, trained for one step and evaluated."""
    folder = tmp_path_factory.mktemp("lab")
    name = scenarios.names()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_RUNS", str(folder / "runs"))
        patch.setenv("LABKIT_CACHE", str(folder / "cache"))
        source = build.from_samples(name)
        few = records.in_split(source.records, "train").select(range(8)), records.in_split(source.records, "test").select(range(2))
        few = records.from_list([row for part in few for row in part])
        build.build(Recipe(scenario=name, base=tiny_base, rank=2, layers=1, max_steps=1, precision="fp32"),
                    build.Source(source.scenario, few), say=lambda text: None)
    return folder / "runs", name


class Lab:
    """A running `labkit lab`: its process, the ports, what it printed, the token, and how long it took to come up."""

    def __init__(self, runs_folder, scenario, tmp_path):
        self.port, self.jupyter_port = free_port(), free_port()
        self.output = tmp_path / "output"
        environment = {**os.environ, "LABKIT_RUNS": str(runs_folder), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
        began = time.monotonic()
        self.process = labkit("lab", "-s", scenario, "--port", str(self.port), "--jupyter-port", str(self.jupyter_port),
                              stdout=self.output.open("w"), stderr=subprocess.STDOUT, env=environment)
        self.runtime = tmp_path / "runtime"
        while "Ctrl-C ends both" not in self.output.read_text():
            assert self.process.poll() is None and time.monotonic() - began < 120, self.output.read_text()
            time.sleep(0.05)
        self.seconds = time.monotonic() - began
        self.token = re.search(r"token=(\S+)", self.output.read_text())[1]

    def family(self):
        """Every process that the lab started, by what it is."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask(self, path, token=None, **settings):
        """(status, body) of JupyterLab's answer."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.jupyter_port}{path}", headers=headers, **settings)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def start_kernel(self):
        """(process, client) of a kernel that was started as a notebook starts one, and is ready."""
        from jupyter_client import BlockingKernelClient

        status, body = self.ask("/api/kernels", self.token, data=b'{"name": "python3"}', method="POST")
        assert status == 201, body
        connection = self.runtime / f"kernel-{json.loads(body)['id']}.json"
        client = BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        [process] = [process for process in self.family() if connection.name in " ".join(process.cmdline())]
        return process, client


@pytest.fixture()
def lab(everything_built, tmp_path):
    """A lab that is up; what a failed test leaves of it is ended."""
    running = Lab(*everything_built, tmp_path)
    family = running.family()
    yield running
    running.process.kill()
    running.process.wait()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def labkit(*words, **settings):
    return subprocess.Popen([sys.executable, "-c", "from labkit.cli import main; main()", *words], cwd=places.ROOT, **settings)


def busy_with_a_child(client):
    """Keep a kernel busy for ever, with a process that it started; returns that process."""
    client.execute("import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)\nwhile True: pass")
    while (message := client.get_iopub_msg(timeout=60))["msg_type"] != "stream":
        pass
    return psutil.Process(int(message["content"]["text"]))


def assert_gone(processes, within):
    _, alive = psutil.wait_procs(processes, timeout=within)
    alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not alive, [process.cmdline() for process in alive]


@pytest.mark.slow
def test_both_come_up_quickly_on_this_machine_only_behind_a_token_and_ctrl_c_ends_all(lab):
    print(f"\nlabkit lab with everything built: up after {lab.seconds:.1f} s")
    assert lab.seconds < 60
    with urllib.request.urlopen(f"http://127.0.0.1:{lab.port}/", timeout=30) as page:
        assert page.status == 200 and b"<html" in page.read().lower()

    assert [lab.ask("/api/kernels", token)[0] for token in (None, "wrong", lab.token)] == [403, 403, 200]
    assert lab.ask("/lab/tree/notebooks/00_quickstart.ipynb", lab.token)[0] == 200
    assert all(lab.token not in " ".join(process.cmdline()) for process in lab.family())  # `ps` shows those to everybody

    kernel, _ = lab.start_kernel()
    listening = [connection.laddr for process in lab.family() for connection in process.net_connections("inet")
                 if connection.status == psutil.CONN_LISTEN]
    assert {lab.port, lab.jupyter_port} <= {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}

    family = lab.family()
    assert kernel in family and len(family) >= 3
    lab.process.send_signal(signal.SIGINT)
    assert lab.process.wait(30) == 0
    assert_gone(family, 0.5)
    assert "Traceback" not in lab.output.read_text()


@pytest.mark.slow
def test_sigterm_ends_even_a_busy_kernel_and_what_it_started(lab):
    _, client = lab.start_kernel()
    child = busy_with_a_child(client)
    family = [*lab.family(), child]
    lab.process.send_signal(signal.SIGTERM)
    assert lab.process.wait(30) == 0
    assert_gone(family, 0.5)
    with socket.socket() as probe:  # free for the next start
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", lab.jupyter_port))


@pytest.mark.slow
def test_kill_9_of_the_lab_leaves_no_server_and_no_kernel_behind(lab):
    lab.start_kernel()
    family = lab.family()
    lab.process.kill()
    lab.process.wait()
    assert_gone(family, 20)


@pytest.mark.slow
def test_a_server_that_ends_by_itself_ends_the_lab_with_a_clear_message(lab):
    family = lab.family()
    [jupyter] = [process for process in family if "jupyterlab" in process.cmdline()]
    jupyter.kill()
    assert lab.process.wait(30) == 2
    assert "labkit: JupyterLab ended by itself with code -9" in lab.output.read_text()
    assert_gone(family, 0.5)


@pytest.mark.parametrize(("option", "variable"), [("--port", "PORT"), ("--jupyter-port", "JUPYTER_PORT")])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_ends_in_one_line_and_exit_code_2_before_anything_starts(option, variable, address, tmp_path):
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = {"--port": "--jupyter-port", "--jupyter-port": "--port"}[option]
        process = labkit("lab", option, str(port), other, str(free_port()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and output == ""
    assert errors.strip() == f"labkit: port {port} is taken by another program; choose another one: make lab {variable}={port + 1}"
    assert not (tmp_path / "runs").exists()


def test_one_port_for_both_is_refused_before_anything_is_built():
    port = str(free_port())
    process = labkit("lab", "--port", port, "--jupyter-port", port, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and output == "" and f"cannot share port {port}" in errors
