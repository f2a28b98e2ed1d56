"""Floor 3: results (and, later, votes) → rankings, tables and a static site. Reads runs, writes none."""
