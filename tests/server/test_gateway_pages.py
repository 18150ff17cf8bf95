"""What the hosted gateway's pages tell its users to write, run as text: nothing is changed but the
server's address. Where an SDK refuses it, that is tested too, and what to write instead runs.

The files that the pages name lie in the working folder; the key stays theirs. Chains begin with a
picture that somebody else makes, so a stand-in for the gateway makes it and passes on the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server.live import Live, png
from tests.server.test_sdk import older as older
from tests.server.test_sdk_node import installed as installed

HOSTED = "https://api.lumenfall.ai"
FILES = ("capybara.png", "source.png", "original.png")
PAGE = (Path(__file__).parents[2] / "docs" / "sdks.md").read_text(encoding="utf-8")

CURL = {
    "image upscaling: quick start": r"""
curl https://api.lumenfall.ai/openai/v1/images/edits \
  -H "Authorization: Bearer $LUMENFALL_API_KEY" \
  -F "model=topaz-image-upscale" \
  -F "image=@capybara.png" \
  -F "scale_factor=4"
""",
    "a model's page": r"""
curl -X POST \
  https://api.lumenfall.ai/openai/v1/images/edits \
  -H "Authorization: Bearer $LUMENFALL_API_KEY" \
  -F "model=real-esrgan" \
  -F "image=@source.png" \
  -F "prompt=Add a starry night sky to this image" \
  -F "size=1024x1024"
""",
    "cost estimation": r"""
curl "https://api.lumenfall.ai/openai/v1/images/edits?dryRun=true" \
  -H "Authorization: Bearer $LUMENFALL_API_KEY" \
  -F "model=topaz-image-upscale" \
  -F "image=@capybara.png" \
  -F "scale_factor=4" \
  -F "n=2"
""",
    "models": r"""
curl https://api.lumenfall.ai/openai/v1/models \
  -H "Authorization: Bearer $LUMENFALL_API_KEY"
curl https://api.lumenfall.ai/openai/v1/models/real-esrgan \
  -H "Authorization: Bearer $LUMENFALL_API_KEY"
""",
    "a chain, by its links": r"""
generated=$(curl https://api.lumenfall.ai/openai/v1/images/generations \
  -H "Authorization: Bearer $LUMENFALL_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"model": "flux.2-max", "prompt": "A capybara in a hot spring", "size": "1024x1024"}' \
  | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["url"])')
curl https://api.lumenfall.ai/openai/v1/images/edits \
  -H "Authorization: Bearer $LUMENFALL_API_KEY" \
  -F "model=topaz-image-upscale" \
  -F "image=$generated" \
  -F "scale_factor=2"
""",
}

CLIENT = """
from openai import OpenAI

client = OpenAI(
    api_key="lmnfl_your_api_key",
    base_url="https://api.lumenfall.ai/openai/v1",
)
"""

PYTHON = {
    "image upscaling": """
response = client.images.edit(
    model="topaz-image-upscale",
    image=open("capybara.png", "rb"),
    prompt="",
    extra_body={"scale_factor": 4},
)
print(response.data[0].url)
print(response.size, response.metadata["cost"])
""",
    "a model's page": """
response = client.images.edit(
    model="real-esrgan",
    image=open("source.png", "rb"),
    prompt="Add a starry night sky to this image",
    size="1024x1024",
)
print(response.data[0].url)
""",
    "editing": """
response = client.images.edit(
    model="clarity-upscaler",
    image=open("original.png", "rb"),
    prompt="Add a rainbow in the sky",
    n=1,
    size="1024x1024",
)
print(response.data[0].url)
""",
    "routing: who ran it": """
response = client.images.with_raw_response.edit(
    model="topaz-image-upscale",
    image=open("capybara.png", "rb"),
    prompt="",
    extra_body={"scale_factor": 2},
)
for name in ("Provider", "Model", "Request-Id"):
    print(response.headers[f"X-Lumenfall-{name}"])
print(response.parse().data[0].url)
""",
    "cost estimation": """
estimate = client.images.edit(
    model="topaz-image-upscale",
    image=open("capybara.png", "rb"),
    prompt="",
    n=2,
    extra_body={"scale_factor": 4},
    extra_query={"dryRun": "true"},
)
print(f"Estimated cost: ${estimate.total_cost_micros / 1_000_000:.4f}")
assert [part["metric"] for part in estimate.components] == ["image"]
""",
    "models": """
for model in client.models.list():
    print(model.id, model.owned_by)
print(client.models.retrieve("real-esrgan").id)
""",
    "errors": """
from openai import APIStatusError

try:
    client.models.retrieve("invalid-model")
except APIStatusError as error:
    print(error.status_code, error.code, error.type)
    assert error.code == "MODEL_NOT_FOUND"
else:
    raise AssertionError("no error")
""",
}

REQUESTS = """
import requests

response = requests.post(
    "https://api.lumenfall.ai/openai/v1/images/edits?dryRun=true",
    headers={"Authorization": f"Bearer {api_key}"},
    files={"image": open("capybara.png", "rb")},
    data={"model": "topaz-image-upscale", "scale_factor": 4},
)
estimate = response.json()
cost_dollars = estimate["total_cost_micros"] / 1_000_000
print(f"Estimated cost: ${cost_dollars:.4f}")
"""

GENERATE = """
generated = client.images.generate(
    model="flux.2-max",
    prompt="A capybara relaxing in a hot spring",
    size="1024x1024",
)
"""
EDIT = """
generated = client.images.edit(
    model="gemini-3-pro-image",
    image=open("original.png", "rb"),
    prompt="Add a red hat to the person",
)
"""

# As the pages have it, what the SDK says to that, and what to write instead.
REFUSED = {
    "no prompt": (
        """
upscaled = client.images.edit(
    model="topaz-image-upscale",
    image=open("capybara.png", "rb"),
    extra_body={"scale_factor": 4},
)
""",
        (TypeError, "prompt"),
        """
upscaled = client.images.edit(
    model="topaz-image-upscale",
    image=open("capybara.png", "rb"),
    prompt="",
    extra_body={"scale_factor": 4},
)
""",
    ),
    "a URL as the image": (
        """
upscaled = client.images.edit(
    model="topaz-image-upscale",
    image=generated.data[0].url,
    prompt="",
    extra_body={"scale_factor": 2},
)
""",
        (RuntimeError, "to be bytes"),
        """
from openai import omit

upscaled = client.images.edit(
    model="topaz-image-upscale",
    image=omit,
    prompt="",
    extra_body={"image": generated.data[0].url, "scale_factor": 2},
)
""",
    ),
    "a URL as the image, as JSON": (
        """
upscaled = client.images.edit(
    model="topaz-image-upscale",
    image=[generated.data[0].url],
    prompt="",
    extra_body={"scale_factor": 2},
)
""",
        (RuntimeError, "to be bytes"),
        """
upscaled = client.post(
    "/images/edits",
    body={
        "model": "topaz-image-upscale",
        "image": generated.data[0].url,
        "scale_factor": 2,
    },
    cast_to=object,
)
""",
    ),
}

NODE = """
import OpenAI from "openai";
import fs from "fs";

const client = new OpenAI({
  apiKey: "YOUR_API_KEY",
  baseURL: "https://api.lumenfall.ai/openai/v1",
});
const response = await client.images.edit({
  model: "real-esrgan",
  image: fs.createReadStream("source.png"),
  prompt: "Add a starry night sky to this image",
  size: "1024x1024",
});
console.log(response.data[0].url);

const upscaled = await client.images.edit({
  model: "topaz-image-upscale",
  image: fs.createReadStream("capybara.png"),
  scale_factor: 4,
});
console.log(upscaled.data[0].url, upscaled.metadata.cost);
"""
NODE_CHAIN = """
import OpenAI from "openai";

const client = new OpenAI({
  apiKey: "YOUR_API_KEY",
  baseURL: "https://api.lumenfall.ai/openai/v1",
});
const generated = await client.images.generate({
  model: "flux.2-max",
  prompt: "A capybara relaxing in a hot spring",
  size: "1024x1024",
});
const upscaled = await client.images.edit({
  model: "topaz-image-upscale",
  image: generated.data[0].url,
  scale_factor: 2,
});
console.log(upscaled.data[0].url);

const apiKey = "YOUR_API_KEY";
const response = await fetch(
  "https://api.lumenfall.ai/openai/v1/images/edits?dryRun=true",
  {
    method: "POST",
    headers: {
      Authorization: `Bearer ${apiKey}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({
      model: "topaz-image-upscale",
      image: upscaled.data[0].url,
      scale_factor: 2,
    }),
  }
);
const estimate = await response.json();
console.log(`$${(estimate.total_cost_micros / 1_000_000).toFixed(4)}`);
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files that the pages name."""
    for name in FILES:
        (tmp_path / name).write_bytes(png())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUMENFALL_API_KEY", "lmnfl_your_api_key")
    return tmp_path


@pytest.fixture
def gateway(live: Live) -> Iterator[str]:
    """The address of one that makes and edits pictures, and passes upscales on to the server."""
    made = live.edit({"model": "bundled-x4"}).json()
    live.engine.jobs.clear()

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/generations") or b"gemini-3-pro-image" in body:
                status, content = 200, json.dumps(made).encode()
            else:
                headers = {"Content-Type": self.headers["Content-Type"]}
                reply = httpx.post(live.url + self.path, content=body, headers=headers)
                status, content = reply.status_code, reply.content
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *told: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(text: str, address: str, **names: Any) -> dict[str, Any]:
    """Run a snippet in Python; returns the names that it leaves."""
    exec(text.replace(HOSTED, address), names)
    return names


@pytest.mark.parametrize("name", list(CURL))
def test_curl(live: Live, gateway: str, folder: Path, name: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    address = gateway if "generations" in CURL[name] else live.url
    script = CURL[name].replace(HOSTED, address).replace("curl ", "curl --silent --fail ")
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if name == "models":
        return
    reply = json.loads(done.stdout)
    if "dryRun" in CURL[name]:
        assert reply["components"][0]["quantity"] == 2
    else:
        assert live.client.get(reply["data"][0]["url"]).status_code == 200
        assert reply["metadata"]["cost_currency"] == "USD"
    assert len(live.engine.jobs) == ("dryRun" not in CURL[name])


@pytest.mark.parametrize("name", list(PYTHON))
def test_python(live: Live, folder: Path, name: str) -> None:
    names = run(CLIENT + PYTHON[name], live.url)
    assert len(live.engine.jobs) == ("response" in names)


@pytest.mark.slow
def test_python_with_older_sdks(live: Live, folder: Path, older: Path) -> None:
    script = (CLIENT + "".join(PYTHON.values())).replace(HOSTED, live.url)
    done = subprocess.run([str(older), "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(live.engine.jobs) == sum("response =" in text for text in PYTHON.values())


def test_python_without_a_word_about_the_server(
    live: Live, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages name the variables that SDKs and tools read."""
    monkeypatch.setenv("OPENAI_API_KEY", "lmnfl_your_api_key")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{live.url}/openai/v1")
    run("from openai import OpenAI\nclient = OpenAI()" + PYTHON["image upscaling"], live.url)
    assert len(live.engine.jobs) == 1


def test_python_without_an_sdk(live: Live, folder: Path) -> None:
    pytest.importorskip("requests", reason="requests is not installed")
    names = run(REQUESTS, live.url, api_key="lmnfl_your_api_key")
    assert names["response"].status_code == 200
    assert not live.engine.jobs


@pytest.mark.parametrize("name", list(REFUSED))
@pytest.mark.parametrize("begin", [GENERATE, EDIT], ids=["generated", "edited"])
def test_what_the_sdk_refuses(
    live: Live, gateway: str, folder: Path, name: str, begin: str
) -> None:
    written, (error, words), instead = REFUSED[name]
    names = run(CLIENT + begin, gateway)
    with pytest.raises(error, match=words):
        exec(written, names)
    assert not live.engine.jobs  # it was the SDK
    exec(instead, names)
    upscaled = names["upscaled"]
    data = upscaled["data"] if isinstance(upscaled, dict) else upscaled.to_dict()["data"]
    assert live.client.get(data[0]["url"]).status_code == 200
    assert len(live.engine.jobs) == 1


def test_the_page_on_clients_tells_of_what_the_sdk_refuses() -> None:
    told = PAGE.split("## As the hosted pages write it", 1)[1].split("\n## ")[0]
    for _, (error, _), _ in REFUSED.values():
        assert error.__name__ in told
    for words in ('prompt=""', "image=omit", 'extra_body={"image": url', "client.post("):
        assert words in told


@pytest.mark.parametrize("begin", [GENERATE, EDIT], ids=["generated", "edited"])
def test_pictures_are_not_made_here(live: Live, folder: Path, begin: str) -> None:
    with pytest.raises(openai.NotFoundError):
        run(CLIENT + begin, live.url)


@pytest.mark.slow
@pytest.mark.parametrize("text", [NODE, NODE_CHAIN], ids=["pages", "chain"])
def test_node(live: Live, gateway: str, folder: Path, installed: Path, text: str) -> None:
    address = gateway if text is NODE_CHAIN else live.url
    for name in FILES:
        shutil.copy(folder / name, installed)
    (installed / "pages.mjs").write_text(text.replace(HOSTED, address))
    done = subprocess.run(["node", "pages.mjs"], cwd=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(live.engine.jobs) == (1 if text is NODE_CHAIN else 2)
