"""Information bottlenecks: how many bits of a layer an answer needs."""
