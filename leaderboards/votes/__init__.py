"""What people thought of replies: kept in a database, accepted by hand, exported for training, compared with reward models."""
