"""Training by the NeMo Customizer service; needs the extra ``nemo``."""

from tunestream.trainers.nemo.adapter import NeMoCustomizerTrainerAdapter
from tunestream.trainers.nemo.settings import NeMoSettings

__all__ = ["NeMoCustomizerTrainerAdapter", "NeMoSettings"]
