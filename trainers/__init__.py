"""Floor 2: data → checkpoints. Supervised fine-tuning, reward models, PPO with PTX; recipes that chain them into a run."""
