"""The OpenAI-compatible server: the playground's checkpoints for programs. FastAPI, and nothing of the page."""
