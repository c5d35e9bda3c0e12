"""Named protocols: all settings of a comparison under one name, shared by the command, the figures and the audit."""

from dataclasses import dataclass, replace

from ift.checks import check_choice
from toy.settings import Settings


@dataclass(frozen=True)
class Protocol:
    """A protocol: what it is in a sentence, where it comes from, and its settings."""

    name: str
    summary: str
    source: str
    settings: Settings


# What the paper says (two trajectories, one learned; its equation; λ and γ), and where it is silent what was chosen on
# development lakes before anything else was run: `python -m experiments.paper_choices` and docs/protocols.md.
_PAPER = Settings(
    start="both",
    start_suboptimal_share=0.67,
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
            "paper-adam",
            "As paper, with Adam and its usual small step size in place of plain gradient descent.",
            "the optimiser is what the paper does not name",
            replace(_PAPER, optimizer="adam", lr=1e-3),
        ),
        Protocol(
            "published",
            "The settings of the paper's language models: RMSprop, the released form (product), ORPO with β 0.25. The "
            "paper is silent on DPO's β (0.1 here), the step size, the updates and the start.",
            "the authors' released training code",
            Settings(optimizer="rmsprop", numbers=("orpo.beta=0.25", "dpo.beta=0.1")),
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
