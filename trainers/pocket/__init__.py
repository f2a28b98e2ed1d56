"""The pocket world: a small bilingual set of true facts, and everything a complete RLHF run needs made out of it."""
