"""`python -m experiments.paper_choices`, work in parts, on three lakes with two seeds: the same code in seconds."""

from common import command
from experiments import lakes, paper_choices

if __name__ == "__main__":
    lakes.DEVELOPMENT_LAKES = lakes.DEVELOPMENT_LAKES[:4]
    paper_choices.CHOICES, paper_choices._SEEDS = paper_choices.CHOICES[:2], 2
    command.main(lambda: paper_choices.run(command.parse(paper_choices.Options, "parts", None)))
