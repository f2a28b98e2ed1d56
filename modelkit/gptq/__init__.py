"""GPTQ checkpoints: how their weights are packed, the linear layer that computes with them, and loading a directory of them."""
