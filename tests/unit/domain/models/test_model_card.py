"""The card tells where a version came from, and leaves the licence to people."""

from __future__ import annotations

import yaml

from tests.helpers.batches import batch
from tests.helpers.versions import version
from tests.unit.domain.jobs.test_lifecycle import START
from tunestream.domain.jobs import lifecycle
from tunestream.domain.models.model_card import model_card
from tunestream.events.models import Evaluation

JOB, _ = lifecycle.create(batch(), backend="trl", now=START)


def test_the_card_of_an_adapter() -> None:
    evaluation = Evaluation(items=40, difference=0.2, low=0.1, high=0.3, verdict="promoted")
    one = version("v2", parent="v1").model_copy(
        update={"evaluation": evaluation, "metrics": {"train_loss": 0.5}, "base_model": "org/it's"}
    )
    card = model_card(one, JOB, ["v1"], merged=False)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {"base_model": "org/it's", "library_name": "peft", "license": "other"}
    for said in (
        "| train_loss | 0.5 |",
        "| trained from | v1 |",
        "| interval | 0.1 to 0.3 |",
        "To be filled in",
    ):
        assert said in card


def test_merged_weights_need_no_adapter_library() -> None:
    card = model_card(version("v1"), JOB, [], merged=True)
    assert "library_name: transformers" in card
    assert "| trained from | the base model |" in card
