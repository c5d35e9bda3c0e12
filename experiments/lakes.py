"""The lakes of the experiments: those that choices were made on, and others on which results are reported.

`random:SIZE:SEED` is a map of Gymnasium's generator. No held-out map was looked at before it was put here:
what keeps a map is whether there is a second way to the goal, a property of the map alone.
"""

from dataclasses import dataclass

from toy import Lake, value_iteration
from toy.trajectories import suboptimal_trajectory


@dataclass(frozen=True)
class AuditLake:
    """A map with its ice, and whether it has a second way to the goal, which the `paper` protocol needs."""

    map: str
    slippery: bool
    second_way: bool = True

    @property
    def key(self) -> str:
        """Its name in tables and files."""
        return f"{self.map.replace(':', '-')}{'-slippery' if self.slippery else ''}"

    def make(self) -> Lake:
        """The lake itself."""
        return Lake.make(self.map, slippery=self.slippery)


DEVELOPMENT_LAKES = tuple(
    AuditLake(f"random:{size}:{ice}", bool(ice), second_way=(size, ice) not in ((4, 0), (8, 1)))
    for size in range(4, 9)
    for ice in (0, 1)
)
DEVELOPMENT_SEEDS = (0, 8)  # first, how many

HELD_OUT_SEEDS = (61_000, 100)
# Maps of each size, numbered from 700 (slippery: from 800): the first six with a second way (of maps that are
# mirror images one), and the first without one where the first hundred have such a map.
_WITH_SECOND_WAY = {
    False: {4: (700, 701, 702, 703, 705, 706), **dict.fromkeys(range(5, 9), range(700, 706))},
    True: {
        4: (801, 802, 803, 804, 805, 808),
        5: (800, 801, 802, 803, 805, 806),
        6: (800, 801, 802, 803, 804, 806),
        7: (800, 801, 802, 803, 806, 807),
        8: range(800, 806),
    },
}
_WITH_ONE_WAY = {False: {4: 704, 5: 735, 6: 778}, True: {4: 800, 5: 804, 6: 805, 7: 804, 8: 832}}
HELD_OUT_LAKES = (
    *(
        AuditLake(f"random:{size}:{seed}", slippery)
        for slippery, seeds_of in _WITH_SECOND_WAY.items()
        for size, seeds in seeds_of.items()
        for seed in seeds
    ),
    *(
        AuditLake(f"random:{size}:{seed}", slippery, second_way=False)
        for slippery, seed_of in _WITH_ONE_WAY.items()
        for size, seed in seed_of.items()
    ),
)


def has_second_way(lake: Lake) -> bool:
    """Whether every start has a sub-optimal trajectory to a goal."""
    plan = value_iteration(lake)
    return all(suboptimal_trajectory(lake, plan, int(start)) is not None for start in lake.starts)
