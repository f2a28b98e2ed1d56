"""The microscope: what training changed in a reply, token by token."""
