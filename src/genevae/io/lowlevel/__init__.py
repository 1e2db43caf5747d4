"""Reading of ranges from HDF5, zarr and npz files."""
