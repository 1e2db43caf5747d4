"""The explorer: one page that runs a model's decoder in the browser, without a network."""
