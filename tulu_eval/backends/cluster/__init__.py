"""Engines on the nodes of a Ray cluster, behind the interface of one backend."""
