"""Recraft, Google Vertex AI and the hosted gateway as documented: the reply is the result."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stubs.base import Gone, Half, Job, Stub, cut, scaled, size_of


class Blocking(Stub):
    """What the three share: refusals, cuts and halves."""

    refusals: ClassVar[dict[str, tuple[int, Any]]] = {}

    def early(self, request: Request) -> Response | None:
        """What a fault answers before anything is made."""
        if (refused := self.refuses(request)) is not None:
            return refused
        self.calls["create"] += 1
        if self.fault in self.refusals and self.now(self.fault):
            status, body = self.refusals[self.fault]
            if isinstance(body, str):
                return Response(body.format(key=self.key), status, media_type="text/plain")
            return JSONResponse(body, status)
        return None

    async def late(self, request: Request, body: object) -> Response:
        """A reply, or what a fault makes of it."""
        self.polled.set()
        if self.now("slow_reply"):
            await asyncio.sleep(1.0)
        if self.now("cut_reply"):
            cut(request)
            return Gone()
        if self.now("half_reply"):
            return Half(JSONResponse(body).body, media_type="application/json")
        return JSONResponse(body)

    def make(self, endpoint: str, sent: dict[str, Any], content: bytes, factor: object) -> Job:
        """A job that is done."""
        self.paid += 1
        job = Job(f"job-{self.paid:04d}", endpoint, sent)
        job.size = scaled(size_of(content), factor)
        job.result = self.picture(job.size)
        self.jobs[job.id] = job
        return job


async def form_of(request: Request) -> tuple[dict[str, Any], bytes]:
    """Fields and the picture of a multipart form."""
    form = await request.form()
    file: Any = form.get("image") or form.get("file")
    fields: dict[str, Any] = {k: v for k, v in form.items() if k not in ("image", "file")}
    fields["filename"] = file.filename
    return fields, await file.read()


class RecraftStub(Blocking):
    """Everything under /v1."""

    refusals: ClassVar[dict[str, tuple[int, Any]]] = {
        "401": (401, "request unauthorized {key}"),
        "404": (404, "404 page not found"),
        "402": (402, "payment required"),
        "credits": (400, "not enough credits"),
        "400": (400, {"message": "image is too small"}),
        "429": (429, "slow down"),
        "500": (500, "oops"),
        "503": (503, "later"),
        "504": (504, "<html>gateway time-out</html>"),
    }

    def routes(self) -> list[Route]:
        """Two tools."""
        return [
            Route("/v1/images/crispUpscale", self._upscale, methods=["POST"]),
            Route("/v1/images/creativeUpscale", self._upscale, methods=["POST"]),
        ]

    async def _upscale(self, request: Request) -> Response:
        sent, content = await form_of(request)
        if (early := self.early(request)) is not None:
            return early
        job = self.make(request.url.path, sent, content, 4)
        units = Decimal(4 if "crisp" in request.url.path else 250)
        self.bill(job, units, units / 1000)
        image = {"image_id": job.id, "url": self.link(f"{job.id}.png")}
        if self.fault == "no_output":
            image = {"image_id": job.id}
        return await self.late(request, {"created": 1, "credits": int(units), "image": image})


class VertexStub(Blocking):
    """One model of one project."""

    price: ClassVar[Decimal] = Decimal("0.06")
    refusals: ClassVar[dict[str, tuple[int, Any]]] = {
        code: (status, {"error": {"code": status, "message": words, "status": name}})
        for code, status, name, words in (
            ("400", 400, "INVALID_ARGUMENT", "bad image"),
            ("precondition", 400, "FAILED_PRECONDITION", "billing is disabled"),
            ("401", 401, "UNAUTHENTICATED", "no token"),
            ("403", 403, "PERMISSION_DENIED", "denied"),
            ("404", 404, "NOT_FOUND", "model retired"),
            ("429", 429, "RESOURCE_EXHAUSTED", "quota"),
            ("500", 500, "INTERNAL", "oops"),
            ("503", 503, "UNAVAILABLE", "later"),
            ("504", 504, "DEADLINE_EXCEEDED", "late"),
        )
    }

    def routes(self) -> list[Route]:
        """`predict`."""
        place = "/v1/projects/{p}/locations/{r}/publishers/google/models/{model}:predict"
        return [Route(place, self._predict, methods=["POST"])]

    async def _predict(self, request: Request) -> Response:
        sent = await request.json()
        if (early := self.early(request)) is not None:
            return early
        content = base64.b64decode(sent["instances"][0]["image"]["bytesBase64Encoded"])
        factor = sent["parameters"]["upscaleConfig"]["upscaleFactor"].strip("x")
        job = self.make(request.path_params["model"], sent["parameters"], content, factor)
        if self.fault == "empty":
            return await self.late(request, {"predictions": []})
        if self.fault == "filtered":
            reason = "filtered. Support codes: 56562880"
            return await self.late(request, {"predictions": [{"raiFilteredReason": reason}]})
        self.bill(job, Decimal(1), self.price)
        encoded = base64.b64encode(job.result).decode()
        if self.fault == "no_picture":
            encoded = base64.b64encode(b"hello").decode()
        prediction = {"mimeType": "image/png", "bytesBase64Encoded": encoded}
        return await self.late(request, {"predictions": [prediction]})


class GatewayStub(Blocking):
    """Everything under /openai/v1. `estimate` is what a dry run of what is passed through tells,
    None where it is taken for a run; `answer` makes the reply of a run.
    """

    refusals: ClassVar[dict[str, tuple[int, Any]]] = {
        code: (status, {"error": {"message": words, "type": "t", "code": name}})
        for code, status, name, words in (
            ("400", 400, "INVALID_REQUEST", "bad value"),
            ("401", 401, "AUTHENTICATION_FAILED", "Invalid API key"),
            ("402", 402, "INSUFFICIENT_BALANCE", "top up"),
            ("404", 404, "MODEL_NOT_FOUND", "no such model"),
            ("429", 429, "RATE_LIMITED", "slow down"),
            ("502", 502, "ALL_PROVIDERS_EXHAUSTED", "every route failed"),
            ("policy", 400, "UPSTREAM_ERROR", "content policy"),
        )
    }

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.estimate: Any = {"estimated": True, "total_cost_micros": 40000, "currency": "USD"}
        self.answer: Callable[[Request], Response] | None = None
        self.queries: list[str] = []

    def routes(self) -> list[Route]:
        """Edits, and whatever is passed through."""
        return [
            Route("/openai/v1/images/edits", self._edit, methods=["POST"]),
            Route("/openai/v1/{path:path}", self._other, methods=["POST"]),
        ]

    async def _edit(self, request: Request) -> Response:
        raw = await request.body()
        if b"gemini" in raw:
            return await self._other(request)
        sent, content = await form_of(request)
        if request.query_params.get("dryRun") == "true":
            self.calls["dry"] += 1
            if (refused := self.refuses(request)) is not None:
                return refused
            return JSONResponse({"estimated": True, "total_cost_micros": 50000, "currency": "USD"})
        if (early := self.early(request)) is not None:
            return early
        job = self.make(sent["model"], sent, content, sent.get("scale_factor", 2))
        self.bill(job, Decimal(1), Decimal("0.05"))
        entry: dict[str, Any] = {"url": self.link(f"{job.id}.png")}
        if self.fault == "b64":
            entry = {"b64_json": base64.b64encode(job.result).decode()}
        if self.fault == "no_output":
            entry = {}
        metadata = {"model": sent["model"], "provider": "fal", "cost": 0.05, "cost_currency": "USD"}
        return await self.late(request, {"created": 1, "data": [entry], "metadata": metadata})

    async def _other(self, request: Request) -> Response:
        raw = await request.body()
        self.queries.append(str(request.query_params))
        if request.query_params.get("dryRun") == "true" and self.estimate is not None:
            self.calls["dry"] += 1
            return JSONResponse(self.estimate)
        if (early := self.early(request)) is not None:
            return early
        self.paid += 1
        self.jobs[f"raw-{self.paid}"] = Job(
            f"raw-{self.paid}",
            request.url.path,
            {
                "raw": raw,
                "type": request.headers["content-type"],
            },
        )
        if self.answer is not None:
            self.polled.set()
            return self.answer(request)
        entry = {"url": "https://media.lumenfall.ai/a.png"}
        if self.fault == "own_link":
            self.jobs[f"raw-{self.paid}"].result = self.picture((8, 8))
            entry = {"url": self.link(f"raw-{self.paid}.png")}
        body = {"created": 1, "data": [entry], "x": len(raw), "metadata": {"cost": 0.04}}
        response = await self.late(request, body)
        response.headers["x-lumenfall-provider"] = "gemini"
        response.headers["set-cookie"] = "a=b"
        return response
