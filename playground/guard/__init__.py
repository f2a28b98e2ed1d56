"""What keeps a public page in order: who may come in, how often, and which words are not wanted."""
