"""The web page: chat with the checkpoints of a run side by side, watch a run being trained, compare the stages."""
