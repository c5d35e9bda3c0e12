"""The lake in words: a random map as the prompt, a walk to the goal as the answer, and a small model that plays it.

Ice is not slippery here. Breadth-first search knows how far every cell is from the goal, so every move can be judged.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

MOVES = ("left", "down", "right", "up")  # Gymnasium's action order
_STEP = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} "
    "{% if message['role'] == 'assistant' %}{{ eos_token }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
_QUESTION = (
    "This is a frozen lake seen from above. S is the start, G the goal, F safe ice, H a hole.\n{}\nWhich moves lead "
    "from S to G in the fewest steps without entering a hole? Answer with the moves only, each left, down, right or up."
)
SPLITS = {"test": (0,), "dev": (1,), "train": range(2, 10)}  # tenths of all maps, by hash


def random_maps(
    count: int, split: str, generator: np.random.Generator, size: int = 4, holes: float = 0.25
) -> np.ndarray:
    """Distinct solvable maps of a split as letters `[count, size, size]`: S, G anywhere, a share of the rest holes.

    A map and its rotations and mirror images are always in the same split.
    """
    found: dict[bytes, np.ndarray] = {}
    tries = 0
    while len(found) < count:
        tries += 1
        if tries > 200:
            raise ValueError(f"there are not {count} different maps of {size}×{size} in the split {split!r}")
        letters = np.where(generator.random((4 * count, size * size)) < holes, "H", "F")
        ends = generator.random(letters.shape).argsort(1)[:, :2]
        np.put_along_axis(letters, ends, np.array([["S", "G"]]), 1)
        letters = letters.reshape(-1, size, size)
        letters = letters[steps_to_goal(letters)[letters == "S"] < size * size]
        for rows, its_split in zip(letters, splits_of(letters), strict=True):
            if len(found) < count and its_split == split:
                found[rows.tobytes()] = rows
    return np.stack(list(found.values()))


def splits_of(letters: np.ndarray) -> list[str]:
    """The split of each map `[maps, size, size]`, by a hash that rotations and mirror images share."""
    size = letters.shape[1]
    turned = [np.rot90(same, turns, (1, 2)) for same in (letters, letters.swapaxes(1, 2)) for turns in range(4)]
    flat = np.stack([np.ascontiguousarray(same).reshape(len(letters), -1) for same in turned], axis=1)
    smallest = np.sort(flat.view(f"<U{size * size}")[..., 0], axis=1)[:, 0]
    names = {bucket: split for split, buckets in SPLITS.items() for bucket in buckets}
    return [names[hashlib.sha256(f"{size} {text}".encode()).digest()[0] % 10] for text in smallest]


def steps_to_goal(letters: np.ndarray) -> np.ndarray:
    """Fewest moves from each cell to the goal, `[maps, size, size]`; size² where there is no way, and for holes."""
    far = letters.shape[1] * letters.shape[2]
    steps = np.where(letters == "G", 0, far)
    open_cell = letters != "H"
    for _ in range(far):
        padded = np.pad(steps, ((0, 0), (1, 1), (1, 1)), constant_values=far)
        near = np.minimum.reduce([padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]])
        closer = np.where(open_cell, np.minimum(steps, near + 1), far)
        if (closer == steps).all():
            break
        steps = closer
    return steps


def walks(
    letters: np.ndarray, noise: float, generator: np.random.Generator, *, same_tie: bool = False
) -> tuple[list[list[int]], np.ndarray]:
    """One walk per map as action indices, and the letter where it ends: best moves, a share `noise` random instead.

    Of several best moves one is drawn, or with `same_tie` always the first of left, down, right, up. A walk ends at the
    goal, in a hole, or after 1.5 size² moves.
    """
    limit = letters.shape[1] ** 2 * 3 // 2
    maps, size = np.arange(len(letters)), letters.shape[1]
    steps = steps_to_goal(letters)
    cell = np.argwhere(letters == "S")[:, 1:]
    moves = np.full((len(letters), limit), -1)
    for step in range(limit):
        going = ~np.isin(letters[maps, cell[:, 0], cell[:, 1]], ("G", "H"))
        if not going.any():
            break
        after = np.clip(cell[:, None] + _STEP, 0, size - 1)  # [maps, moves, 2]
        distance = steps[maps[:, None], after[..., 0], after[..., 1]]
        best = distance == distance.min(1, keepdims=True)
        best[generator.random(len(letters)) < noise] = True
        move = (best if same_tie else generator.random(best.shape) * best).argmax(1)
        moves[going, step] = move[going]
        cell = np.where(going[:, None], after[maps, move], cell)
    return [row[row >= 0].tolist() for row in moves], letters[maps, cell[:, 0], cell[:, 1]]


def outcome(rows: np.ndarray, walk: Sequence[int]) -> str:
    """Letter of the cell where a walk of action indices ends: G is success; it stops at the first hole or goal."""
    cell = np.argwhere(rows == "S")[0]
    for move in walk:
        if rows[tuple(cell)] in "GH":
            break
        cell = np.clip(cell + _STEP[move], 0, len(rows) - 1)
    return str(rows[tuple(cell)])


def prompt(rows: np.ndarray, *, english: bool = False) -> str:
    """The map in words: its letters, rows ended by `/`; or as a question in plain English."""
    if english:
        return _QUESTION.format("\n".join(" ".join(row) for row in rows))
    return " ".join(letter for row in rows for letter in (*row, "/"))


def in_words(walk: Sequence[int]) -> str:
    """A walk as an answer: one word per move."""
    return " ".join(MOVES[move] for move in walk)


def examples(
    count: int, split: str, seed: int, *, size: int = 4, english: bool = False, same_tie: bool = False
) -> list[dict[str, str]]:
    """Prompts with an optimal walk (`chosen`) and one that is not (`rejected`), and why not: `worse`.

    That is `hole`, `detour` (it reaches the goal, later) or `lost` (it ends elsewhere).
    """
    generator = np.random.default_rng([seed, len(split)])
    letters = random_maps(count, split, generator, size)
    best, _ = walks(letters, 0.0, generator, same_tie=same_tie)
    worse: list[tuple[list[int], str]] = [([], "")] * count
    while missing := [i for i, (walk, _) in enumerate(worse) if not walk]:
        for i, walk, end in zip(missing, *walks(letters[missing], 0.5, generator), strict=True):
            if end != "G" or len(walk) > len(best[i]):
                worse[i] = walk, {"H": "hole", "G": "detour"}.get(end, "lost")
    return [
        {
            "prompt": prompt(rows, english=english),
            "chosen": in_words(good),
            "rejected": in_words(bad),
            "worse": why,
        }
        for rows, good, (bad, why) in zip(letters, best, worse, strict=True)
    ]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the lake, with a chat template."""
    special = ["<pad>", "<eos>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>"]
    words = [*special, *"SFHG/", *MOVES]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    whole.chat_template = _TEMPLATE
    return whole


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> MistralForCausalLM:
    """A Mistral of 0.8M parameters with new weights."""
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, sliding_window=None, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        return MistralForCausalLM(config)


def train_base(
    seed: int, updates: int = 250, report: Callable[[float], None] = lambda share: None
) -> MistralForCausalLM:
    """A model that has read 64 noisy walks per update (30 % of the moves random): it plays, but not well."""
    generator = np.random.default_rng([seed, 0])
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed)
    letters = random_maps(20_000, "train", generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=updates, pct_start=0.1)
    for update in range(updates):
        drawn = letters[generator.integers(len(letters), size=64)]
        pairs = [
            (prompt(rows), in_words(walk)) for rows, walk in zip(drawn, walks(drawn, 0.3, generator)[0], strict=True)
        ]
        texts = [f"<|user|> {asked} <|assistant|> {walk} <eos>" for asked, walk in pairs]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        begins = batch["input_ids"] == tokenizer.convert_tokens_to_ids("<|assistant|>")
        answer = (begins.cumsum(1) > 0) & ~begins & (batch["attention_mask"] == 1)
        labels = batch["input_ids"].masked_fill(~answer, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        report((update + 1) / updates)
    return model


def prompt_ids(tokenizer: Any, rows: np.ndarray) -> list[int]:
    """The tokens of a map as the user's turn, up to where the answer begins."""
    chat = [{"role": "user", "content": prompt(rows)}]
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]


def move_tokens(tokenizer: Any) -> list[int]:
    """The token of each move, in order.

    Raises:
        ValueError: a tokenizer that splits a move, or merges moves that follow one another.
    """
    tokens = [tokenizer.encode(f" {move}", add_special_tokens=False) for move in MOVES]
    joined = tokenizer.encode(f" {in_words(range(4))}", add_special_tokens=False)
    if joined != [token for of_move in tokens for token in of_move] or any(len(of_move) != 1 for of_move in tokens):
        raise ValueError(
            f"the tokenizer splits or merges {', '.join(MOVES)} ({tokens}): scores by state need a token for each"
        )
    return [of_move[0] for of_move in tokens]
