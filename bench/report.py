"""What a measure reports: rows of a value beside its limit, and medians of rounds that took turns."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: a value, what it is held to, and the value divided by that."""

    name: str
    value: float
    unit: str
    limit: str
    limit_value: float
    rounds: int
    asked: str = ""  # of the ratio
    is_inverse: bool = False  # limit divided by value, where the value is a time that should be small

    @property
    def ratio(self) -> float:
        above, below = (self.limit_value, self.value) if self.is_inverse else (self.value, self.limit_value)
        return above / below if below else 0.0

    def as_json(self) -> dict[str, str | float]:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "limit": self.limit,
            "limit_value": round(self.limit_value, 3),
            "ratio": round(self.ratio, 3),
            "rounds": self.rounds,
        }

    def __str__(self) -> str:
        return (
            f"{self.name:56} {self.value:10,.1f} {self.unit:11} {'1 /' if self.is_inverse else ' / '}"
            f" {self.limit_value:10,.1f} {self.limit:32} = {self.ratio:7.2f} {self.asked and f'(asked {self.asked})'}"
        )


def by_turns(rounds: int, **measured: Callable[[], float]) -> dict[str, float]:
    """Measure each once a round, so that what else the machine does hits all alike; return the median of each."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds):
        for name, measure in measured.items():
            found[name].append(measure())
    return medians(found)


def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in found.items()}
