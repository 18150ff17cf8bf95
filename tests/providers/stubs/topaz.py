"""Topaz Labs as documented: enhancement, status, links, estimates, cancelling."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stubs.base import Drip, Gone, Half, Job, Stub, cut, megapixels

CREDIT = Decimal("0.10")
ROOT = "/image/v1"


def credits_for(size: tuple[int, int]) -> int:
    """One for each 24 megapixels of output that were begun."""
    return max(1, -(-megapixels(size) // 24).__int__())


class TopazStub(Stub):
    """Everything under /image/v1."""

    auth: ClassVar[tuple[str, str]] = ("x-api-key", "{}")

    def routes(self) -> list[Route]:
        """As the OpenAPI file has them."""
        return [
            Route(f"{ROOT}/enhance/async", self._create, methods=["POST"]),
            Route(f"{ROOT}/enhance-gen/async", self._create, methods=["POST"]),
            Route(f"{ROOT}/estimate", self._estimate, methods=["POST"]),
            Route(f"{ROOT}/estimate-gen", self._estimate, methods=["POST"]),
            Route(f"{ROOT}/status", self._list, methods=["GET"]),
            Route(f"{ROOT}/status/{{id}}", self._status, methods=["GET"]),
            Route(f"{ROOT}/status/{{id}}", self._forget, methods=["DELETE"]),
            Route(f"{ROOT}/download/{{id}}", self._download, methods=["GET"]),
            Route(f"{ROOT}/cancel/{{id}}", self._cancel, methods=["DELETE"]),
        ]

    async def _create(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["create"] += 1
        form = await request.form()
        file: Any = form["image"]
        sent: dict[str, Any] = {k: v for k, v in form.items() if k != "image"}
        sent |= {"filename": file.filename, "content_type": file.content_type}
        self.uploads[file.filename] = await file.read()
        plain = {
            "425": "Too early to reserve credits. An order for more credits is in progress.",
            "429": "Too Many Requests",
            "401": f"Unauthorized {self.key}",
            "402": "Insufficient funds.",
            "412": "No subscription",
            "415": "Image could not be decoded to a supported image type.",
            "422": "Image has invalid dimensions (width or height is zero).",
            "400": "Invalid output height.",
            "500": "Internal",
            "503": "Unavailable",
        }
        if self.fault in plain and self.now(self.fault):
            status = int(self.fault)
            return JSONResponse({"code": status, "message": plain[self.fault]}, status)
        self.paid += 1
        job = Job(f"proc-{self.paid:04d}", request.url.path.removeprefix(ROOT), sent)
        job.size = (int(sent["output_width"]), int(sent["output_height"]))
        job.result = self.picture(job.size)
        job.extra = {"status": "Pending", "credits": credits_for(job.size)}
        self.jobs[job.id] = job
        if self.now("slow_reply"):
            await asyncio.sleep(1.0)
        eta = int(time.time()) + 9
        body = {"process_id": job.id, "source_id": "s", "eta": eta}
        if self.now("cut_reply"):
            cut(request)
            return Gone()
        if self.now("half_reply"):
            headers = {"X-Process-ID": job.id} if self.wait != "0" else {}
            return Half(JSONResponse(body).body, headers=headers, media_type="application/json")
        if self.now("500_with_id"):
            return JSONResponse({"message": "Internal"}, 500, {"X-Process-ID": job.id})
        return JSONResponse(body)

    def _shown(self, job: Job) -> dict[str, Any]:
        return {
            "process_id": job.id,
            "filename": job.sent["filename"],
            "status": job.extra["status"],
            "progress": min(100, 40 * job.polls),
            "eta": int(time.time()) + 3,
            "credits": job.extra["credits"],
        }

    async def _status(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return JSONResponse({"message": "unknown process id"}, 404)
        self.calls["status"] += 1
        self.polled.set()
        if self.now("poll_drip"):
            return Drip(b" " * 400)
        if self.now("poll_500", "poll_429"):
            return JSONResponse({"message": "later"}, int(self.fault[-3:]))
        if self.now("poll_cut"):
            cut(request)
            return Gone()
        job.polls += 1
        if not job.ended:
            job.extra["status"] = "Pending" if self.fault == "stuck" else "Processing"
        if job.polls > self.polls and self.fault != "stuck" and not job.ended:
            job.ended = True
            if self.fault in ("failed", "failed_billed"):
                job.extra["status"] = "Failed"
                job.extra["credits"] = 0 if self.fault == "failed" else job.extra["credits"]
            else:
                job.extra["status"] = "Completed"
                units = Decimal(job.extra["credits"])
                self.bill(job, units, units * CREDIT)
        return JSONResponse(self._shown(job))

    async def _list(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["find"] += 1
        rows = [self._shown(job) for job in reversed(self.jobs.values())]
        if self.fault == "bare_list":
            return JSONResponse(rows)
        return JSONResponse({"requests": rows, "total": len(rows)})

    async def _forget(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["forget"] += 1
        return Response(status_code=204)

    async def _download(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        job = self.jobs[request.path_params["id"]]
        if self.now("not_ready"):
            return JSONResponse({"message": "not ready"}, 409)
        if self.fault == "no_output":
            return JSONResponse({"expiry": 1})
        return JSONResponse({"download_url": self.link(f"{job.id}.png"), "expiry": 1})

    async def _cancel(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["cancel"] += 1
        job = self.jobs[request.path_params["id"]]
        if job.ended:
            return JSONResponse({"message": "completed"}, 409)
        job.ended = job.cancelled = True
        job.extra |= {"status": "Cancelled", "credits": 0}
        return Response(status_code=204)

    async def _estimate(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["estimate"] += 1
        sent = await request.json()
        assert {"input_width", "input_height", "category", "model"} <= set(sent)
        size = (sent["output_width"], sent["output_height"])
        return JSONResponse({"duration": 9, "credits": credits_for(size)})
