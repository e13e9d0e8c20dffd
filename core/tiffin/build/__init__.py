"""Building images: what is decided before anything is done. See README.md beside this file."""
