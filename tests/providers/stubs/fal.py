"""fal.ai as documented: storage, queue, results, cancelling, prices, the list of requests."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stubs.base import (
    PAGE,
    Drip,
    Gone,
    Half,
    Job,
    Stub,
    cut,
    megapixels,
    scaled,
    size_of,
)

# Endpoint: unit, price of a unit in USD, name of the factor.
PRICES = {
    "clarityai/crystal-upscaler": ("megapixels", "0.016", "scale_factor"),
    "fal-ai/clarity-upscaler": ("megapixels", "0.03", "upscale_factor"),
    "fal-ai/seedvr/upscale/image": ("megapixels", "0.001", "upscale_factor"),
    "fal-ai/recraft/upscale/crisp": ("images", "0.004", ""),
    "fal-ai/recraft/upscale/creative": ("images", "0.25", ""),
    "fal-ai/esrgan": ("compute seconds", "0.00111", "scale"),
    "fal-ai/aura-sr": ("compute seconds", "0.00111", "upscaling_factor"),
    "fal-ai/topaz/upscale/image": ("units", "0.01", "upscale_factor"),
}


class FalStub(Stub):
    """Everything under /queue, /rest and /api."""

    auth: ClassVar[tuple[str, str]] = ("authorization", "Key {}")
    published: bool = True

    def routes(self) -> list[Route]:
        """Requests below the first two segments of an endpoint, as the queue has them."""
        job = "/queue/{owner}/{alias}/requests/{id}"
        return [
            Route("/rest/storage/upload/initiate", self._initiate, methods=["POST"]),
            Route("/api/v1/models/pricing", self._pricing, methods=["GET"]),
            Route("/api/v1/models/requests/by-endpoint", self._requests, methods=["GET"]),
            Route(job + "/status", self._status, methods=["GET"]),
            Route(job + "/cancel", self._cancel, methods=["PUT"]),
            Route(job, self._result, methods=["GET"]),
            Route("/queue/{endpoint:path}", self._submit, methods=["POST"]),
        ]

    async def _initiate(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["initiate"] += 1
        name = f"{self.calls['initiate']}-{(await request.json())['file_name']}"
        place = self.files
        if self.fault == "bad_upload":
            return JSONResponse({"upload_url": "http://[bad", "file_url": f"{self.files}/a.png"})
        if self.fault == "initiate_404":
            return JSONResponse({"detail": "not found"}, 404)
        if self.fault == "foreign_upload":
            place = self.files.replace("127.0.0.1", "localhost")
        return JSONResponse(
            {
                "upload_url": f"{place}/put/{name}?signature=presigned-secret",
                "file_url": f"{self.files}/files/{name}",
            }
        )

    async def _submit(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        if self.fault == "cut_early":
            cut(request)
            return Gone()
        sent = await request.json()
        endpoint = request.path_params["endpoint"]
        self.calls["submit"] += 1
        plain = {
            "429": (429, {"detail": "Too many requests"}),
            "503": (503, {"detail": "busy", "error_type": "runner_scheduling_failure"}),
            "500": (500, {"detail": "oops", "error_type": "internal_error"}),
            "403": (403, {"detail": f"bad key {self.key}"}),
            "locked": (403, {"detail": "User is locked. Reason: Exhausted balance. Top up."}),
            "404": (404, {"detail": f"Path /{endpoint} not found"}),
            "422": (
                422,
                {"detail": [{"loc": ["body"], "msg": "bad value", "type": "value_error"}]},
            ),
        }
        if self.fault in plain and self.now(self.fault):
            status, body = plain[self.fault]
            headers = {"Retry-After": self.wait} if status == 429 else {}
            return JSONResponse(body, status, headers)
        job = self._make(endpoint, sent)
        if self.now("slow_reply"):
            await asyncio.sleep(1.0)
        if self.now("cut_reply"):
            cut(request)
            return Gone()
        base = f"{self.url}/queue/{'/'.join(endpoint.split('/')[:2])}/requests/{job.id}"
        if self.fault == "official_urls":
            base = base.replace(f"{self.url}/queue", "https://queue.fal.run")
        body = {
            "request_id": job.id,
            "status": "IN_QUEUE",
            "queue_position": 1,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
        }
        if self.fault == "gone_504":
            del self.jobs[job.id]
            return JSONResponse({"detail": "late"}, 504)
        if self.now("late_503"):
            return JSONResponse(body, 503, {"Retry-After": "1"})
        if self.fault == "no_urls":
            body = {"request_id": job.id}
        if self.fault == "foreign_urls":
            body = {k: "https://evil.example/x" if "url" in k else v for k, v in body.items()}
        if self.now("half_reply"):
            return Half(JSONResponse(body).body, media_type="application/json")
        return JSONResponse(body)

    def _make(self, endpoint: str, sent: dict[str, Any]) -> Job:
        self.paid += 1
        job = Job(f"req-{self.paid:04d}", endpoint, sent)
        name = str(sent["image_url"]).rsplit("/", 1)[1]
        factor = sent.get(PRICES[endpoint][2], 4) if PRICES[endpoint][2] else 2
        job.size = scaled(size_of(self.uploads[name]), factor)
        job.result = self.picture(job.size)
        self.jobs[job.id] = job
        return job

    async def _status(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        job = self.jobs.get(request.path_params["id"])
        self.calls["status"] += 1
        self.polled.set()
        if job is None:
            return JSONResponse({"detail": "Request not found"}, 404)
        if self.now("poll_drip"):
            return Drip(b" " * 400)
        if self.now("poll_500", "poll_429"):
            return JSONResponse({"detail": "later"}, int(self.fault[-3:]))
        if self.now("poll_cut"):
            cut(request)
            return Gone()
        job.polls += 1
        if self.fault == "stuck" and not job.cancelled:
            return JSONResponse({"status": "IN_QUEUE", "queue_position": 3})
        if job.cancelled and not job.ended:
            return JSONResponse({"detail": "Request not found"}, 404)
        if job.polls <= self.polls and not job.cancelled:
            state = "IN_QUEUE" if job.polls == 1 else "IN_PROGRESS"
            state = "WARMING" if self.fault == "odd_status" else state
            return JSONResponse({"status": state, "logs": None})
        self._end(job)
        body: dict[str, Any] = {"status": "COMPLETED", "logs": None}
        if self.fault == "completed_error":
            body |= {"error": "runner died", "error_type": "runner_disconnected"}
        else:
            body["metrics"] = {"inference_time": 2.0}
        return JSONResponse(body)

    def _end(self, job: Job) -> None:
        """Done: billed, where the run did not fail on fal's side."""
        if job.ended:
            return
        job.ended = True
        units = self._units(job)
        if self.fault in ("completed_error", "result_500", "result_422_free"):
            units = Decimal(0)
        if units:
            self.bill(job, units, units * Decimal(PRICES[job.endpoint][1]))

    def _units(self, job: Job) -> Decimal:
        unit = PRICES[job.endpoint][0]
        if unit == "megapixels":
            return megapixels(job.size)
        if unit == "compute seconds":
            return Decimal(2)
        if unit == "units":  # 8 a picture up to 24 megapixels, 16 up to 48, 32 up to 96
            size = megapixels(job.size)
            return Decimal(8 if size <= 24 else 16 if size <= 48 else 32 if size <= 96 else 136)
        return Decimal(1)

    async def _result(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        job = self.jobs[request.path_params["id"]]
        self.calls["result"] += 1
        if not job.ended:
            return JSONResponse({"detail": "Request is still in progress"}, 400)
        if self.now("result_cut"):
            cut(request)
            return Gone()
        billed = [line.units for line in self.invoice if line.job == job.id]
        headers = {"x-fal-request-id": job.id}
        if self.fault != "no_units":
            headers["x-fal-billable-units"] = str(billed[0] if billed else 0)
        if self.fault == "completed_error":
            body: Any = {"detail": "runner died", "error_type": "runner_disconnected"}
            return JSONResponse(body, 503, headers)
        if self.fault == "result_500":
            return JSONResponse({"detail": "oops", "error_type": "internal_error"}, 500, headers)
        if self.fault == "result_html":  # of something in between
            return Response("<html>", 502, media_type="text/html")
        if self.fault == "result_text":
            return Response("Internal trouble", 500, headers)
        if self.fault in ("result_422", "result_422_free"):
            detail = [{"msg": "too large", "type": "image_too_large", "ctx": {"max_height": 9}}]
            return JSONResponse({"detail": detail}, 422, headers)
        if self.fault == "policy":
            detail = [{"msg": "flagged", "type": "content_policy_violation"}]
            return JSONResponse({"detail": detail}, 422, headers)
        if self.fault == "no_output":
            return JSONResponse({"seed": 1}, 200, headers)
        file = {"url": self.link(f"{job.id}.png"), "content_type": "image/png", "width": None}
        if self.fault == "data_uri":
            file["url"] = "data:image/png;base64,AAAA"
        several = job.endpoint == "clarityai/crystal-upscaler"
        return JSONResponse({"images": [file]} if several else {"image": file}, 200, headers)

    async def _cancel(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["cancel"] += 1
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            return JSONResponse({"status": "NOT_FOUND"}, 404)
        if job.ended:
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        if self.fault == "cancel_hangs":
            job.polls = self.polls
            self._end(job)
            await asyncio.sleep(5.0)
        job.cancelled = True
        if self.fault == "cancel_runs_on":
            self._end(job)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    async def _pricing(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["pricing"] += 1
        wanted = request.query_params["endpoint_id"].split(",")
        if self.fault == "null_prices":
            return JSONResponse({"prices": None})
        prices = [
            {"endpoint_id": e, "unit": u, "unit_price": float(p), "currency": "USD"}
            for e, (u, p, _) in PRICES.items()
            if e in wanted
        ]
        return JSONResponse({"prices": prices, "next_cursor": None, "has_more": False})

    async def _requests(self, request: Request) -> Response:
        if (refused := self.refuses(request)) is not None:
            return refused
        at = int(request.query_params.get("cursor", "0"))
        self.calls["find" if at == 0 else "find_more"] += 1
        if self.now("find_500"):
            return JSONResponse({"error": {"type": "server_error", "message": "oops"}}, 500)
        wanted = request.query_params["endpoint_id"]
        items = [
            {"request_id": job.id, "endpoint_id": job.endpoint, "json_input": job.sent}
            for job in self.jobs.values()
            if job.endpoint == wanted
        ]
        more = len(items) > at + PAGE or self.fault == "endless_list"
        then = str(at + PAGE) if more else None
        return JSONResponse({"items": items[at : at + PAGE], "next_cursor": then, "has_more": more})
