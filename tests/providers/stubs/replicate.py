"""Replicate as documented: files, models, predictions, cancelling, the list of predictions."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stubs.base import PAGE, Drip, Gone, Half, Job, Stub, cut, scaled, size_of

VERSION = "ab" * 32
# Per image where it is published; the others by the second.
PER_IMAGE = {"recraft-ai/recraft-crisp-upscale": Decimal("0.006")}
PER_SECOND = Decimal("0.000975")
OFFICIAL = ("topazlabs", "recraft-ai", "google")


class ReplicateStub(Stub):
    """Everything under /v1."""

    def routes(self) -> list[Route]:
        """As the OpenAPI file has them."""
        return [
            Route("/v1/files", self._upload, methods=["POST"]),
            Route("/v1/files/{id}", self._delete, methods=["DELETE"]),
            Route("/v1/models/{owner}/{name}", self._model, methods=["GET"]),
            Route("/v1/models/{owner}/{name}/predictions", self._create, methods=["POST"]),
            Route("/v1/predictions", self._create, methods=["POST"]),
            Route("/v1/predictions", self._list, methods=["GET"]),
            Route("/v1/predictions/{id}", self._get, methods=["GET"]),
            Route("/v1/predictions/{id}/cancel", self._cancel, methods=["POST"]),
            Route("/v1/outputs/{name}", self._output, methods=["GET"]),
        ]

    async def _upload(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        if self.fault == "files_404":
            return JSONResponse({"title": "t", "detail": "not found", "status": 404}, 404)
        form = await request.form()
        file: Any = form["content"]
        content = await file.read()
        name = f"{file.filename}-{len(self.uploads)}"
        self.uploads[name] = content
        body = {
            "id": name,
            "urls": {"get": f"{self.url}/v1/files/{name}"},
            "size": len(content),
            "content_type": file.content_type,
        }
        return JSONResponse(body, 201)

    async def _delete(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["delete"] += 1
        return Response(status_code=204)

    async def _model(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["model"] += 1
        if self.fault == "no_version":
            return JSONResponse({"latest_version": None})
        return JSONResponse({"latest_version": {"id": VERSION}})

    async def _create(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["create"] += 1
        sent = await request.json()
        owner = request.path_params.get("owner")
        endpoint = f"{owner}/{request.path_params['name']}" if owner else "community"
        if (owner in OFFICIAL) == ("version" in sent) or not request.headers.get("cancel-after"):
            return JSONResponse({"title": "Invalid", "detail": "version", "status": 422}, 422)
        throttled = "Request was throttled. Your rate limit resets in ~2s."
        plain = {
            "429": (429, throttled),
            "402": (402, "You have insufficient credit"),
            "403": (403, f"Forbidden {self.key}"),
            "404": (404, "not found"),
            "422": (422, "image: bad"),
            "500": (500, "oops"),
            "503": (503, "later"),
        }
        if self.fault in plain and self.now(self.fault):
            status, words = plain[self.fault]
            return JSONResponse(
                {"title": "t", "detail": words, "status": status},
                status,
                media_type="application/problem+json",
            )
        job = self._make(endpoint, sent)
        if self.now("slow_reply"):
            await asyncio.sleep(1.0)
        if self.now("cut_reply"):
            cut(request)
            return Gone()
        if self.now("late_503"):
            return JSONResponse(self._shown(job), 503, {"Retry-After": "1"})
        if self.now("late_500"):
            return JSONResponse({"title": "t", "detail": "oops", "status": 500}, 500)
        if self.now("half_reply"):
            return Half(JSONResponse(self._shown(job)).body, 201, media_type="application/json")
        return JSONResponse(self._shown(job), 201)

    def _make(self, endpoint: str, sent: dict[str, Any]) -> Job:
        self.paid += 1
        job = Job(f"pred{self.paid:04d}", endpoint, sent)
        inner = sent["input"]
        factor = str(inner.get("upscale_factor", inner.get("scale_factor", inner.get("scale", 4))))
        name = inner["image"].rsplit("/", 1)[1]
        job.size = scaled(size_of(self.uploads[name]), factor.strip("x"))
        job.result = self.picture(job.size)
        job.extra = {"status": "starting"}
        self.jobs[job.id] = job
        return job

    def _shown(self, job: Job) -> dict[str, Any]:
        status = job.extra["status"]
        output: Any = self.link(f"{job.id}.png") if status == "succeeded" else None
        if output and self.fault == "list_output":
            output = [output]
        if output and self.fault == "with_key":
            output = f"{self.url}/v1/outputs/{job.id}.png"
        if self.fault in ("no_output", "removed"):
            output = None
        return {
            "id": job.id,
            "input": job.sent["input"],
            "output": output,
            "error": job.extra.get("error"),
            "status": status,
            "logs": "",
            "metrics": {"predict_time": 3.5} if status == "succeeded" else {},
            "data_removed": self.fault == "removed",
            "version": VERSION,
        }

    async def _get(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        job = self.jobs[request.path_params["id"]]
        self.calls["status"] += 1
        self.polled.set()
        if self.now("poll_drip"):
            return Drip(b" " * 400)
        if self.now("poll_500", "poll_429"):
            return JSONResponse({"detail": "later"}, int(self.fault[-3:]))
        if self.now("poll_cut"):
            cut(request)
            return Gone()
        job.polls += 1
        if job.polls > self.polls and self.fault != "stuck" and not job.ended:
            self._end(job)
        elif not job.ended:
            job.extra["status"] = "starting" if self.fault == "stuck" else "processing"
        return JSONResponse(self._shown(job))

    def _end(self, job: Job) -> None:
        job.ended = True
        words = {"failed": "CUDA out of memory", "nsfw": "NSFW content detected", "aborted": None}
        if self.fault in words:
            job.extra |= {"status": "aborted" if self.fault == "aborted" else "failed"}
            job.extra["error"] = words[self.fault]
            return
        job.extra["status"] = "succeeded"
        price = PER_IMAGE.get(job.endpoint)
        seconds = Decimal("3.5")
        self.bill(job, Decimal(1) if price else seconds, price or seconds * PER_SECOND)

    async def _cancel(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["cancel"] += 1
        job = self.jobs[request.path_params["id"]]
        if not job.ended:
            job.ended = job.cancelled = True
            job.extra["status"] = "aborted" if job.extra["status"] == "starting" else "canceled"
            if job.extra["status"] == "canceled":
                self.bill(job, Decimal(1), PER_SECOND)
        return JSONResponse(self._shown(job))

    async def _list(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        at = int(request.query_params.get("cursor", "0"))
        self.calls["find" if at == 0 else "find_more"] += 1
        assert "created_after" in request.query_params
        if self.fault == "odd_list":
            return JSONResponse({"results": None})
        rows = [self._shown(job) for job in reversed(self.jobs.values())]
        more = len(rows) > at + PAGE or self.fault == "endless_list"
        query = f"{request.url.query.partition('&cursor=')[0]}&cursor={at + PAGE}"
        then = f"{self.url}{request.url.path}?{query}" if more else None
        return JSONResponse({"results": rows[at : at + PAGE], "next": then, "previous": None})

    async def _output(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        job = self.jobs[request.path_params["name"].split(".")[0]]
        return Response(job.result, media_type="image/png")
