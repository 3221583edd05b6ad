"""Turns the config of a LiteLLM proxy into a policy, and says what of it has no equivalent.

Theory of operation
-------------------
Text in, text and notes out; nothing of LiteLLM is imported or run. The steps: read the YAML with its places
(`document`), make each deployment a target (`deployment`, `vendor`), see which deployments are one target and what
stands behind each name (`groups`), append the fallbacks and choose routes that keep LiteLLM's order (`fallbacks`,
`routes`), see what may be spent (`budgets`), write it all down (`write`), and note whatever no step has used
(`advice`). Every deployment ends up in the policy or in a note, and so does every key; keys in clear are never copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.policy.from_litellm.advice import note_leftovers
from proxy.policy.from_litellm.budgets import read_budgets
from proxy.policy.from_litellm.document import Note, read_config
from proxy.policy.from_litellm.fallbacks import read_aliases, read_fallbacks
from proxy.policy.from_litellm.given import Keys
from proxy.policy.from_litellm.groups import read_groups
from proxy.policy.from_litellm.routes import read_models, read_routes
from proxy.policy.from_litellm.write import Outcome, policy_text
from proxy.policy.problem import PolicyError, Problem
from proxy.policy.source import SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A policy as text, and what its reader has to know, in the order of the config."""

    policy: str
    notes: tuple[Note, ...]
    target_count: int
    model_count: int


def import_config(file: SourceFile, models: Sequence[str] = ()) -> Imported:
    """The policy for the LiteLLM config in `file`; `models` are names that callers use and only wildcards match.

    Raises `PolicyError` when it is no such config, or when nothing of it can be imported.
    """
    config = read_config(file)
    fallbacks = read_fallbacks(config)
    meant = (model for model, _ in read_aliases(config).values())
    wanted = tuple(dict.fromkeys((*models, *fallbacks.names(), *meant)))
    groups = read_groups(config, Keys(file.text), wanted)
    served = read_models(config, groups, fallbacks)
    routes = read_routes(config, groups, served)
    budgets = read_budgets(config, groups.targets, served)
    note_leftovers(config)
    notes = _folded(config.notes)
    if not served:
        nothing = Problem(file.path, 0, 0, "no deployment of it can be imported", "what stands below says why")
        raise PolicyError((nothing, *(Problem(*note) for note in notes)))
    outcome = Outcome(
        source=file.path,
        targets=groups.targets,
        models=served,
        routes=routes,
        budgets=budgets,
        left_out=groups.left_out,
    )
    return Imported(policy=policy_text(outcome), notes=notes, target_count=len(groups.targets), model_count=len(served))


def _folded(notes: Sequence[Note]) -> tuple[Note, ...]:
    """The notes in the order of the file; those that say the same become one, which lists the other lines."""
    same: dict[tuple[str, str], list[Note]] = {}
    for note in sorted(set(notes)):
        same.setdefault((note.message, note.hint), []).append(note)
    return tuple(sorted(one._replace(message=one.message + _also(others)) for one, *others in same.values()))


def _also(others: Sequence[Note]) -> str:
    lines = list(dict.fromkeys(str(other.line) for other in others))
    return f" (also on line{'s' if len(lines) > 1 else ''} {', '.join(lines)})" if lines else ""
