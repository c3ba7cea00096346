"""Names that packages import when they are asked for."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tunestream
import tunestream.sdk
from tunestream import TrainerAdapterConfig, TrainerConfig, TrajectoryBuilderConfig
from tunestream.config.run.trajectory_builder import DPOTrajectoryBuilderConfig
from tunestream.lazy_names import lazy_names
from tunestream.trainers.trl.config import TRLTrainerConfig

PACKAGES = [tunestream, tunestream.sdk]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_name_is_there_and_the_one_that_type_checkers_see(package: ModuleType) -> None:
    assert set(package.__all__) <= set(dir(package))
    seen = for_type_checkers(package)
    assert seen.keys() == set(package.__all__) - {"__version__"}
    for name, module in seen.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), name)


def for_type_checkers(package: ModuleType) -> dict[str, str]:
    """Return each name that is imported under TYPE_CHECKING with its module."""
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_another_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'Nothing'"):
        _ = package.Nothing


def test_a_module_is_imported_once_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("package"), ModuleType("package_names")
    module.Name = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "package", package)
    monkeypatch.setitem(sys.modules, "package_names", module)
    get, names = lazy_names("package", {"Name": "package_names"})
    assert "Name" not in vars(package)
    assert "Name" in names()
    assert get("Name") is vars(package)["Name"] is vars(module)["Name"]


def test_the_toolkits_base_configurations_are_bases_of_ours() -> None:
    assert issubclass(TRLTrainerConfig, TrainerConfig)
    assert issubclass(TRLTrainerConfig, TrainerAdapterConfig)
    assert issubclass(DPOTrajectoryBuilderConfig, TrajectoryBuilderConfig)


@pytest.mark.parametrize("base", [TrainerConfig, TrainerAdapterConfig, TrajectoryBuilderConfig])
def test_a_base_has_a_type_and_refuses_what_it_does_not_know(
    base: type[TrainerConfig | TrainerAdapterConfig | TrajectoryBuilderConfig],
) -> None:
    given = {"_type": "mine"}
    assert base.model_validate(given).model_dump(mode="json") == given
    assert base.model_validate({"type": "mine"}) == base.model_validate(given)
    with pytest.raises(ValueError, match="tpye"):
        base.model_validate({"_type": "mine", "tpye": None})
