"""Robustness of an encoder to scanners, stains, hospitals and angles."""
