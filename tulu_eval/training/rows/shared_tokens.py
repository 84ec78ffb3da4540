"""Which token ids mean the same for all models of a run: those alone may be drawn, and go from one model to another."""

from __future__ import annotations

from typing import Any, NamedTuple

from tulu_eval.errors import PreflightError, few

PROBE = "<|user|>\nWhat is 1 + 2,345?\n<|assistant|>\nIt's 2346 – naïvely.\n"


class SharedTokens(NamedTuple):
    """The token ids that all models know.

    Attributes:
        size: All ids below are known; a policy may draw no other.
        notices: What a user should know, one line each.
    """

    size: int
    notices: tuple[str, ...] = ()


def share(policy: Any, reward: Any, names: tuple[str, str], sizes: tuple[int, int]) -> SharedTokens:
    """Returns the token ids of a policy that its reward model reads as the same texts.

    Args:
        policy: Tokenizer of the policy.
        reward: Tokenizer of the reward model; it may have tokens that the policy's has not.
        names: Names of both models for messages.
        sizes: Sizes of both models' vocabularies.

    Raises:
        PreflightError: If a token of the policy means another text to the reward model, or is outside its vocabulary.
    """
    ours, theirs = policy.get_vocab(), reward.get_vocab()
    other = sorted((at, token) for token, at in ours.items() if theirs.get(token) != at)
    if other:
        shown = few([f"{token!r} (id {at}; there {theirs.get(token, 'unknown')})" for at, token in other], 3)
        raise PreflightError(f"{names[1]} has another tokenizer than {names[0]}: it cannot read the policy's token {shown}")
    if policy.eos_token_id != reward.eos_token_id:
        raise PreflightError(
            f"{names[1]} has another end token than {names[0]}: {reward.eos_token!r}, and not {policy.eos_token!r}; an answer "
            "would end in a token that is not its end"
        )
    if policy(PROBE)["input_ids"] != reward(PROBE)["input_ids"]:
        raise PreflightError(
            f"{names[1]} has another tokenizer than {names[0]}: both know the same tokens, and cut a text otherwise"
        )
    more = sorted((at, token) for token, at in theirs.items() if token not in ours)
    size, notices = min(sizes), []
    if more:
        size = min(size, more[0][0])
        shown = few([f"{token!r} (id {at})" for at, token in more])
        notices.append(f"the tokenizer of {names[1]} has tokens that {names[0]}'s has not: {shown}")
    if size <= policy.eos_token_id:
        raise PreflightError(
            f"the end token {policy.eos_token!r} (id {policy.eos_token_id}) is outside {names[1]}'s {size} tokens"
        )
    if size < sizes[0]:
        notices.append(f"the policy never draws token ids from {size} to {sizes[0] - 1}, which not all models know")
    return SharedTokens(size, tuple(notices))
