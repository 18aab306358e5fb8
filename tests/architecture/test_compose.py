"""`compose.yaml` is a valid Compose file that runs what there is to run, by settings there are."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from infra.command_line.main import VERBS
from infra.composition.settings import Settings, load_settings, variable_name

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"
KNOWN = {variable_name(field.name) for field in msgspec.structs.fields(Settings)}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text())["services"])


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in services.items() if "build" in one}


def test_it_keeps_to_the_compose_specification() -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(COMPOSE)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_there_is_one_service_for_each_kind_of_process(services: dict[str, Any]) -> None:
    kinds = {"migrate", "command-api", "query-api", "relay", "worker"}
    assert set(ours(services)) == kinds
    assert kinds <= set(VERBS)
    assert {name: one["command"] for name, one in ours(services).items()} == {
        name: [name] for name in kinds
    }


def test_all_of_them_run_from_one_image(services: dict[str, Any]) -> None:
    assert len({one["image"] for one in ours(services).values()}) == 1


def test_their_environment_holds_settings_that_plaza_accepts(services: dict[str, Any]) -> None:
    for name, one in ours(services).items():
        environment = {key: default_of(str(value)) for key, value in one["environment"].items()}
        assert set(environment) <= KNOWN, name
        settings = load_settings(environment)
        # In a container, 127.0.0.1 can be reached by nobody else.
        assert settings.bind_host == "0.0.0.0"
        assert settings.postgres_url
        assert settings.redis_url
        assert settings.kafka_bootstrap
        assert settings.opensearch_url


def test_addresses_name_services_of_the_same_file(services: dict[str, Any]) -> None:
    environment = services["worker"]["environment"]
    for name, port in (
        ("PLAZA_POSTGRES_URL", 5432),
        ("PLAZA_REDIS_URL", 6379),
        ("PLAZA_KAFKA_BOOTSTRAP", 9092),
        ("PLAZA_OPENSEARCH_URL", 9200),
    ):
        host = re.search(rf"([a-z-]+):{port}\b", environment[name])
        assert host is not None
        assert host[1] in services


def test_volumes_and_what_services_wait_for_exist(services: dict[str, Any]) -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    for one in services.values():
        assert set(one.get("depends_on", {})) <= set(services)
        named = {str(volume).partition(":")[0] for volume in one.get("volumes", [])}
        assert named <= set(document["volumes"])


def test_the_image_starts_plaza_and_copies_what_is_packaged() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if re.match(r"COPY [a-z_]+ [a-z_]+$", line)}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert copied == packages
    assert 'ENTRYPOINT ["plaza"]' in lines


def default_of(value: str) -> str:
    """What Compose puts for `${NAME:-default}` where NAME is not set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)
