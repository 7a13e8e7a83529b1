"""The stages of a preparation. Each task of a stage reads what earlier stages wrote and writes a folder of its own."""
