"""Named protocols: all settings of a comparison under one name, shared by the command, the figures and the audit."""

from dataclasses import dataclass

from ift.checks import check_choice
from toy.settings import Settings


@dataclass(frozen=True)
class Protocol:
    """A protocol: what it is in a sentence, where it comes from, and its settings."""

    name: str
    summary: str
    source: str
    settings: Settings


# What the paper says, and where it is silent what development lakes and seeds suggested before anything else was run;
# docs/protocols.md has the reasons.
_PAPER = Settings(
    start="both",
    start_suboptimal_share=0.8,
    form="sum",
    optimizer="sgd",
    lr=0.03,
    steps=100,
    width=64,
    numbers=("dpo.beta=1", "orpo.beta=0.1"),
)

PROTOCOLS: dict[str, Protocol] = {
    each.name: each
    for each in (
        Protocol(
            "paper",
            "A start that learned two ways and prefers the worse one, the paper's equation (sum), plain gradient "
            "descent with one small step size for all methods.",
            "arXiv 2405.11870; what it leaves open was chosen on development lakes",
            _PAPER,
        ),
        Protocol(
            "adam",
            "A start between the optimum and chance, the released form (product), Adam with one step size for all.",
            "the default of version 0.1, which was found in a search on the lake 'ring'",
            Settings(),
        ),
    )
}


def protocol(name: str) -> Settings:
    """The settings of a named protocol; raises `ValueError` if there is none of that name."""
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name].settings
