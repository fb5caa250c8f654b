"""The plots of a report, one file each."""
