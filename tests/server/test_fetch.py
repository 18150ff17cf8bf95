"""Fetching of image URLs, against a server on loopback that plays the internet."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from upscale.errors import InvalidRequest, TooLarge
from upscale.providers.addresses import is_public
from upscale.providers.pinning import pinned
from upscale.server.fetch import Fetcher
from upscale.settings import Settings


class Site(BaseHTTPRequestHandler):
    """Paths say what happens; `hosts` are the Host headers that came."""

    hosts: list[str]

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        name, _, rest = self.path[1:].partition("/")
        if name == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif name == "large":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(bytes(1000))
        elif name == "slow":
            self.send_response(200)
            self.end_headers()
            time.sleep(0.6)
        elif name == "missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"picture")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[int, list[str]]]:
    """A server's port, and the list of hosts that it was asked as."""
    handler = type("Handler", (Site,), {"hosts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1], handler.hosts
        server.shutdown()


def fetch(url: str, folder: Path, *, answers: dict[str, Any] | None = None, **more: Any) -> bytes:
    """Fetch with made-up names; each call of the resolver may answer differently."""
    table = {"house.test": ["127.0.0.1"], **(answers or {})}

    async def resolver(host: str, port: int) -> list[str]:
        found = table.get(host)
        if found is None:
            raise OSError("no such host")
        return list(found.pop(0) if isinstance(found[0], list) else found)

    options = {"local_hosts": "house.test", "max_body_bytes": 50_000, **more}
    fetcher = Fetcher(Settings(data_dir=folder, **options), resolver)
    asyncio.run(fetcher.fetch(url, folder / "out"))
    return (folder / "out").read_bytes()


def refusal(url: str, folder: Path, **more: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        fetch(url, folder, **more)
    assert caught.value.field == "image"
    return caught.value.message


def test_a_host_of_the_house_is_fetched_under_its_name(
    site: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, hosts = site
    assert fetch(f"http://house.test:{port}/a.png?x=1#y", tmp_path) == b"picture"
    assert hosts == [f"house.test:{port}"]
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_a_private_address_is_refused_and_not_connected_to(
    site: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, hosts = site
    for answers in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:10.0.0.1"]):
        url = f"http://evil.test:{port}/a.png"
        assert "private" in refusal(url, tmp_path, answers={"evil.test": answers})
    assert hosts == []


def test_redirects_are_followed_thrice_and_checked_each_time(
    site: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, hosts = site
    home = f"http://house.test:{port}"
    assert fetch(f"{home}/to/{home}/to//to//a.png", tmp_path) == b"picture"
    assert "redirects" in refusal(f"{home}/to//to//to//to//a.png", tmp_path)
    hosts.clear()
    inward = f"{home}/to/http://127.0.0.1:{port}/a.png"
    assert "private" in refusal(inward, tmp_path, answers={"127.0.0.1": ["127.0.0.1"]})
    assert "only http" in refusal(f"{home}/to/file:///etc/passwd", tmp_path)
    assert hosts == [f"house.test:{port}"] * 2


def test_the_address_that_was_checked_is_the_one_that_is_used(
    site: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, _ = site
    # No resolver but ours knows the name, and ours would give another address if asked again.
    answers = {"house.test": [["127.0.0.1"], ["192.0.2.1"]]}
    assert fetch(f"http://house.test:{port}/a.png", tmp_path, answers=answers) == b"picture"
    assert answers == {"house.test": [["192.0.2.1"]]}


def test_certificates_are_checked_against_the_name_not_the_address() -> None:
    url = httpx.URL("https://example.com/a.png")
    request = pinned(httpx.AsyncClient(), url, "2606:4700::1111")
    assert str(request.url) == "https://[2606:4700::1111]/a.png"
    assert request.headers["host"] == "example.com"
    assert request.extensions["sni_hostname"] == "example.com"


def certificate(folder: Path, host: str) -> Path:
    """A file with a key and a certificate that it signed itself, for one host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path = folder / f"{host}.pem"
    path.write_bytes(secret + signed.public_bytes(encoding))
    return path


def test_https_is_fetched_from_those_who_prove_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = certificate(tmp_path, "house.test")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(own)
    handler = type("Handler", (Site,), {"hosts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = server_side.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        answers = {"other.test": ["127.0.0.1"]}
        more = {"answers": answers, "local_hosts": "house.test,other.test"}
        assert "reached" in refusal(f"https://house.test:{port}/a.png", tmp_path, **more)
        trusting = ssl.create_default_context(cafile=own)
        monkeypatch.setattr(httpx, "create_ssl_context", lambda: trusting)
        assert fetch(f"https://house.test:{port}/a.png", tmp_path, **more) == b"picture"
        # The same address by another name, for which the certificate does not speak.
        assert "reached" in refusal(f"https://other.test:{port}/a.png", tmp_path, **more)
        server.shutdown()
    assert handler.hosts == [f"house.test:{port}"]  # type: ignore[attr-defined]


def test_bytes_and_time_are_capped(site: tuple[int, list[str]], tmp_path: Path) -> None:
    port, _ = site
    with pytest.raises(TooLarge):
        fetch(f"http://house.test:{port}/large", tmp_path)
    (tmp_path / "out").unlink()
    begun = time.monotonic()
    slow = refusal(f"http://house.test:{port}/slow", tmp_path, fetch_timeout_seconds=0.2)
    assert "0.2 seconds" in slow
    assert time.monotonic() - begun < 5  # it would go on for ever


def test_failures_are_told_apart(site: tuple[int, list[str]], tmp_path: Path) -> None:
    port, _ = site
    assert "404" in refusal(f"http://house.test:{port}/missing", tmp_path)
    assert "resolved" in refusal("http://nowhere.test/a.png", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    assert "reached" in refusal(f"http://house.test:{dead}/a.png", tmp_path)


def test_local_only_allows_the_house_and_asks_no_resolver(
    site: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, _ = site
    assert fetch(f"http://house.test:{port}/a.png", tmp_path, local_only=True) == b"picture"
    assert "LOCAL_ONLY" in refusal("http://nowhere.test/a.png", tmp_path, local_only=True)


def test_a_list_of_hosts_shuts_out_all_others(site: tuple[int, list[str]], tmp_path: Path) -> None:
    port, hosts = site
    for allowed in ("images.test", "*.cdn.test"):
        assert "among" in refusal("http://nowhere.test/a.png", tmp_path, fetch_hosts=allowed)
    outward = f"http://house.test:{port}/to/http://cdn.test/a.png"
    assert "among" in refusal(outward, tmp_path, fetch_hosts="*.cdn.test, a.test")
    assert hosts == [f"house.test:{port}"]
    for name in ("images.test", "a.b.cdn.test"):
        url, answers = f"http://{name}/a.png", {name: ["127.0.0.1"]}
        wrong = refusal(url, tmp_path, answers=answers, fetch_hosts="images.test,*.CDN.test")
        assert "private" in wrong


@pytest.mark.parametrize("target", ["http://[::1", "http://a:99999/", "//user:x@house.test/", "//"])
def test_a_redirect_to_nonsense_is_refused(
    site: tuple[int, list[str]], tmp_path: Path, target: str
) -> None:
    assert "cannot be used" in refusal(f"http://house.test:{site[0]}/to/{target}", tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "64:ff9b:1::7f00:1",
        "::ffff:0:7f00:1",
        "fec0::1",
        "198.18.0.1",
        "nonsense",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)
