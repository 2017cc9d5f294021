"""The lab's servers: ports that are taken, one Ctrl-C for all."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from labkit import lab
from labkit.errors import LabError


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_taken_port_is_named_with_the_variable_to_set():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError, match=f"port {port} is taken.*JUPYTER_PORT={port + 1}"):
            lab.check_port(port, "JUPYTER_PORT")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_both_servers_come_up_and_one_signal_ends_all(how, tmp_path):
    port, jupyter_port = free_port(), free_port()
    code = f"from labkit import lab; lab.serve({port}, {jupyter_port})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True,
                               env={**os.environ, "LABKIT_RUNS": str(tmp_path / "runs")})
    try:
        addresses = []
        for line in process.stdout:
            addresses += [word for word in line.split() if word.startswith("http://127.0.0.1:")]
            if "Ctrl-C" in line:
                break
        assert len(addresses) == 2
        for address in addresses:
            assert urllib.request.urlopen(address, timeout=10).status == 200
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(how)
        assert process.wait(20) == 0
        time.sleep(0.2)
        assert [child.pid for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            process.kill()
