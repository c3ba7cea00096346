"""For agents and subscribers: publish scored candidates, follow and steer training, build trajectories.

Each name is imported when it is asked for: an agent that publishes loads the publisher alone.
"""

from typing import TYPE_CHECKING

from tunestream.lazy_names import lazy_names

if TYPE_CHECKING:
    from tunestream.sdk.blocking import BlockingTTCPublisher
    from tunestream.sdk.control import RunControl
    from tunestream.sdk.publisher import TTCPublisher
    from tunestream.sdk.subscribers import ModelSubscriber, StatusSubscriber
    from tunestream.sdk.trajectory_builder import DPOTrajectoryBuilder, collected_events
    from tunestream.sdk.turn import Turn, TurnReceipt
    from tunestream.streams.broker.unavailable import BrokerUnavailable
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BlockingTTCPublisher": "tunestream.sdk.blocking",
            "BrokerUnavailable": "tunestream.streams.broker.unavailable",
            "DPOTrajectoryBuilder": "tunestream.sdk.trajectory_builder",
            "ModelSubscriber": "tunestream.sdk.subscribers",
            "RunControl": "tunestream.sdk.control",
            "StatusSubscriber": "tunestream.sdk.subscribers",
            "TTCPublisher": "tunestream.sdk.publisher",
            "Turn": "tunestream.sdk.turn",
            "TurnReceipt": "tunestream.sdk.turn",
            "collected_events": "tunestream.sdk.trajectory_builder",
        },
    )

__all__ = [
    "BlockingTTCPublisher",
    "BrokerUnavailable",
    "DPOTrajectoryBuilder",
    "ModelSubscriber",
    "RunControl",
    "StatusSubscriber",
    "TTCPublisher",
    "Turn",
    "TurnReceipt",
    "collected_events",
]
