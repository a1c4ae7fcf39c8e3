"""Teacher, student and baseline of one modality, and what was found."""
