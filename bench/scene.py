"""What the measures of one run share: the ground, the crowd, and pgbench's tables."""

from dataclasses import dataclass
from functools import cached_property

from bench import crowd
from bench.crowd import Guest
from bench.ground import Ground
from bench.pgbench import Limit

GUESTS = 60_000


@dataclass(frozen=True)
class Scene:
    """Made when first asked for, so that a run of one measure makes only what that one needs."""

    ground: Ground

    @cached_property
    def guests(self) -> list[Guest]:
        return crowd.gather(self.ground, GUESTS)

    @cached_property
    def limit(self) -> Limit:
        return Limit(self.ground)
