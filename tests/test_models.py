"""Base models: embedded, a folder, the hub; offline nothing waits."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from labkit import files, models
from labkit.errors import LabError


def test_the_embedded_base_is_the_default_and_hashes_its_gguf():
    base = models.resolve()
    assert base.name == "smollm2-135m-instruct" and base.is_decoder
    assert base.sha256 == files.sha256_of(base.gguf)
    assert (base.folder / "model.safetensors").exists()


def test_the_dequantised_weights_are_the_ggufs():
    from transformers import AutoModelForCausalLM

    base = models.resolve()
    ours = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(base.gguf.parent, gguf_file=base.gguf.name, dtype=torch.float32).state_dict()
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value.to(torch.bfloat16).float()), name


@pytest.mark.slow
def test_a_cache_folder_that_was_altered_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    base = models.resolve()
    with (base.folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\1\2\3")
    again = models.resolve()
    assert models.folder_hash(again.folder) == files.read_json(again.folder / "manifest.json")["weights"]


def test_the_embedded_encoder_is_found():
    base = models.resolve("minilm-l6")
    assert not base.is_decoder and base.gguf is None and len(base.sha256) == 64


def test_a_local_folder_is_a_base_and_its_hash_follows_its_weights(tiny_base, tmp_path):
    base = models.resolve(tiny_base)
    assert base.is_decoder and base.gguf is None
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    assert models.resolve(str(copy)).sha256 == base.sha256
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert models.resolve(str(copy)).sha256 != base.sha256


def test_a_name_from_before_owners_is_looked_for_under_its_owner(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(LabError, match="google-bert/bert-base-uncased.*LABKIT_ONLINE=1"):
        models.resolve("bert-base-uncased")


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "/no/such/folder", "a/b/c"])
def test_an_unknown_name_is_a_clear_error(name):
    with pytest.raises(LabError, match="no such folder"):
        models.resolve(name)


def test_a_folder_without_weights_is_a_clear_error(tmp_path):
    with pytest.raises(LabError, match="config.json"):
        models.resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LabError, match="safetensors"):
        models.resolve(str(tmp_path))


def test_a_hub_name_fails_at_once_when_offline():
    began = time.monotonic()
    with pytest.raises(LabError, match="LABKIT_ONLINE=1"):
        models.resolve("nobody/nothing-like-this")
    assert time.monotonic() - began < 5


class Hub(http.server.BaseHTTPRequestHandler):
    """The few calls of a model hub that fetching one repository needs, over a folder."""

    folder: Path
    commit = "0" * 39 + "1"

    def do_GET(self, head=False):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            names = sorted(path.name for path in self.folder.iterdir())
            body = json.dumps({"id": "lab/tiny", "sha": self.commit, "siblings": [{"rfilename": name} for name in names],
                               "private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0}).encode()
            if "tree" in parts:
                body = json.dumps([{"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": "0" * 40}
                                   for name in names]).encode()
            extra = {"Content-Type": "application/json"}
        elif "resolve" in parts:
            path = self.folder / parts[-1]
            if not path.exists():
                self.send_error(404)
                return
            body = path.read_bytes()
            extra = {"ETag": f'"{files.sha256_of(path)[:40]}"', "X-Repo-Commit": self.commit}
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in {**extra, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET(head=True)

    def log_message(self, *args):
        return None


def test_a_hub_name_is_fetched_when_online_and_found_again_offline(tiny_base, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHub", (Hub,), {"folder": Path(tiny_base)}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_", "LABKIT_ONLINE"))}
    environment = {**plain, "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                   "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    code = "from labkit import models, process; process.prepare(); print(models.resolve('lab/tiny').sha256)"
    try:
        online = subprocess.run([sys.executable, "-c", code], env={**environment, "LABKIT_ONLINE": "1"}, capture_output=True, text=True)
        assert online.returncode == 0, online.stderr
    finally:
        server.shutdown()
        server.server_close()
    offline = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert offline.stdout == online.stdout and offline.stdout.strip() == models.resolve(tiny_base).sha256


def test_importing_labkit_is_cheap():
    code = ("import sys, labkit, labkit.cli\n"
            "print([name for name in ('torch', 'transformers', 'gradio', 'argilla', 'datasets') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
