"""The commands' functions, so that they work from a wheel; `training/` holds thin scripts over them."""
