"""Proximal policy optimisation with a KL penalty to the SFT model and a PTX term."""
