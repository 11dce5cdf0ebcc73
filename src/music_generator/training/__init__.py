"""Training: windows and gaps, the loop, the likelihood protocol. With the network, all that needs torch."""
