"""The programs: shell, server, descriptions, Slicer's command line modules."""
