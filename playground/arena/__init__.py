"""The arena: battles between two checkpoints, judged by people."""
