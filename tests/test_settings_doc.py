"""The page of settings says what the settings are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from upscale.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_settings", DOCS / "make_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert written == module.page(), "run `python docs/make_settings.py`"


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
