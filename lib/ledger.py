"""The claims ledger: every claim of the paper, judged on every published result (§5)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import floor, log10
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from lib import claims, exact, models, results, training
from lib.defense_experiments import FULL, detectors, same_images
from lib.files import replacing
from lib.sampling import generator

LEDGER = results.PUBLISHED / "claims.json"
STRONG, MATCHED, WEAK = "untargeted 8", "untargeted 2", "untargeted 1"
"""Utilities. STRONG is the paper's; MATCHED, both twins reach on 90 of 100 images; WEAK is for twins that do not."""

SEEDED = "resnet18"
"""The architecture that was trained from several seeds."""
SIDE = ("resnet18", "resnet50", "densenet161")
"""The networks of §4.3 and Table 1, and of our side experiments: other categories, strength, baseline."""


@dataclass(frozen=True)
class Source:
    """Where a verdict comes from: the claim, the experiments of the models it is judged on, and the judge.

    ``reads`` are pairs of a training and an experiment; ``on`` says in words what was measured. The claim is judged on
    each of the ``architectures``, by default on all that the ``dataset`` has recipes for.
    """

    id: str
    reads: tuple[tuple[str, str], ...]
    judge: Callable[..., list[claims.Verdict]]
    on: str
    dataset: str = "cifar10"
    architectures: tuple[str, ...] = ()


def _reached(judge: Callable[..., list[claims.Verdict]], attack: str) -> Callable[..., list[claims.Verdict]]:
    """The judge of curves of an attack, on the images that it brought to its utility."""
    return lambda *measured: judge(*(results.reached(each, attack) for each in measured), attack)


def _curves(pairs: str) -> list[Source]:
    standard, twin = _twins(pairs)
    return [
        Source("C03", (standard,), _reached(claims.c03, STRONG), f"{pairs}, {STRONG}"),
        Source("C05", (standard,), _reached(claims.c05, STRONG), f"{pairs}, {STRONG}"),
        Source("C05", (twin,), _reached(claims.c05, MATCHED), f"{pairs}, {MATCHED}"),
        *_at_equal_utility(pairs, MATCHED),
    ]


def _at_equal_utility(pairs: str, attack: str, architectures: tuple[str, ...] = ()) -> list[Source]:
    return [
        Source(id, _twins(pairs), _reached(judge, attack), f"{pairs}, {attack}", architectures=architectures)
        for id, judge in (("C04", claims.c04), ("C10", claims.c10))
    ]


def _twins(experiment: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("standard", experiment), ("adversarial", experiment)


def _c09(curves: xr.Dataset, games: xr.Dataset) -> list[claims.Verdict]:
    shared = claims.listed(same_images(curves, games))
    return claims.c09(shared.interaction.values, shared.amplitude.values)


def _c12(games: xr.Dataset) -> list[claims.Verdict]:
    return claims.c12(detectors(games, seen=FULL), FULL)


def _defenses(how: str, attack: str) -> list[Source]:
    games, images = (how, "defenses-games"), (how, "defenses-images")
    fitted = "PGD, ε = 16/255, ten steps, detector fitted on it"
    return [
        Source("C09", ((how, "neighbours"), games), _c09, f"neighbours, the same images, {attack}", architectures=SIDE),
        Source("C12", (games,), _c12, fitted, architectures=SIDE),
        Source("C14", (games,), claims.c14, f"neighbours, {attack}", architectures=SIDE),
        Source("C16", (images,), claims.c16, "attack stopped on success", architectures=SIDE),
    ]


SOURCES = [
    *_curves("neighbours"),
    *_curves("uniform"),
    *_at_equal_utility("neighbours", WEAK, architectures=("wide_resnet50_4", "vgg16")),
    Source(
        "C06",
        (("standard", "attacked"),),
        _reached(claims.c06, "targeted 8"),
        "neighbours, target class, targeted 8",
        architectures=SIDE,
    ),
    Source(
        "C06",
        (("standard", "others"),),
        _reached(claims.c06, "targeted 8"),
        "neighbours, all wrong classes, targeted 8",
        architectures=SIDE,
    ),
    *(
        Source(
            "C05",
            (("smoothed", pairs),),
            _reached(claims.c05, MATCHED),
            f"{pairs}, {MATCHED}",
            architectures=("resnet50",),
        )
        for pairs in ("neighbours", "uniform")
    ),
    Source("C07", (("standard", "steps"),), claims.c07, "neighbours, 4, 8, 16, 32 steps", architectures=SIDE),
    *_defenses("standard", STRONG),
    *_defenses("adversarial", MATCHED),
    Source("C11", _twins("disentanglement"), claims.c11, "neighbours, normal images"),
    Source(
        "C11",
        _twins("disentanglement-uniform"),
        claims.c11,
        "uniform, normal images",
        architectures=("resnet18",),
    ),
    Source("C13", _twins("defenses-images"), claims.c13, "PGD, ε = 16/255, ten steps, and back", architectures=SIDE),
    *(
        Source(
            "C17",
            (("standard", pairs), ("smoothed", pairs)),
            _reached(claims.c17, MATCHED),
            f"{pairs}, {MATCHED}",
            architectures=("resnet50",),
        )
        for pairs in ("neighbours", "uniform")
    ),
    Source(
        "C18",
        (("standard", "zero"),),
        _reached(claims.c03, STRONG),
        f"neighbours, zero baseline, {STRONG}",
        architectures=SIDE,
    ),
    *(
        Source("C20", ((how, "contexts"),), claims.c20, "neighbours, normal images", architectures=SIDE)
        for how in ("standard", "adversarial")
    ),
    *(
        Source("C19", ((how, experiment),), _reached(claims.c05, attack), f"{pairs}, {attack}", dataset="modelnet10")
        for how, experiment, pairs, attack in (
            ("standard", "neighbours", "neighbours", WEAK),
            ("standard", "strong", "neighbours", STRONG),
            ("adversarial", "neighbours", "neighbours", WEAK),
            ("standard", "uniform", "uniform", WEAK),
            ("standard", "uniform", "uniform", STRONG),
            ("adversarial", "uniform", "uniform", WEAK),
        )
    ),
    *(
        Source("C19", _twins(pairs), _reached(judge, WEAK), f"{pairs}, {WEAK}", dataset="modelnet10")
        for pairs in ("neighbours", "uniform")
        for judge in (claims.c04, claims.c10)
    ),
    Source("C19", _twins("disentanglement"), claims.c11, "neighbours, normal clouds", dataset="modelnet10"),
]
"""Everything that is judged; ``ledger`` sorts it by claim, and a missing result makes the row "not run"."""


EXACT = {
    "C01": (claims.c01, exact.efficiency_residuals),
    "C02": (claims.c02, exact.property_residuals),
    "C08": (claims.c08, exact.proposition_residuals),
    "C15": (claims.c15, exact.dropout_residuals),
}
"""The claims that are theorems: what judges them and the residuals of random games that it judges."""


Published = Callable[[str, str, str], tuple[str, xr.Dataset] | None]
"""Gives of a dataset, model and experiment the file's name and the result, or None where it is not published."""


def ledger(folder: Path = results.PUBLISHED) -> list[dict[str, Any]]:
    """The rows of the ledger: id, claim, dataset, model, on, effect, low, high, images, verdict and source.

    A claim about twins has the architecture as its model. Where a result is missing, effect and interval are None and
    the verdict is "not run".
    """
    published = _published(folder)
    theorems = [
        {**_judged(verdict), "dataset": "exact games", "model": "none", "on": "random games", "source": []}
        for judge, residuals in EXACT.values()
        for verdict in judge(residuals(generator(0)))
    ]
    return theorems + [
        row
        for source in sorted(SOURCES, key=lambda source: source.id)
        for architecture in source.architectures
        or dict.fromkeys(name.partition("-")[0] for name in training.RECIPES[source.dataset])
        for row in _rows(source, architecture, published)
    ]


def seed_rows(seed: int, *, folder: Path = results.PUBLISHED) -> list[dict[str, Any]]:
    """The rows, as the ledger's, of twins that were both trained from this seed: C03, C04, C05, C10, C11."""
    published = _published(folder)
    return [
        row
        for source in sorted(SOURCES, key=lambda source: source.id)
        if source.dataset == "cifar10"
        and SEEDED in (source.architectures or (SEEDED,))
        and {what for _, what in source.reads} <= {"neighbours", "disentanglement"}
        and {how for how, _ in source.reads} <= {"standard", "adversarial"}
        for row in _rows(source, SEEDED, published, seed)
    ]


def _published(folder: Path) -> Published:
    files = {(data, model, what): path for data, model, what, path in results.published(folder)}

    @cache
    def find(data: str, model: str, what: str) -> tuple[str, xr.Dataset] | None:
        path = files.get((data, model, what))
        return None if path is None else (str(path.relative_to(folder)), results.read(path))

    return find


def _rows(source: Source, architecture: str, published: Published, seed: int = 0) -> Iterator[dict[str, Any]]:
    trainings = {how for how, _ in source.reads}
    name = architecture if len(trainings) > 1 else f"{architecture}-{trainings.pop()}"
    about = {"id": source.id, "dataset": source.dataset, "model": models.of_seed(name, seed), "on": source.on}
    found = [
        published(source.dataset, models.of_seed(f"{architecture}-{how}", seed), what) for how, what in source.reads
    ]
    there = [each for each in found if each is not None]
    if len(there) < len(found):
        nothing = dict.fromkeys(("claim", "effect", "low", "high"))
        yield {**about, **nothing, "images": 0, "verdict": "not run", "source": []}
        return
    try:
        verdicts = source.judge(*(measured for _, measured in there))
    except ValueError as error:
        raise ValueError(f"{source.id} cannot be judged on {', '.join(name for name, _ in there)}: {error}") from error
    for verdict in verdicts:
        yield {**about, **_judged(verdict), "id": source.id, "source": [name for name, _ in there]}


def _judged(found: claims.Verdict) -> dict[str, Any]:
    return {
        "id": found.id,
        "claim": found.claim,
        "effect": _rounded(found.effect.mean),
        "low": _rounded(found.effect.low),
        "high": _rounded(found.effect.high),
        "images": found.effect.images,
        "verdict": found.verdict,
    }


def _rounded(number: Any) -> float:
    """Six significant digits: what a rerun on another machine gives too."""
    return float(f"{float(number):.6g}")


def write(path: Path = LEDGER, *, folder: Path = results.PUBLISHED) -> Path:
    """Write the ledger as JSON, whole or not at all; returns the path."""
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(ledger(folder), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(path: Path = LEDGER) -> list[dict[str, Any]]:
    """The rows of the ledger as stored; raises FileNotFoundError where there is none, ValueError for a damaged one."""
    if not path.exists():
        raise FileNotFoundError(f"no ledger {path}: write one with 'python -m lib claims --write'")
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no ledger: write it anew with 'python -m lib claims --write' ({error})") from error
    return rows


def told(effect: float, low: float, high: float) -> str:
    """An effect with its interval, to the third digit of the larger end."""
    size = max(abs(low), abs(high))
    digits = max(1, 2 - floor(log10(size))) if size else 1
    return f"{effect:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"


def table(*ids: str) -> pd.DataFrame:
    """The stored rows of these claims, as a chapter shows them; what was not run is left out.

    Raises ValueError for a claim that has no row.
    """
    rows = read()
    unknown = sorted(set(ids) - {row["id"] for row in rows})
    if unknown or not ids:
        raise ValueError(f"no rows of the claims {', '.join(unknown) or '(none given)'} in {LEDGER}")
    shown = [
        (
            row["id"],
            row["claim"],
            "–" if row["model"] == "none" else models.title(row["model"]),
            row["on"],
            row["images"],
            told(row["effect"], row["low"], row["high"]),
            row["verdict"],
        )
        for row in rows
        if row["id"] in ids and row["verdict"] != "not run"
    ]
    heads = ["id", "claim", "network", "on", "images or games", "effect and 95% interval", "verdict"]
    return pd.DataFrame(shown, columns=heads).set_index("id")
