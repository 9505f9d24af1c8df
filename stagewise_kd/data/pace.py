"""How a stage's steps are parted: into passes over the images, and rounds of whole passes."""

from dataclasses import dataclass
from math import ceil

STEPS = 100  # of a round: fewer would cost more to validate and record than to train
SHARE = 5  # images trained on for each that is validated, which costs a third of that
ROUNDS = 20  # of a stage at least, as far as it has so many passes: to choose the best from


@dataclass(frozen=True)
class Pace:
    """The steps of a stage. After each round it is validated, recorded and perhaps saved.

    A round is one pass over the images unless there are so few that this would be too short.

    Args:
        steps: of the stage, in each process.
        each: steps of a pass.
        passes: of a round.
    """

    steps: int
    each: int
    passes: int = 1

    @property
    def epochs(self) -> int:
        """Passes of the stage, the last of which may be cut short."""
        return ceil(self.steps / self.each)

    @property
    def rounds(self) -> int:
        """Rounds of the stage, likewise."""
        return ceil(self.epochs / self.passes)

    def span(self, number: int) -> range:
        """The passes of a round, by number."""
        return range(number * self.passes, min((number + 1) * self.passes, self.epochs))

    def length(self, number: int) -> int:
        """Steps of a round."""
        before = number * self.passes * self.each
        return max(0, min(self.passes * self.each, self.steps - before))


def paced(steps: int, each: int, images: int, val: int) -> Pace:
    """The pace of a stage: it follows from counts alone, never from a clock.

    Args:
        steps: of the stage.
        each: steps of a pass.
        images: of a pass.
        val: images that are validated after each round.
    """
    wanted = max(ceil(STEPS / each), ceil(SHARE * val / images))
    most = ceil(steps / each) // ROUNDS
    return Pace(steps, each, max(1, min(wanted, most)))
