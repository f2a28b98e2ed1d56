"""Training from the page: what is ordered, queued, watched, and learnt from people's votes."""
