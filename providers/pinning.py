"""Requests that go to an address that was checked: a name that resolves differently a moment later
gains nothing. Knows nothing of which addresses may be asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Mapping, Sequence

import httpx


def pinned(
    client: httpx.AsyncClient,
    url: httpx.URL,
    address: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    content: bytes | AsyncIterable[bytes] | None = None,
) -> httpx.Request:
    """A request to `address` that is, for the server and its certificate, one to the URL's host."""
    return client.build_request(
        method,
        url.copy_with(host=address, fragment=None),
        headers={**(headers or {}), "Host": url.netloc.decode("ascii")},
        content=content,
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )


async def first_reply(
    client: httpx.AsyncClient, requests: Sequence[httpx.Request]
) -> httpx.Response:
    """The reply, its body still to come, of the first address that can be connected to.

    Raises httpx.HTTPError, that of the last one where none can.
    """
    *others, last = requests
    for request in others:
        with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return await client.send(request, stream=True)
    return await client.send(last, stream=True)
