"""Problems to solve: read, checked, imported.

::

    someone's files ─ importers ─ import_suite ─┐
                                     own folder ─ suite ─ problem
                  Luogu archives ─ data_files ─ luogu_data ┘
"""
