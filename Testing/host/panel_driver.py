"""A user at SlicerXAI's panel."""

from __future__ import annotations

from typing import Any

from . import qt_driver


def show_task(panel: Any, name: str) -> Any:
    """Choose a task by its name in the engine's description; returns its page."""
    from SlicerXAILib.TaskDescriptions import readTasks
    from SlicerXAILib.Widgets.TaskList import taskTitle

    qt_driver.choose(panel.ui.taskSelector, taskTitle(readTasks()[name]))
    return panel.page


def run_to_end(panel: Any) -> None:
    """Click on Apply and wait until the run has ended."""
    qt_driver.turn()
    qt_driver.click(panel.ui.applyButton)
    qt_driver.wait_until(lambda: not panel.run.isRunning)
    qt_driver.turn()
