"""Training by the NeMo Customizer service; needs the extra ``nemo``."""
