"""Training: windows and gaps, the loop, the likelihood protocol. The only package, with the network, that needs torch."""
