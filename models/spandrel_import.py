"""spandrel without torchvision's cost: import it through here, and nowhere else.

spandrel imports all its architectures at once, and two of them (an inpainting and a face network)
want two functions of torchvision; torchvision in turn pulls in the compiler. That is 165 MB and
more than a second for every worker, for functions that are called by those two alone. So while
spandrel is imported, small stand-ins take torchvision's place; they import the real one when they
are called, and are gone from `sys.modules` afterwards. See docs/decisions/006-lazy-torchvision.md.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_FUNCTIONAL = "torchvision.transforms.functional"
_STAND_INS = ("torchvision", "torchvision.transforms", _FUNCTIONAL)


@contextmanager
def _torchvision_later() -> Iterator[None]:
    if any(name in sys.modules for name in _STAND_INS):
        yield
        return
    modules = {name: ModuleType(name) for name in _STAND_INS}
    functional: Any = modules[_FUNCTIONAL]
    functional.rotate = _later("rotate")
    functional.normalize = _later("normalize")
    functional.InterpolationMode = _LaterModes()
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in _STAND_INS:
            if sys.modules.get(name) is modules[name]:
                del sys.modules[name]


def _later(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(_FUNCTIONAL), name)(*args, **kwargs)

    return call


class _LaterModes:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module(_FUNCTIONAL).InterpolationMode, name)


with _torchvision_later():
    from spandrel import (
        ImageModelDescriptor,
        ModelLoader,
        UnsupportedModelError,
        canonicalize_state_dict,
    )
    from spandrel.__helpers.unpickler import RestrictedUnpickle
    from spandrel.architectures.Compact import Compact

__all__ = [
    "Compact",
    "ImageModelDescriptor",
    "ModelLoader",
    "RestrictedUnpickle",
    "UnsupportedModelError",
    "canonicalize_state_dict",
]
