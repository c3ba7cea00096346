"""What an error means to the user."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from tunestream.cli.errors import Failure, TryAgain, failure_of
from tunestream.config.files.errors import ConfigError, Problem


class Section(BaseModel):
    password: int
    sizes: list[int]


def test_every_wrong_field_is_named_and_no_value_is_shown() -> None:
    with pytest.raises(ValidationError) as raised:
        Section.model_validate({"password": "hunter2", "sizes": [1, "hunter2"]})
    failure = failure_of(raised.value)
    assert failure is not None
    assert [line.partition(":")[0] for line in str(failure).splitlines()] == ["password", "sizes.1"]
    assert "hunter2" not in str(failure)


def test_a_value_without_fields_is_named_by_its_model() -> None:
    with pytest.raises(ValidationError) as raised:
        Section.model_validate("hunter2")
    assert str(failure_of(raised.value)).startswith("Section: ")


def test_a_configuration_error_keeps_its_text() -> None:
    failure = failure_of(ConfigError([Problem("run.yaml", "trainer", "is missing")]))
    assert (type(failure), str(failure)) == (Failure, "run.yaml: trainer: is missing")


def test_a_file_is_named_with_its_fault() -> None:
    failure = failure_of(PermissionError(13, "Permission denied", "run.yaml"))
    assert str(failure) == "run.yaml: Permission denied"
    assert failure_of(OSError("nobody knows the file")) is None


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError()])
def test_an_error_without_a_text_is_named_by_its_class(error: Exception) -> None:
    failure = failure_of(error)
    assert isinstance(failure, TryAgain)
    assert str(failure) == type(error).__name__


def test_markup_of_others_is_text() -> None:
    failure = Failure("no [red]run[/]", remedy="apply [it]")
    assert failure.markup == "no \\[red]run\\[/]\n[dim]→ apply \\[it][/]"
