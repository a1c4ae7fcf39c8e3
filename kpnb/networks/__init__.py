"""The paper's networks, at full size and narrow, and their named layers."""
