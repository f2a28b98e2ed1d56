"""What other harnesses write, turned into our results: one file for each harness."""
