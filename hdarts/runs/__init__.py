"""One run: its folder, checkpoints, atomic files, lock, signals, provenance, device, memory, progress, randomness."""
