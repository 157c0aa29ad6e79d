"""``report.html``: one page that stands alone.

::

    snapshot (kept by the run) ─ charts, flips ─ page
                                        └ statement (math), diff
"""
