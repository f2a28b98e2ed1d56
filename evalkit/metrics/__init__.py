"""Hugging Face ``evaluate`` modules, to be loaded by path: ``evaluate.load("evalkit/metrics/choice_accuracy")``."""
