"""Floor 2: checkpoints → results. Multiple choice by the benchmarks' own protocols, and tasks of one's own in YAML."""
