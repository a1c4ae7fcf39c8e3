"""Equations 1 to 4: any network and its inputs -> entropy maps. Imports nothing of kpnb but the
errors."""
