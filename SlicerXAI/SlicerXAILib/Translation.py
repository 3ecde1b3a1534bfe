"""Slicer's translation of texts; texts as they are for scripts that use MRML without the application.

Slicer finds a text's context by the file that calls ``tr``, so that files import it from here under the name ``_``.
"""

from __future__ import annotations

try:
    from slicer.i18n import tr, translate
except ImportError:

    def tr(text: str) -> str:
        """Return the text."""
        return text

    def translate(context: str, text: str) -> str:
        """Return the text."""
        return text


__all__ = ["tr", "translate"]
