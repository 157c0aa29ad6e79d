"""``report.html``, one page that stands alone: charts, flips → statement, diff → page."""
