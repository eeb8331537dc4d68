"""What all records of the model have in common."""

import importlib
import pkgutil
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

import dropmill.model
from dropmill.model.submissions import Counts


def test_every_record_is_frozen_takes_keywords_only_and_has_no_dictionary() -> None:
    modules = [
        importlib.import_module(f"dropmill.model.{module.name}")
        for module in pkgutil.iter_modules(dropmill.model.__path__)
    ]
    things = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    found = [thing for thing in things if is_dataclass(thing)]
    assert len(found) >= 23
    for record in found:
        parameters = record.__dataclass_params__  # type: ignore[attr-defined]
        assert parameters.frozen, record
        assert all(field.kw_only for field in fields(record)), record
        assert "__slots__" in vars(record), record
    with pytest.raises(FrozenInstanceError):
        Counts().queued = 1  # type: ignore[misc]
