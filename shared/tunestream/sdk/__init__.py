"""For agents and subscribers: publish scored candidates, follow and steer training, build trajectories."""

from tunestream.sdk.blocking import BlockingTTCPublisher
from tunestream.sdk.control import RunControl
from tunestream.sdk.publisher import TTCPublisher
from tunestream.sdk.subscribers import ModelSubscriber, StatusSubscriber
from tunestream.sdk.trajectory_builder import DPOTrajectoryBuilder, collected_events
from tunestream.sdk.turn import Turn

__all__ = [
    "BlockingTTCPublisher",
    "DPOTrajectoryBuilder",
    "ModelSubscriber",
    "RunControl",
    "StatusSubscriber",
    "TTCPublisher",
    "Turn",
    "collected_events",
]
