"""The training core: one loop for every method and for pre-training."""
