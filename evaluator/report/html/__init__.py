"""report.html: one page that stands alone."""
