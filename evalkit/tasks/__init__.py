"""What is asked: the benchmarks' own protocols, and tasks written in YAML."""
