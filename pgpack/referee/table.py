"""Every rule: id, the sentence that must hold, where it comes from, and the pure function that judges it.

`#N` are pull requests of openai/parameter-golf; "rules" is that repository's README; C1 to C4 are issue #1017.

Other packages add rules through the entry-point group `pgpack.referee_rules`: the entry's name is the rule's id, and
it loads an object of `PluginRule`, say a `Rule`. Its finding stands behind ours in every verdict. Refused: an id that
is taken, an entry that cannot be loaded.
"""

from __future__ import annotations

import functools
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from pgpack.errors import SettingError
from pgpack.stages import did_you_mean

from . import check_claims as claims
from . import check_code as code
from . import check_scoring as scoring
from . import check_seeds as seeds
from . import check_sizes as sizes
from . import check_text as text
from . import check_weights as weights
from .evidence import Evidence
from .findings import Finding, Rule

GROUP = "pgpack.referee_rules"


class PluginRule(Protocol):
    """What an entry of `pgpack.referee_rules` is: a `Rule`, or anything with these three; its name is the id."""

    @property
    def sentence(self) -> str:
        """What must hold."""

    @property
    def source(self) -> str:
        """Where the rule comes from."""

    def judge(self, evidence: Evidence, /) -> Finding:
        """A pure function of the evidence: `ok`, `fail`, `warn` or `skip` with the numbers behind it."""


RULES: tuple[Rule, ...] = (
    Rule("files", "Every entry is a plain readable file inside the folder", "rules", code.regular_files),
    Rule("required", "README, submission.json, script and log are there", "rules", code.required_files),
    Rule("compiles", "Every script parses", "rules: compiles and runs inside the folder", code.compiles),
    Rule("extracts", "Code that is started lies in the folder and was read", "#1412, #1835, #2059", code.extracts),
    Rule("counted", "Every file that is opened or executed is counted", "#1934, #1412", code.counted_files),
    Rule("code-size", "The counted code does not depend on a minifier", "#1934", code.own_code_size),
    Rule("cap", "Artifact and code as shipped are within the cap", "rules; #1835, #1809", sizes.under_the_cap),
    Rule("margin", "The margin exceeds what seeds differ by", "#1978, #1420, #637", sizes.margin),
    Rule("log-bytes", "The logs' totals are within the cap and those of the files", "#1835", sizes.logged_totals),
    Rule("json-bytes", "submission.json's byte counts are those of the files", "#1412", sizes.claimed_bytes),
    Rule("readme-bytes", "README.md prints the total, not the weights alone", "#1412", sizes.readme_bytes),
    Rule("unpickling", "Nothing is unpickled", "rules; #640", code.no_unpickling),
    Rule("strict-load", "State dicts are loaded strictly", "#640", code.strict_loading),
    Rule(
        "dependencies", "Every import is declared", "rules: packages via requirements.txt", code.declared_dependencies
    ),
    Rule("programs", "Programs outside Python are named", "#1855, #1856, #2130", code.outside_programs),
    Rule("network", "Nothing is downloaded or installed", "rules", code.no_network),
    Rule("calibration", "Nothing is calibrated on the evaluated text", "C3; #1919, #1350", text.calibration_text),
    Rule(
        "training-text",
        "Nothing is trained on the evaluated text before packing",
        "C3; #1735, #1738, #1517, #1911",
        text.trained_on_scored,
    ),
    Rule(
        "time", "Training with its Hessians takes 600 s, evaluation 600 s", "rules; #677, #1868", sizes.training_time
    ),
    Rule("artifact", "The packed weights are in the folder", "rules", weights.artifact_present),
    Rule("codec", "The artifact is of the codec that its name and log say", "#1463, #1698", weights.content_as_named),
    Rule("no-code", "The artifact holds no code", "#640", weights.no_code_inside),
    Rule("decodes", "The artifact decodes in a clean process", "rules; #2130", weights.decodes),
    Rule("bit-exact", "Every decode gives the same bits", "#1978", weights.bit_exact),
    Rule("decoder", "The folder's decoder runs alone", "rules", weights.own_decoder),
    Rule("keys", "No tensor is missing, none is unknown", "#640", weights.strict_keys),
    Rule("finite", "Every weight is finite", "reviews", weights.finite),
    Rule("fp16", "No fp16 number overflows", "reviews", weights.fp16_range),
    Rule("scale-floor", "No row is held at a floor of its scale", "#433, #212", weights.scale_floor),
    Rule("unquantized", "No large matrix is left in floats", "#1529", weights.unquantized),
    Rule("trained", "No tensor is as it was initialized", "reviews", weights.never_trained),
    Rule("json", "submission.json is complete", "rules", claims.json_fields),
    Rule("log-loss", "The claimed losses are in the logs, after quantization", "rules", claims.loss_in_log),
    Rule("seeds", "The table of seeds gives the mean and the std that are claimed", "rules", seeds.seed_table),
    Rule("one-mode", "Losses that are compared are measured alike", "#212, #433", claims.one_mode),
    Rule("readme", "README.md states what submission.json states", "rules", claims.readme_agrees),
    Rule(
        "bytes-per-token",
        "Loss and bits per byte are of one whole text",
        "#1545, #2071, #1289, #1854, #1785",
        text.bytes_per_token,
    ),
    Rule("loss", "The loss measured here is the claimed one", "rules", scoring.loss_measured),
    Rule("text-bytes", "The bytes divided by are those of the text", "#897, #1545, #1632", scoring.bytes_recounted),
    Rule("causal", "No loss depends on a later token", "C1, C4", scoring.causal),
    Rule("normalized", "Losses are of a full distribution", "C2", scoring.normalized),
    Rule("score-first", "A token is scored before it is learned", "C3; #1493", scoring.score_first),
    Rule("calibration-text", "The calibration text is not the evaluated one", "C3; #1919", scoring.calibration_apart),
    Rule("documents", "Nothing leaks from one document into the next", "#1797, #1851", scoring.documents_apart),
)


def rule_of(name: str) -> Rule:
    """The rule with this id. Raises SettingError, which names the nearest, or else those that there are."""
    found = {rule.id: rule for rule in all_rules()}
    all_ids = ", ".join(found)
    if name not in found:
        raise SettingError(f"no rule is called {name}{did_you_mean(name, found) or f'; there are {all_ids}'}")
    return found[name]


def all_rules() -> tuple[Rule, ...]:
    """Our rules, then those of other installed packages in the order of their ids. Raises SettingError."""
    added: dict[str, Rule] = {}
    taken = {rule.id for rule in RULES}
    for entry in _entries(tuple(sys.path)):
        if entry.name in taken or entry.name in added:
            raise SettingError(
                f"the rule {entry.name} of {entry.value} has an id that is taken; rename its entry point"
            )
        try:
            plugin: PluginRule = entry.load()
            added[entry.name] = Rule(entry.name, plugin.sentence, plugin.source, plugin.judge)
        except (ImportError, AttributeError) as error:
            raise SettingError(f"the rule {entry.name} of {entry.value} cannot be loaded: {error}") from error
    return (*RULES, *added.values())


@functools.cache
def _entries(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of our group in the packages on `path`, in the order of their names."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))
