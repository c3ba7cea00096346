"""The TTC collector's stage: what agents publish is checked and normalised."""
