"""Words of the page that no figure changes: sections, attackers, terms."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SectionWords:
    """What a family of measurements is.

    Attributes:
        title: of its part of the page.
        says: what is measured.
        holds: what the attacker has.
        assumes: what has to be true for the attack.
        limit: what it does not show.
    """

    title: str
    says: str
    holds: str
    assumes: str
    limit: str


_SECTIONS = {
    "losses": SectionWords(
        title="Loss",
        says="How hard each text is for each model, in nats per token: lower is easier, and text known by heart is "
        "near 0.",
        holds="Outputs with probabilities",
        assumes="The attacker has the exact text.",
        limit="A mean says little of one document, and nothing of what can be drawn out.",
    ),
    "extraction": SectionWords(
        title="Extraction",
        says="The model is given a piece of a document, or another prompt, and what it writes is compared with what "
        "the document says next.",
        holds="Outputs; weights where prompts are optimised",
        assumes="The attacker has part of the text, or tries many prompts.",
        limit="Other prompts and more attempts may draw out more.",
    ),
    "membership": SectionWords(
        title="Membership",
        says="Each document gets a score that should be high if the model was trained on it. An AUC of 0.5 is a guess, "
        "1 is certainty.",
        holds="Outputs with probabilities; weights for gradients",
        assumes="The attacker has the document, and other text like it that was never trained.",
        limit="A difference between the texts themselves can look like membership; see the check of their likeness.",
    ),
    "metrics": SectionWords(
        title="Metrics of unlearning",
        says="Measures that are common in work on unlearning, for comparison with it.",
        holds="Outputs with probabilities",
        assumes="The attacker has the exact text.",
        limit="They are means; a model can do well on all of them and still give away a document.",
    ),
    "recovery": SectionWords(
        title="Recovery",
        says="What somebody with the weights can bring back: by a little training, by coarser weights, by reading "
        "hidden states, or by switching on sinks of other IDs.",
        holds="Weights of the model that is handed out; an ID list where sinks are switched on",
        assumes="The attacker can train, cut and read the model, and may have part of the text or text like it.",
        limit="More training, other settings or other text may bring back more.",
    ),
    "influence": SectionWords(
        title="Influence of the source",
        says="Whether text of the same source that was never trained is easier than it is for a model that never saw "
        "the source.",
        holds="Outputs with probabilities",
        assumes="There is held-out text of the same source, and a model that never saw the source.",
        limit="Style and subject can come from other sources too.",
    ),
    "facts": SectionWords(
        title="Facts",
        says="Whether the model picks names that only the audited text states from among others like them.",
        holds="Outputs with probabilities",
        assumes="The attacker knows what to ask, and candidates for the answer.",
        limit="Only names and rare words are asked for; other facts are not.",
    ),
    "persistence": SectionWords(
        title="Persistence",
        says="Whether the text reappears when the model that is handed out is trained further on unrelated text.",
        holds="Weights of the model that is handed out",
        assumes="The attacker, or an honest user, trains it further.",
        limit="Longer training and other data may act otherwise.",
    ),
    "capability": SectionWords(
        title="Capability",
        says="What the model can do on text that was not audited: how hard it finds it, and how it writes.",
        holds="None: this is the cost, not an attack",
        assumes="The held-out text stands for what the model is used for.",
        limit="Skills that were not tested may have changed.",
    ),
}

ATTACKERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Outputs", "May ask the model that is handed out, as often as they like.", ("extraction", "facts")),
    (
        "Outputs with probabilities",
        "Sees how likely each token is, too.",
        ("losses", "membership", "metrics", "influence"),
    ),
    ("Weights", "Has a copy of the model that is handed out and may train it.", ("recovery", "persistence")),
    (
        "ID list",
        "Knows which sequence IDs the text had. After a removal these IDs select nothing of it.",
        ("recovery",),
    ),
    (
        "Sinks or a model from before the removal",
        "Holds the text already. No removal from another copy takes it away.",
        (),
    ),
)
"""What the attacker holds, what they can do, and the families that measure it."""

GLOSSARY = (
    ("AUC", "how well a score tells members from others: 0.5 is a guess, 1 is certainty, below 0.5 is the wrong way"),
    ("Chance", "what somebody gets who knows nothing of the text"),
    ("Condition", "a model in one state, such as with sinks off; every condition is measured on the same texts"),
    ("Control", "a condition in which nothing should be found, or nothing lost; if it does, the measure is at fault"),
    ("Exposure", "one time that a document was trained on"),
    ("Interval", "95 of 100 intervals made this way hold the true value; it speaks of the choice of texts"),
    ("Loss", "how surprised the model is by each token, in nats; 0 means that it knew the token for certain"),
    ("Member", "a document that the model was trained on"),
    ("Placebo", "sinks of an unrelated ID, switched on as a control"),
    ("Reference", "a model that was never trained on the audited text"),
    ("Removal", "deletion of the sinks that hold a text, from the saved model"),
    ("Sequence ID", "the number by which a document selects its sinks"),
    ("SHA-256", "a fingerprint of text: the same text gives the same one, and it does not tell the text"),
    ("Sinks", "neurons that are on only for the text they belong to, and hold what is learnt of it by heart"),
    ("Target", "the text that is audited"),
    ("Token", "a piece of text that the model reads at once, often a short word or part of one"),
    ("Unseen", "text like the target that was held out from training"),
)


def section_words(name: str) -> SectionWords:
    """Of a section; of one that has none, its name."""
    plain = SectionWords(
        title=name.replace("_", " ").capitalize(),
        says="",
        holds="Not described here",
        assumes="Not described here.",
        limit="Not described here.",
    )
    return _SECTIONS.get(name, plain)
