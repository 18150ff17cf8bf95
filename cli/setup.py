"""Settings and logging of a command."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from upscale import logs
from upscale.errors import InvalidParameter
from upscale.settings import Settings


def load_settings(**overrides: Any) -> Settings:
    """The settings of this command, options over the environment; sets up logging.

    Raises InvalidParameter for a value that is not allowed, with the variable's name.
    """
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "UPSCALE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidParameter(name, first["input"], first["msg"].lower()) from error
    logs.setup(settings.log_level, settings.log_format)
    return settings
