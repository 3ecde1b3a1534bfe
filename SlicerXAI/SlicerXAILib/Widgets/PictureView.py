"""Shows the pictures that the engine has drawn, and saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ..EngineErrors import EngineError
from ..FileNames import fileName
from ..LoadedResult import LoadedResult, Picture
from ..Signal import Signal

_ENDINGS = {"image/png": ".png", "image/gif": ".gif", "image/jpeg": ".jpg"}
# What a picture may take of the panel, in pixels.
_WIDTH, _HEIGHT = 400, 260


class PictureView:
    """A chooser of pictures above a picture. Signal: ``failed(EngineError)`` where one cannot be saved."""

    def __init__(self, ui: Any) -> None:
        self.failed = Signal()
        self._ui = ui
        self._inputName = ""
        self._pictures: list[Picture] = []
        self._drawing = qt.QTimer()  # reading a picture takes a moment, in a turn of the event loop of its own
        self._drawing.setSingleShot(True)
        self._drawing.setInterval(0)
        self._drawing.connect("timeout()", self._draw)
        ui.pictureSelector.connect("currentIndexChanged(int)", self._onPicture)
        ui.savePictureButton.connect("clicked(bool)", self._onSave)

    def setPictures(self, loaded: LoadedResult) -> None:
        self._inputName, self._pictures = loaded.inputName, list(loaded.pictures.values())
        selector = self._ui.pictureSelector
        selector.blockSignals(True)
        selector.clear()
        selector.addItems([picture.name[:1].upper() + picture.name[1:] for picture in self._pictures])
        selector.blockSignals(False)
        self._ui.pictureArea.setVisible(bool(self._pictures))
        self._onPicture(0)

    def close(self) -> None:
        self._drawing.stop()

    @property
    def _picture(self) -> Picture | None:
        index = self._ui.pictureSelector.currentIndex
        return self._pictures[index] if 0 <= index < len(self._pictures) else None

    def _onPicture(self, _index: int) -> None:
        self._drawing.start()

    def _draw(self) -> None:
        picture, label = self._picture, self._ui.pictureLabel
        if picture is None:
            label.clear()
            return
        pixmap = qt.QPixmap()
        pixmap.loadFromData(picture.content)
        if pixmap.width() > _WIDTH or pixmap.height() > _HEIGHT:
            pixmap = pixmap.scaled(_WIDTH, _HEIGHT, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation)
        label.setPixmap(pixmap)
        label.toolTip = picture.description

    def _onSave(self) -> None:
        picture = self._picture
        if picture is None:
            return
        ending = _ENDINGS[picture.mediaType]
        name = fileName(self._inputName, picture.name, extension=ending)
        kinds = _("Pictures (*{ending})").format(ending=ending)
        path = qt.QFileDialog.getSaveFileName(None, _("Save the picture"), name, kinds)
        path = path[0] if isinstance(path, tuple) else path
        if not path:
            return
        try:
            Path(path).write_bytes(picture.content)
        except OSError as error:
            text = _("The picture cannot be written: {reason}.").format(reason=error.strerror or error)
            self.failed.emit(EngineError(text, _("Choose another folder.")))
