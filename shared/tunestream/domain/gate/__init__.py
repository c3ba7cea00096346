"""The curriculum gate's stage: groups collect into windows, windows become training batches."""
