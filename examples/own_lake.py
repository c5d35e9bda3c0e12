"""A lake of your own: draw a map, run three methods, and see how close each comes to the optimum."""

from toy import Lake, Settings, align

lake = Lake.make(
    [
        "SFFF",
        "FHFF",
        "FFFH",
        "HFFG",
    ],
    slippery=True,
)
result = align(lake, ["sft", "ift", "dpo"], Settings(seeds=8))
means = result.runs.groupby("method")[["parameter_mse", "policy_mse", "success"]].mean()
print(means.sort_values("policy_mse"))
print(f"The optimal policy reaches the goal with probability {result.optimum['success']:.3f}.")
