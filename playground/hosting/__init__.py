"""Where the page runs: a machine of one's own, or a Space with or without a GPU, whose disk may not last."""
