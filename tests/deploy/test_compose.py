"""compose.yaml: as little as possible is allowed, and what it names exists."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.deploy.places import DRAINED_SECONDS, ROOT, SETTINGS, dockerfile, image, named_settings

FILE = ROOT / "compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SERVICES[request.param]


def test_one_service_has_a_card_and_the_other_waits_to_be_asked_for() -> None:
    assert set(SERVICES) == {"upscale", "cpu"}
    assert "profiles" not in SERVICES["upscale"]
    reservations = SERVICES["upscale"]["deploy"]["resources"]["reservations"]
    assert reservations["devices"] == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert SERVICES["cpu"]["profiles"] == ["cpu"]
    assert "deploy" not in SERVICES["cpu"]
    assert SERVICES["cpu"]["image"] != SERVICES["upscale"]["image"]


def test_it_is_built_from_files_that_exist_with_arguments_that_exist(
    service: dict[str, Any],
) -> None:
    build = service["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    found = dockerfile()
    known = {*found.arguments, *(n for s in found.stages for i in s.all("ARG") for n in i.pairs)}
    assert set(build.get("args", {})) <= known


def test_it_has_no_more_rights_than_it_needs(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(service)


def test_it_is_published_on_loopback_only(service: dict[str, Any]) -> None:
    (port,) = service["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\$\{UPSCALE_PORT:-8000\}:8000", port)
    assert service["environment"]["UPSCALE_PORT"] == image().last("EXPOSE").arguments[0] == "8000"


def test_its_volumes_are_those_of_the_image(service: dict[str, Any]) -> None:
    mounted = dict(reversed(v.split(":")) for v in service["volumes"])
    assert set(mounted) == set(image().last("VOLUME").arguments)
    assert set(mounted.values()) == set(COMPOSE["volumes"])
    environment = service["environment"]
    for name in ("UPSCALE_DATA_DIR", "UPSCALE_WEIGHTS_DIR"):
        assert environment[name] == image().env[name]


def test_its_variables_are_settings(service: dict[str, Any]) -> None:
    assert set(service["environment"]) <= SETTINGS
    assert all(isinstance(value, str) for value in service["environment"].values())
    assert named_settings(TEXT) <= SETTINGS
    assert set(re.findall(r"\$\{(\w+)", TEXT)) <= SETTINGS


def test_a_missing_file_of_settings_is_none(service: dict[str, Any]) -> None:
    assert service["env_file"] == [{"path": ".env", "required": False}]


def test_its_health_is_asked_as_the_image_does(service: dict[str, Any]) -> None:
    check = image().last("HEALTHCHECK")
    asked = service["healthcheck"]
    assert asked["test"] == ["CMD", *yaml.safe_load(check.rest.removeprefix("CMD "))]
    for name, value in check.flags.items():
        assert str(asked[name.replace("-", "_")]) == value


def test_it_ends_in_peace_and_comes_back(service: dict[str, Any]) -> None:
    assert float(service["stop_grace_period"].removesuffix("s")) >= DRAINED_SECONDS
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
