"""Open-ended answers judged by another model: prompts → answers → judgments → results (docs/judge.md)."""
