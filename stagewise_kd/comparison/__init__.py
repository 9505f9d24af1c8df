"""Finished runs side by side: tables, figures, one page."""
