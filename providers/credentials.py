"""Whether this machine has credentials of Google's, as its library would look for them. Nobody is
asked: a machine of Google's cloud is told by its make, as it gets its credentials there.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"


@lru_cache(maxsize=1)
def lacking() -> str | None:
    """What is missing for a token of Google's, found out once, as settings are; None where nothing
    is, as far as can be known.
    """
    if not _has_library():
        return "Google's library is not installed (pip install 'upscale[vertex]')"
    try:
        from google.auth import _cloud_sdk, _default, exceptions
        from google.auth.compute_engine import _metadata

        library: Any = _default
        folder: Any = _cloud_sdk
        metadata: Any = _metadata
        try:
            found, _ = library._get_explicit_environ_credentials()
        except (exceptions.GoogleAuthError, OSError, ValueError):
            return f"{VARIABLE} names no file with a key that can be used"
        logged_in = Path(folder.get_application_default_credentials_path()).is_file()
        at_google = metadata.detect_gce_residency_linux() or (
            metadata._GCE_METADATA_HOST != metadata._GCE_DEFAULT_HOST
        )
    except (ImportError, AttributeError):  # another version of it: the first request will tell
        return None
    if found is not None or logged_in or at_google:
        return None
    return f"{VARIABLE} and VERTEX_ACCESS_TOKEN are not set, and this machine has no credentials"


def _has_library() -> bool:
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:
        return False
