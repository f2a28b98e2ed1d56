"""The chat: who asked what, what the columns said, and how it is shown, linked, shared and taken away."""
