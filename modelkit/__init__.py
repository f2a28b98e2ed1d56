"""Floor 1: checkpoints, chat formatting, text generation and scoring. Knows no task, no trainer, no page."""
