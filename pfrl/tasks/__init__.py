"""What a network is for: a loss, a quality of every example, and the width of the output."""

from pfrl.tasks.base import TASKS, TargetError, Task, Wording
from pfrl.tasks.classification import Classification
from pfrl.tasks.landmarks import Landmarks
from pfrl.tasks.pose import Pose

__all__ = ["TASKS", "Classification", "Landmarks", "Pose", "TargetError", "Task", "Wording"]
