"""The whole of it once: the server's own process, a device worker, the bundled network."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image

from tests.server.live import EDITS, check_error, picture

PROGRAM = """
import sys
from pathlib import Path
from upscale.server.main import serve
from upscale.settings import Settings
settings = Settings(port=0, data_dir=Path(sys.argv[1]), device="cpu", tile=64)
serve(settings, ready=lambda url, _: print(url, flush=True))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(shared_data_dir: Path) -> Iterator[str]:
    arguments = [sys.executable, "-c", PROGRAM, str(shared_data_dir)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_picture_goes_through_the_bundled_network(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/openai/v1", api_key="none") as client:
        reply = client.images.edit(
            model="bundled-x4",
            image=picture(size=(70, 50)),
            prompt="",
            extra_body={"scale_factor": 2.5},
        )
    assert reply.size == "175x125"
    assert reply.data is not None
    with Image.open(BytesIO(httpx.get(str(reply.data[0].url)).content)) as image:
        assert image.size == (175, 125)
        image.load()
    metadata = (reply.model_extra or {})["metadata"]
    assert metadata["executed_model"] == "local/bundled-x4"
    assert metadata["receipt"]["tiles"]["done"] == metadata["receipt"]["tiles"]["planned"]


def test_a_broken_picture_is_a_400_and_the_next_one_works(url: str) -> None:
    fields = {"model": "bundled-x4"}
    cut = picture(size=(70, 50))[:-600]
    reply = httpx.post(url + EDITS, data=fields, files={"image": cut}, timeout=60)
    check_error(reply, 400, param="image")
    good = httpx.post(url + EDITS, data=fields, files={"image": picture()}, timeout=60)
    assert good.status_code == 200


def test_a_caller_that_leaves_frees_the_device(url: str) -> None:
    large = {"image": picture("jpeg", (2000, 1500))}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url + EDITS, data={"model": "bundled-x4"}, files=large, timeout=3)
    begun = time.monotonic()
    small = {"image": picture()}
    reply = httpx.post(url + EDITS, data={"model": "bundled-x4"}, files=small, timeout=60)
    assert reply.status_code == 200
    assert time.monotonic() - begun < 10
