"""A loss of your own beside SFT and IFT. Commands take it too: `--method sft examples/own_method.py:mine`."""

import ift
from toy import Lake, Settings, align


def mine_loss(log_probs, mask, power):
    """−p^k of each token of the target, its mean over the answer."""
    return ift.masked_mean(-(power * log_probs).exp(), mask)


mine = ift.Method(
    name="mine",
    title="Powers of the probability",
    help="minus the probability of each token, to a power",
    learns_from="targets",
    loss=mine_loss,
    numbers=(ift.Number("power", "the power k of the probability", lake=1.0, text=1.0, above_low=True),),
)

if __name__ == "__main__":
    methods = ["sft", "ift", f"{__file__}:mine", f"{__file__}:mine:power=0.3"]
    result = align(Lake.make("ring"), methods, Settings(seeds=8))
    print(result.runs.groupby("method", sort=False)[["parameter_mse", "policy_mse", "success"]].mean())
