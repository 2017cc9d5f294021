"""The stack for teams is written as it is meant; it is not started here."""

import re

import pytest
import yaml

from labkit import places
from labkit.labeling import environment

PATH = places.ROOT / "docker-compose.yaml"
SECRET = re.compile(r"\$\{\w+:\?[^}]+\}")


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))["services"]


def test_it_has_the_servers_usual_parts(services):
    assert set(services) == {"argilla", "worker", "postgres", "elasticsearch", "redis"}
    assert {services[name]["image"] for name in ("argilla", "worker")} == {f"argilla/argilla-server:v{environment.version()}"}
    assert all(re.search(r":v?\d", each["image"]) for each in services.values())  # no `latest`


def test_only_the_server_is_reached_from_outside_and_by_default_from_this_machine_alone(services):
    assert {name for name, each in services.items() if "ports" in each} == {"argilla"}
    assert services["argilla"]["ports"] == ["${ARGILLA_ADDRESS:-127.0.0.1:6900}:6900"]
    assert all(services[name]["networks"] == ["inside"] for name in ("postgres", "elasticsearch", "redis"))
    assert yaml.safe_load(PATH.read_text())["networks"]["inside"] == {"internal": True}


def test_no_secret_has_a_default(services):
    given = services["argilla"]["environment"]
    for name in ("USERNAME", "PASSWORD", "API_KEY", "ARGILLA_AUTH_SECRET_KEY"):
        assert SECRET.fullmatch(given[name]), name
    assert SECRET.fullmatch(services["postgres"]["environment"]["POSTGRES_PASSWORD"])
    assert SECRET.search(given["ARGILLA_DATABASE_URL"])
    assert services["worker"]["environment"]["ARGILLA_DATABASE_URL"] == given["ARGILLA_DATABASE_URL"]


def test_everything_that_others_wait_for_says_when_it_is_well(services):
    for name, each in services.items():
        for other, wanted in each.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"} and "healthcheck" in services[other], (name, other)


def test_what_must_last_lies_in_volumes(services):
    named = yaml.safe_load(PATH.read_text())["volumes"]
    used = {volume.split(":")[0] for each in services.values() for volume in each.get("volumes", [])}
    assert used == set(named) == {"argilla", "postgres", "elasticsearch", "redis"}
    assert "--appendonly yes" in services["redis"]["command"]


def test_nothing_is_told_to_others(services):
    for name in ("argilla", "worker"):
        assert services[name]["environment"]["HF_HUB_DISABLE_TELEMETRY"] == "1"
