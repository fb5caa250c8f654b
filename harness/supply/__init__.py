"""What must lie on the disk before a run, and how it gets there."""
