"""One run on disk: folder, checkpoints, atomic files, locks, signals, provenance, device, memory, progress, randomness."""
