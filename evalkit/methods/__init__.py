"""How a task is measured: one file per method, each with one ``measure`` function."""
