"""The three slice views of Slicer's usual layout, so that a saved scene opens with its layers in place."""

from __future__ import annotations

from .slice_picture import SliceView

_VIEWS = (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal"))


class StandardViews:
    """Red, yellow and green slice view; keep it for as long as the scene's slice layers are set."""

    def __init__(self, size: tuple[int, int] = (512, 512)) -> None:
        self.views = {name: SliceView(name, orientation, size) for name, orientation in _VIEWS}

    def show(self, background, foreground=None, opacity: float = 0.5) -> None:
        for view in self.views.values():
            view.show(background, foreground, opacity)

    def jump_to(self, ras: tuple[float, float, float]) -> None:
        """Center the views on a point in RAS millimeters."""
        for view in self.views.values():
            view.jump_to(ras)
