"""From records to what people read.

::

    records ─ summary ─ tables, token_tables, sentences ─ results: the files of a run
                                                        └ html: one page with charts
"""
