"""How bytes are laid out in HDF5, zarr and npz files."""
