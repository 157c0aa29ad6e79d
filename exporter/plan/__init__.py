"""What goes into which file of an export, decided before any work is done."""
