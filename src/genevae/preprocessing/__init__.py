"""Passes over cells before training: inspect, convert, highly variable genes, pseudobulk, mixtures."""
