"""Writers: AnnData stores, NumPy arrays, Matrix Market files."""
