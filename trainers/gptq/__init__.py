"""GPTQ (Frantar et al. 2023): a checkpoint's linear layers in 2 to 8 bits, each rounded so that the next columns make up for it."""
