"""A stand-in for the 3D Slicer application around the real Slicer code of PyPI's ``slicer-core``.

Real: the MRML scene, nodes, display and storage nodes, module logics, ``slicer.util``, the CLI engine.
Written here: what the desktop application adds in Qt, namely ``slicer.app`` with its IO manager,
``slicer.modules``, the subject-hierarchy items of new nodes, and the base classes of scripted modules.
Anything that is not provided raises ``NotImplementedError``, so that nothing passes by accident.

    from host.application import Application
    application = Application.instance()
"""
