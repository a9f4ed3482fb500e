"""Torch modules: generators, discriminators and feature extractors. Needs the extra ``[train]``."""
