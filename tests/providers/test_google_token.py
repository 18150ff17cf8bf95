"""Tokens by Google's own library, from a service account whose token server is on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stubs.base import Stub, running
from upscale.models.catalogue import load_catalogue
from upscale.providers import credentials
from upscale.providers.health import Health
from upscale.providers.outcome import Failure, Kind
from upscale.providers.registry import Providers
from upscale.providers.routes import configured
from upscale.providers.sites import unusable
from upscale.providers.vertex import GoogleToken
from upscale.settings import Settings

_metadata = pytest.importorskip(
    "google.auth.compute_engine._metadata", reason="Google's library is not installed"
)


class TokenServer(Stub):
    """Gives out numbered tokens for signed assertions."""

    def __init__(self, key: str = "") -> None:
        super().__init__(key or "no-key-of-ours")
        self.given = 0

    def routes(self) -> list[Route]:
        return [Route("/token", self._token, methods=["POST"])]

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        if self.fault == "refused" or "assertion" not in form:
            return JSONResponse(
                {"error": "invalid_grant", "error_description": "secret words"}, 400
            )
        self.given += 1
        body = {"access_token": f"ya29.{self.given}", "expires_in": 3600, "token_type": "Bearer"}
        return JSONResponse(body)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """A token server, and application credentials that lead to it."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with running(TokenServer()) as stub:
        account = {
            "type": "service_account",
            "project_id": "house",
            "private_key_id": "one",
            "private_key": pem.decode(),
            "client_email": "upscale@house.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{stub.url}/token",
        }
        file = tmp_path / "account.json"
        file.write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        yield stub


def ask(token: GoogleToken) -> str:
    return asyncio.run(token())


def test_a_token_is_asked_for_once_and_again_before_it_expires(server: TokenServer) -> None:
    token = GoogleToken()
    assert [ask(token), ask(token)] == ["ya29.1", "ya29.1"]
    soon = datetime.now(UTC) + timedelta(seconds=60)
    token._credentials.expiry = soon.replace(tzinfo=None)
    assert [ask(token), ask(token)] == ["ya29.2", "ya29.2"]
    assert server.given == 2


def test_credentials_that_give_none_are_a_matter_of_the_key(server: TokenServer) -> None:
    server.fault = "refused"
    with pytest.raises(Failure) as caught:
        ask(GoogleToken())
    assert (caught.value.kind, caught.value.billed) == (Kind.KEY, "no")
    assert "secret words" not in caught.value.message


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without credentials, which is not in Google's cloud; the folder for them."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setattr(_metadata, "_GCE_PRODUCT_NAME_FILE", str(tmp_path / "product_name"))
    credentials.lacking.cache_clear()
    yield tmp_path
    credentials.lacking.cache_clear()


PLACE: Any = {"vertex_project": "p", "vertex_region": "r"}


def test_a_machine_without_credentials_cannot_ask_google(bare: Path) -> None:
    assert "GOOGLE_APPLICATION_CREDENTIALS" in (unusable("vertex", Settings(**PLACE)) or "")
    assert "vertex" not in Providers(Settings(**PLACE)).adapters
    found = load_catalogue().model("google-upscaler")
    assert found is not None
    _, skipped = configured(found, Settings(**PLACE), Health(), "vertex")
    assert [each.key for each in skipped] == ["GOOGLE_APPLICATION_CREDENTIALS"]
    assert unusable("vertex", Settings(**PLACE, vertex_key="ya29.mine")) is None  # type: ignore[arg-type]


def test_credentials_are_found_where_googles_library_looks(
    bare: Path, server: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unusable("vertex", Settings(**PLACE)) is None
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(bare / "no-such-file"))
    credentials.lacking.cache_clear()
    assert "names no file" in (unusable("vertex", Settings(**PLACE)) or "")


@pytest.mark.parametrize(
    ("name", "content"),
    [("product_name", "Google Compute Engine\n"), ("application_default_credentials.json", "{}")],
)
def test_a_login_or_a_machine_of_googles_will_do(name: str, content: str, bare: Path) -> None:
    (bare / name).write_text(content)
    assert unusable("vertex", Settings(**PLACE)) is None


def test_local_only_asks_google_for_nothing() -> None:
    given: dict[str, Any] = {
        "vertex_project": "p",
        "vertex_region": "r",
        "vertex_base_url": "http://10.0.0.9",
        "local_only": True,
        "local_hosts": "10.0.0.9",
    }
    assert "VERTEX_ACCESS_TOKEN" in (unusable("vertex", Settings(**given)) or "")
    assert unusable("vertex", Settings(**given, vertex_key="ya29.mine")) is None
