"""The paper's data sets, fetched and checked, and how the embedded data were made."""
