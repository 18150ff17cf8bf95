"""The error tree: every class has its place, and none is lost on the way between processes."""

from __future__ import annotations

import json

import pytest

from upscale import errors
from upscale.errors import UpscaleError

EXAMPLES: list[UpscaleError] = [
    errors.InvalidRequest("The body is empty."),
    errors.InvalidParameter("scale_factor", "40", "a number from 1 to 16"),
    errors.UnreadableImage("The image file is empty."),
    errors.TooLarge("The image", got=100, limit=10, unit="pixels", advice="Send a smaller one."),
    errors.NotFound("No such path."),
    errors.MethodNotAllowed("GET is not allowed here."),
    errors.UnsupportedMediaType("text/plain is not taken."),
    errors.CheckpointError("The file holds no weights."),
    errors.AuthenticationFailed(),
    errors.InsufficientBalance(required=2, available=1),
    errors.ModelNotFound("reel-esrgan", "real-esrgan"),
    errors.ModelDisabled("real-esrgan needs weights."),
    errors.RateLimited("Slow down.", retry_after=5),
    errors.QueueFull("The queue is full.", retry_after=7),
    errors.SpoolFull("The folder is full.", retry_after=7),
    errors.JobCancelled("The job was cancelled."),
    errors.UpstreamError("The provider refused the picture.", status=400, reason="content_policy"),
    errors.AllProvidersExhausted("None answered.", attempts=[{"provider": "fal", "error": "503"}]),
    errors.ServerFault("Something broke."),
    errors.MediaFull(size=2, quota=1),
    errors.WorkerDied("The worker died twice."),
    errors.OutOfMemory("Even a small tile does not fit."),
    errors.OutputFault("The disk is full."),
    errors.PullFault("The connection broke off."),
    errors.RecordsFault("The records are in use for too long.", "database is locked"),
    errors.Draining("The server is shutting down."),
]


def _classes(root: type[UpscaleError]) -> set[type[UpscaleError]]:
    return {root}.union(*(_classes(child) for child in root.__subclasses__()))


def test_every_class_has_an_example_here() -> None:
    assert {type(e) for e in EXAMPLES} == _classes(UpscaleError) - {UpscaleError}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_crosses_a_pipe_unchanged(error: UpscaleError) -> None:
    back = UpscaleError.from_wire(json.loads(json.dumps(error.to_wire())))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_status_and_type_agree(error: UpscaleError) -> None:
    assert 400 <= error.status < 600
    assert (error.type == "server_error") == (error.status >= 500)


def test_an_unknown_class_becomes_a_server_fault() -> None:
    back = UpscaleError.from_wire({"class": "FromTheFuture", "message": "hello"})
    assert type(back) is errors.ServerFault
    assert back.message == "hello"


def test_every_class_stands_in_the_drawn_tree() -> None:
    drawn = errors.__doc__ or ""
    assert all(cls.__name__ in drawn for cls in _classes(UpscaleError))


def test_waiting_times_stay_within_a_minute() -> None:
    assert errors.RateLimited("x", retry_after=0).retry_after == 1
    assert errors.QueueFull("x", retry_after=3600).retry_after == 60


def test_a_long_value_is_cut_in_the_message() -> None:
    error = errors.InvalidParameter("model", "x" * 5000, "a name")
    assert len(error.message) < 200
    assert error.field == "model"
