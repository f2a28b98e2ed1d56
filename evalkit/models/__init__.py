"""What answers: a checkpoint on this machine, or an endpoint."""
