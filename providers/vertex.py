"""Google Vertex AI: one blocking call of an Imagen model; the result lies in the reply. Tokens come
from Google's library, which is loaded when it is needed.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from upscale.providers import mapping
from upscale.providers.blocking import BlockingAdapter
from upscale.providers.body import json_body
from upscale.providers.download import write_base64
from upscale.providers.outcome import Failure, Kind
from upscale.providers.task import RemoteResult, RemoteTask
from upscale.providers.transport import Reply

HOST = "aiplatform.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_FRESH_SECONDS = 300

Token = Callable[[], Awaitable[str]]


class Vertex(BlockingAdapter):
    """Routes of Vertex AI, in one project and region. `token` gives an OAuth token."""

    provider: ClassVar[str] = "vertex"
    name: ClassVar[str] = "Google Vertex AI"
    seconds: ClassVar[float] = 180.0

    def __init__(
        self,
        transport: Any,
        *,
        project: str,
        region: str,
        model: str = "",
        watermark: bool = False,
        token: Token | None = None,
    ) -> None:
        super().__init__(transport)
        self._project, self._region, self._model = project, region, model
        self._watermark = watermark
        self._token = token

    async def run(self, task: RemoteTask) -> RemoteResult:
        """POST the picture, take the result out of the reply."""
        job = self.job_of(task, mark="")
        headers = {"Authorization": f"Bearer {await self._token()}"} if self._token else {}
        place = f"/v1/projects/{self._project}/locations/{self._region}/publishers/google/models"
        url = self.site.url(HOST, f"{place}/{self._model or job.endpoint}:predict")
        content = await asyncio.to_thread(task.file.read_bytes)
        wish = {
            "instances": [
                {
                    "prompt": "",
                    "image": {
                        "bytesBase64Encoded": base64.b64encode(content).decode(),
                        "mimeType": task.mime,
                    },
                }
            ],
            "parameters": {
                "mode": "upscale",
                "sampleCount": 1,
                "upscaleConfig": mapping.inputs(task),
                "outputOptions": {"mimeType": "image/png"},
                "includeRaiReason": True,
                "addWatermark": self._watermark,
            },
        }
        most = task.max_bytes * 4 // 3 + (1 << 20)
        reply = await self.ask(task, url, json_body(wish), job, headers=headers, max_bytes=most)
        job = job.now("done", billed="yes")
        try:
            size, mime = await asyncio.to_thread(self._take, reply, task)
        except Failure as failure:
            task.target.unlink(missing_ok=True)
            raise await self.spoilt(task, job, failure) from None
        return await self.finish(task, RemoteResult(task.target, size, mime, job))

    def kind_of(self, reply: Reply) -> Kind:
        """As usual; billing or an API that is off answer 400."""
        error = reply.json().get("error")
        status = error.get("status") if isinstance(error, dict) else None
        if status == "FAILED_PRECONDITION":
            return Kind.BALANCE
        return super().kind_of(reply)

    def _take(self, reply: Reply, task: RemoteTask) -> tuple[int, str]:
        predictions = reply.json().get("predictions")
        first = predictions[0] if isinstance(predictions, list) and predictions else None
        if not isinstance(first, dict) or "bytesBase64Encoded" not in first:
            said = first.get("raiFilteredReason") if isinstance(first, dict) else None
            reason = self.site.scrub(said or "the picture was filtered by its content policy.")
            raise Failure(Kind.POLICY, reason)
        size = write_base64(str(first["bytesBase64Encoded"]), task.target, task.max_bytes)
        return size, str(first.get("mimeType", "image/png"))


class GoogleToken:
    """Tokens by Google's library (the extra `vertex`), from its application default credentials."""

    def __init__(self) -> None:
        self._credentials: Any = None

    async def __call__(self) -> str:
        """A token that lives for five minutes at least. Raises Failure."""
        return await asyncio.to_thread(self._fresh)

    def _fresh(self) -> str:
        try:
            import google.auth
            from google.auth.transport.requests import Request
        except ImportError:
            raise Failure(
                Kind.KEY, "Google's library is not installed (pip install 'upscale[vertex]')."
            ) from None
        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=[_SCOPE])
            if not self._credentials.valid or self._is_old():
                self._credentials.refresh(Request())
        except Exception as fault:
            raise Failure(
                Kind.KEY, f"Google's credentials give no token ({type(fault).__name__})."
            ) from None
        return str(self._credentials.token)

    def _is_old(self) -> bool:
        from datetime import UTC, datetime

        expiry = getattr(self._credentials, "expiry", None)
        if expiry is None:
            return False
        left = expiry.replace(tzinfo=UTC) - datetime.now(UTC)
        return bool(left.total_seconds() < _FRESH_SECONDS)
