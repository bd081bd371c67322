"""The command line: ``python -m lib --help`` lists the commands, ``--help`` after one of them what it takes."""

import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lib import (
    attacks,
    controls,
    datasets,
    defense_experiments,
    experiments,
    imagenet_weights,
    ledger,
    meshes,
    models,
    results,
    training,
)
from lib import contexts as the_contexts
from lib import disentanglement as the_disentanglement
from lib import robustness as the_robustness
from lib import singles as the_singles
from lib.files import check_writable, key, tracked
from lib.files import console as progress
from lib.renewal import renewed
from lib.statistics import interval

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Interactions, attacks and defences: the replication of Ren et al. (NeurIPS 2021).",
)
console = Console(markup=False, width=None if sys.stdout.isatty() else 160)  # a pipe has no width of its own


def quotient(text: str | float) -> float:
    """The number of "8/255" or "0.03"; raises typer.BadParameter for anything else."""
    try:
        return float(Fraction(text))
    except (ValueError, ArithmeticError):
        raise typer.BadParameter(f"{text!r} is no number: write one as 8/255 or 0.03") from None


DatasetName = Annotated[str, typer.Option(help="photos (ships with the packages), cifar10, modelnet10 or imagenet")]
TrainedOn = Annotated[str, typer.Option(help="photos (ships with the packages), cifar10 or modelnet10")]
OfImages = Annotated[str, typer.Option(help="photos (ships with the packages), cifar10 or imagenet")]
ModelName = Annotated[str, typer.Option(help="a checkpoint such as resnet18-standard or resnet18-adversarial")]
Images = Annotated[int, typer.Option(help="test images that the model classifies correctly")]
Root = Annotated[Path | None, typer.Option(help="folder of the dataset; else the lookup order of the README")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu or cuda")]
SamplingName = Annotated[str, typer.Option(help="pairs of players: neighbours or uniform")]
Orders = Annotated[str, typer.Option(help="fractions of n−2, with commas")]
EVERY_ORDER = ",".join(map(str, experiments.FRACTIONS))
Epsilon = Annotated[
    float,
    typer.Option(
        parser=quotient,
        show_default="32/255",
        help="greatest change of a pixel in [0, 1]: 8/255, or 0.03; 'epsilon 4' has its own",
    ),
]
StepSize = Annotated[
    float,
    typer.Option(parser=quotient, show_default="2/255", help="first step, in [0, 1] too; halved near the utility"),
]
Steps = Annotated[int, typer.Option(help="steps of the attack, at most; 'steps 16' and 'epsilon 4' have their own")]
Grid = Annotated[int, typer.Option(help="players along a side of the image")]
BaselineName = Annotated[str, typer.Option(help="masked value: mean, zero or noise; in interactions blur too")]
ValueName = Annotated[str, typer.Option(help="v: log_probability, logit, margin or other_classes")]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="masked images a forward pass, else as fits the device; changes rounding alone"),
]


def writable(path: Path | None) -> Path | None:
    """The place of a result, or of a folder of results, if it may be written; told before anything is measured.

    Raises OSError where nothing can be written, ValueError for a place among the published results.
    """
    if path is None:
        return None
    path = path.expanduser()  # of --out=~/x.nc the shell does not
    if path.resolve().is_relative_to(results.PUBLISHED.resolve()):
        raise ValueError(f"{path} is among the published results: write elsewhere, look at it, and then move it there")
    check_writable(path)
    return path


def result_file(path: Path | None) -> Path | None:
    """The place of one result, as ``writable`` has it; raises ValueError where its name does not end in .nc."""
    if path is not None and path.suffix != ".nc":
        raise ValueError(f"a result is a file whose name ends in .nc; got {path}")
    return writable(path)


Out = Annotated[
    Path | None,
    typer.Option(dir_okay=False, callback=result_file, help="the result (netCDF); else build/results/<key>.nc"),
]
Seed = Annotated[int, typer.Option(help="decides every random draw")]


@app.command("datasets", epilog="Example: [bold]python -m lib datasets[/bold]")
def list_datasets() -> None:
    """List the datasets and the trained models with their accuracies."""
    table = Table("dataset", "images", "where from")
    for name, about in datasets.ABOUT.items():
        table.add_row(name, *about)
    console.print(table)
    table = Table("model", "clean", "PGD-20 at 8/255, random start", "trained on")
    for name in models.available():
        card = models.card(*name.split("/"))
        table.add_row(name, f"{card['clean_accuracy']:.1%}", f"{card['pgd20_accuracy']:.1%}", card["device"])
    console.print(table)


@app.command(epilog="Example: [bold]python -m lib clouds ModelNet10[/bold]")
def clouds(folder: Annotated[Path, typer.Argument(help="the unpacked ModelNet10.zip, a folder a class")]) -> None:
    """Make the point clouds of ModelNet10's meshes, in data/datasets/modelnet10."""
    console.print(f"written to {meshes.convert(folder)}", soft_wrap=True)


@app.command(epilog="Example: [bold]python -m lib convert resnet18_linf_eps4.0.ckpt[/bold]")
def convert(file: Annotated[Path, typer.Argument(help="a checkpoint of PyTorch")]) -> None:
    """Rewrite an ImageNet checkpoint that PyTorch does not read safely as tensors alone, beside it."""
    console.print(f"written to {imagenet_weights.convert(file)}", soft_wrap=True)


@app.command(epilog="Example: [bold]python -m lib train --dataset photos --model resnet18-standard --seed 3[/bold]")
def train(
    dataset: TrainedOn = "photos",
    model: Annotated[
        str, typer.Option(help="architecture and training, as resnet18-adversarial")
    ] = "resnet18-standard",
    epochs: Annotated[int | None, typer.Option(help="else as in the published recipe")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16, else as in the published recipe")] = None,
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
) -> None:
    """Train a model and write its weights and card to data/checkpoints; interrupted, it goes on where it was.

    With a seed other than 0 it is a network of its own, as resnet18-standard_seed1.
    """
    asked = {"seed": seed, "epochs": epochs, "precision": precision}
    about = training.recipe(dataset, model, **{name: value for name, value in asked.items() if value is not None})
    on = models.device(device)
    training.check_new(dataset, about)
    data, test = (datasets.load(dataset, split, root=root) for split in ("train", "test"))
    card = training.train_and_save(data, test, about, device=on)
    console.print_json(card.read_text())


@app.command(epilog="Example: [bold]python -m lib attack --dataset photos --attack 'untargeted 8' --images 50[/bold]")
def attack(
    dataset: DatasetName = "photos",
    model: ModelName = "resnet18-standard",
    attack: Annotated[
        str,
        typer.Option(
            help="'untargeted 8' or 'targeted 2', to that utility in logits; 'steps 16'; or 'epsilon 4', of 20 steps "
            "inside 4/255"
        ),
    ] = "untargeted 8",
    epsilon: Epsilon = attacks.EPSILON,
    step_size: StepSize = attacks.STEP_SIZE,
    steps: Steps = attacks.STEPS,
    images: Images = 100,
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
) -> None:
    """Attack correctly classified test images up to a utility and say how many reach it."""
    experiments.attack_goal(attack)
    on = models.device(device)
    network = models.load(dataset, model, device=on)
    data = datasets.load(dataset, "test", root=root)
    _, clean, labels = experiments.correct_images(network, data, images, seed=seed)
    attacks.check_attack(clean[:1], epsilon=epsilon, step_size=step_size, steps=steps)
    make = partial(experiments.attack, network, name=attack, epsilon=epsilon, step_size=step_size, steps=steps)
    parts = (part.split(results.AT_ONCE[on.type]) for part in (clean, labels))
    blocks = list(zip(*parts, strict=True))
    with tracked(blocks, attack) as shown:
        found = attacks.joined([make(*block) for block in shown])
    table = Table("what", "value", title=f"{attack} attack on {dataset}/{model}")
    utility = found.utility.cpu().numpy()
    changed = float((found.images - clean).abs().max())
    for what, value in (
        ("images", str(images)),
        *([("reached the utility", f"{int(found.reached.sum())}")] if "targeted" in attack else []),
        ("misclassified", f"{int((found.classes != labels).sum())}"),
        ("utility: mean, least, greatest", f"{utility.mean():.2f}, {utility.min():.2f}, {utility.max():.2f}"),
        ("steps: mean", f"{found.steps.float().mean():.1f}"),
        ("greatest change of a coordinate, in [0, 1]", f"{changed:.4f}")
        if datasets.is_cloud(clean)
        else ("greatest change of a pixel", f"{255 * changed:.2f}/255"),
    ):
        table.add_row(what, value)
    console.print(table)


@app.command(
    epilog="Example: [bold]python -m lib interactions --images 20 --replicates 50 --attack 'untargeted 8'[/bold]"
)
def interactions(
    dataset: DatasetName = "photos",
    model: ModelName = "resnet18-standard",
    attack: Annotated[
        list[str] | None,
        typer.Option(
            show_default="untargeted 8",
            help="repeatable: 'untargeted 8', 'targeted 2', 'steps 16', 'epsilon 4' as in the command attack, or a "
            f"control and its utility, of {', '.join(controls.CONTROLS)}",
        ),
    ] = None,
    epsilon: Epsilon = attacks.EPSILON,
    step_size: StepSize = attacks.STEP_SIZE,
    steps: Steps = attacks.STEPS,
    sampling: SamplingName = "neighbours",
    design: Annotated[
        str | None, typer.Option(help="four_point, signed_groups (neighbours) or curvature (uniform); else the cheaper")
    ] = None,
    group: Annotated[
        int | None,
        typer.Option(help="pairs at once in signed_groups, else 12; players in a group of curvature, else fitted"),
    ] = None,
    images: Images = 100,
    replicates: Annotated[
        int, typer.Option(help="contrasts (four passes) per image, order and variant; with errors, at most")
    ] = 64,
    errors: Annotated[
        str | None,
        typer.Option(
            help="wanted sampling errors, in units of v, of a block's images in root mean square; one, or one an order"
        ),
    ] = None,
    orders: Orders = EVERY_ORDER,
    grid: Grid = 16,
    baseline: BaselineName = "mean",
    value: ValueName = "log_probability",
    category: Annotated[
        str, typer.Option(help="class of v: truth, or attacked: the target of the first attack")
    ] = "truth",
    source: Annotated[
        str, typer.Option(help="model whose perturbations the attack 'transferred U' takes")
    ] = "resnet18-adversarial",
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            help="with --errors: a result of the same but for errors, replicates and orders; equal errors are kept"
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Measure I^(m) of normal and adversarial images at every order; interrupted, it goes on where it was."""
    fractions = numbers(orders, what="orders")
    wanted = None if errors is None else numbers(errors, what="errors")
    if wanted is not None and len(wanted) == 1:
        wanted *= len(fractions)
    asked = experiments.OrderCurves(
        dataset=dataset,
        model=model,
        attacks=tuple(attack or experiments.OrderCurves.attacks),
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
        sampling=sampling,
        design=design,
        group=group,
        images=images,
        replicates=replicates,
        errors=wanted,
        fractions=fractions,
        grid=grid,
        baseline=baseline,
        value=value,
        category=category,
        source=source,
        seed=seed,
    )
    measure = experiments.order_curves if earlier is None else partial(renewed, earlier=results.read(earlier))
    measured = measure(asked, device=models.device(device), root=root, batch_size=batch_size)
    store(measured, out or place(asked, root))
    for name in asked.attacks:
        used = results.reached(measured, name)
        table = Table(
            "order", "ΔI, 95% interval over images", title=f"{name}: {used.sizes['image']} of {images} images"
        )
        change = used.difference.sel(attack=name)
        for order in measured.order.values if used.sizes["image"] else ():
            table.add_row(str(order), over_images(change.sel(order=order).values, digits=4))
        console.print(table)


@app.command(epilog="Example: [bold]python -m lib disentanglement --images 20 --pairs 4[/bold]")
def disentanglement(
    dataset: DatasetName = "photos",
    model: ModelName = "resnet18-standard",
    sampling: SamplingName = "neighbours",
    images: Images = 100,
    pairs: Annotated[int, typer.Option(help="pairs of players an image")] = 8,
    contexts: Annotated[int, typer.Option(help="contexts per image and order, common to its pairs")] = 24,
    orders: Orders = EVERY_ORDER,
    grid: Grid = 16,
    baseline: BaselineName = "mean",
    value: ValueName = "log_probability",
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    out: Out = None,
) -> None:
    """Measure D^(m), how far pairs keep their sign from context to context; interrupted, it goes on where it was."""
    asked = the_disentanglement.Disentanglement(
        dataset=dataset,
        model=model,
        sampling=sampling,
        images=images,
        pairs=pairs,
        contexts=contexts,
        fractions=numbers(orders, what="orders"),
        grid=grid,
        baseline=baseline,
        value=value,
        seed=seed,
    )
    on = models.device(device)
    measured = the_disentanglement.disentanglement(asked, device=on, root=root, batch_size=batch_size)
    store(measured, out or place(asked, root))
    table = Table("order", "D, 95% interval over images", title=f"{dataset}/{model}, {images} images")
    for order in measured.order.values:
        chosen = measured.disentanglement.sel(estimate="midpoint", order=order)
        table.add_row(str(order), over_images(chosen.values))
    console.print(table)


@app.command(epilog="Example: [bold]python -m lib singles --images 20 --attack 'untargeted 2'[/bold]")
def singles(
    dataset: OfImages = "photos",
    model: ModelName = "resnet18-standard",
    attack: Annotated[
        list[str] | None,
        typer.Option(
            show_default="untargeted 8",
            help="repeatable, inside 32/255: 'untargeted 8', 'targeted 2', 'steps 16', 'epsilon 4'",
        ),
    ] = None,
    images: Images = 100,
    grid: Grid = 16,
    baseline: BaselineName = "mean",
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    out: Out = None,
) -> None:
    """Measure what an attack does to the players alone, beside the interactions; interrupted, it goes on."""
    asked = the_singles.Singles(
        dataset=dataset,
        model=model,
        attacks=tuple(attack or the_singles.Singles.attacks),
        images=images,
        grid=grid,
        baseline=baseline,
        seed=seed,
    )
    measured = the_singles.players_alone(asked, device=models.device(device), root=root, batch_size=batch_size)
    store(measured, out or place(asked, root))
    table = Table("attack", "reached", "change of Σφ^(0)", "change of v(N)", title=f"{dataset}/{model}")
    for name in asked.attacks:
        changed = the_singles.change(measured, name)
        both = (over_images(changed[part].values) for part in ("alone", "whole"))
        table.add_row(name, f"{changed.sizes['image']} of {images}", *both)
    console.print(table)


@app.command(epilog="Example: [bold]python -m lib contexts --images 20 --pairs 2[/bold]")
def contexts(
    dataset: OfImages = "photos",
    model: ModelName = "resnet18-standard",
    sampling: SamplingName = "neighbours",
    images: Images = 100,
    pairs: Annotated[int, typer.Option(help="pairs of players an image")] = 5,
    contexts: Annotated[int, typer.Option(help="contexts per pair and order")] = 50,
    orders: Orders = "0.1,0.5,0.9",
    grid: Grid = 16,
    baseline: BaselineName = "mean",
    value: ValueName = "log_probability",
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    out: Out = None,
) -> None:
    """Measure how near to their pair the strong contexts of each order are; interrupted, it goes on where it was."""
    asked = the_contexts.Contexts(
        dataset=dataset,
        model=model,
        sampling=sampling,
        images=images,
        pairs=pairs,
        contexts=contexts,
        fractions=numbers(orders, what="orders"),
        grid=grid,
        baseline=baseline,
        value=value,
        seed=seed,
    )
    measured = the_contexts.localities(asked, device=models.device(device), root=root, batch_size=batch_size)
    store(measured, out or place(asked, root))
    table = Table("order", "locality, 95% interval over images", title=f"{dataset}/{model}, {images} images")
    for order in measured.order.values:
        table.add_row(str(order), over_images(measured.locality.sel(order=order).values))
    console.print(table)


@app.command(epilog="Example: [bold]python -m lib defenses --images 40 --games 10[/bold]")
def defenses(
    dataset: OfImages = "photos",
    model: ModelName = "resnet18-standard",
    attack: Annotated[
        str, typer.Option(help="of the games and frequencies, inside 32/255: 'untargeted 8', …")
    ] = "untargeted 8",
    images: Annotated[int, typer.Option(help="images for recovery, dropout and cutout")] = 500,
    games: Annotated[int, typer.Option(help="the first of them, for frequency, rank, detection and entropy")] = 100,
    draws: Annotated[int, typer.Option(help="draws of dropout and cutout, per image and rate")] = 5,
    replicates: Annotated[int, typer.Option(help="contrasts per image, order and variant, for the rank")] = 4,
    contexts: Annotated[int, typer.Option(help="contexts of a player and order, for the detection")] = 15,
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, callback=writable, help="folder of the two results; else build/results/<key>"),
    ] = None,
) -> None:
    """Measure the defences of §4.3 on one model; interrupted, it goes on where it was."""
    asked = defense_experiments.Defenses(
        dataset=dataset,
        model=model,
        attack=attack,
        images=images,
        games=games,
        draws=draws,
        replicates=replicates,
        contexts=contexts,
        seed=seed,
    )
    on = models.device(device)
    measured = defense_experiments.defenses(asked, device=on, root=root, batch_size=batch_size)
    folder = out or place(asked, root, suffix="")
    for name, part in measured.items():
        store(part, folder / f"{model}-defenses-{name}.nc", counted="forward passes")
    on_images = measured["images"]
    misled = on_images.misled.sel(attack=defense_experiments.STOPPED)
    title = f"{dataset}/{model}: {int(misled.sum())} of {images} images misled by the stopped attack"
    table = Table("defence", "share of these corrected", "share of normal images kept", title=title)
    for way in on_images.defense.values:
        share = on_images.corrected.sel(defense=way)
        corrected, kept = share.sel(subject="adversarial").values[misled.values], share.sel(subject="normal").values
        table.add_row(str(way), over_images(corrected), over_images(kept))
    console.print(table)


@app.command(epilog="Example: [bold]python -m lib robustness --dataset photos --images 100[/bold]")
def robustness(
    dataset: DatasetName = "photos",
    model: ModelName = "resnet18-adversarial",
    images: Annotated[int, typer.Option(help="test images")] = 500,
    autoattack: Annotated[bool, typer.Option(help="AutoAttack too: a quarter of an hour for 500 images")] = False,
    certified: Annotated[int, typer.Option(help="of these, images whose radius is certified")] = 0,
    draws: Annotated[int, typer.Option(help="noisy copies of an image, for its certified radius")] = 1000,
    seed: Seed = 0,
    root: Root = None,
    device: DeviceName = "auto",
    out: Out = None,
) -> None:
    """Measure clean, PGD-20 and AutoAttack accuracy, and certified radii; interrupted, it goes on where it was."""
    asked = the_robustness.Robustness(
        dataset=dataset,
        model=model,
        images=images,
        autoattack=autoattack,
        certified=certified,
        draws=draws,
        seed=seed,
    )
    measured = the_robustness.robustness(asked, device=models.device(device), root=root)
    store(measured, out or place(asked, root), counted="forward passes")
    table = Table("under", "accuracy, 95% interval over images", title=f"{dataset}/{model}, {images} images")
    for under in measured.under.values:
        table.add_row(str(under), over_images(measured.right.sel(under=under).values))
    known = measured.radius.dropna("image")
    for radius in (0.0, 0.25, 0.5) if len(known) else ():
        table.add_row(f"certified above {radius}", over_images((known > radius).values))
    console.print(table)


@app.command("results", epilog="Example: [bold]python -m lib results[/bold]")
def list_results() -> None:
    """List the published measurements: models, experiments, counts, dates; each file holds its command."""
    table = Table("dataset", "model", "experiment", "images", "orders", "passes", "date", "code")
    for dataset, model, experiment, path in results.published():
        found = results.read(path)
        sizes = [str(found.sizes.get(name, "")) for name in ("image", "order")]
        about = [str(found.attrs.get(name, "")) for name in ("passes", "date", "code_revision")]
        table.add_row(dataset, model, experiment, *sizes, *about)
    console.print(table)


@app.command(epilog="Example: [bold]python -m lib claims[/bold]")
def claims(
    write: Annotated[bool, typer.Option(help="write the ledger to data/results/claims.json")] = False,
    missing: Annotated[bool, typer.Option(help="list also what was not run")] = False,
) -> None:
    """Judge the paper's claims on the published results: the ledger."""
    with progress.status("Judging the claims"):
        rows = ledger.read(ledger.write()) if write else ledger.ledger()
    table = Table("claim", "dataset", "model", "on", "what", "effect, 95% interval", "images", "verdict")
    for row in rows:
        if row["verdict"] == "not run" and not missing:
            continue
        shown = "" if row["effect"] is None else ledger.told(row["effect"], row["low"], row["high"])
        cells = [row[name] for name in ("id", "dataset", "model", "on")]
        table.add_row(*cells, row["claim"] or "", shown, str(row["images"]), row["verdict"])
    console.print(table)
    if write:
        console.print(f"written to {ledger.LEDGER}", soft_wrap=True)


@app.command(epilog="Example: [bold]python -m lib book --stored[/bold]")
def book(
    stored: Annotated[bool, typer.Option(help="build from the stored outputs, executing nothing")] = False,
    keep: Annotated[bool, typer.Option(help="store the executed notebooks in book/")] = False,
    pin: Annotated[bool, typer.Option(help="pin the key numbers that the execution found")] = False,
) -> None:
    """Execute every chapter and build the book: _build/html/index.html."""
    if stored and (keep or pin):
        raise ValueError("--stored executes nothing, so there is nothing to --keep or --pin: choose one of them")
    from lib import book as the_book  # takes seconds, which every other command would wait for
    from lib import key_numbers

    if stored:
        the_book.stage()
    else:
        the_book.execute()
    if keep:  # before what may refuse it, so that an execution is not lost
        the_book.store()
    if pin:
        key_numbers.pin()
    page = the_book.build()
    console.print(f"the book is at {page}", soft_wrap=True)


@app.command(epilog="Example: [bold]python -m lib pdf[/bold]")
def pdf() -> None:
    """Print the book as last executed, or as stored, by chromium: _build/book.pdf."""
    from lib import book as the_book  # as above

    console.print(f"the book is at {the_book.pdf()}", soft_wrap=True)


def numbers(text: str, *, what: str) -> tuple[float, ...]:
    """The numbers of "0.1,0.5,0.95"; raises ValueError for anything else."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{what} are numbers with commas, as 0.1,0.5,0.95; got {text!r}") from None


def place(asked: results.Asked, root: Path | None, *, suffix: str = ".nc") -> Path:
    """A path among the work for what is measured by a command, of a dataset that is looked up or in ``root``."""
    return results.WORK / f"{key(results.command(asked, root))}{suffix}"


def store(measured: xr.Dataset, path: Path, *, counted: str = "evaluations of v") -> None:
    """Write a result, and say what it took and where it is."""
    results.write(measured, path)
    console.print(f"{int(measured.attrs['passes'])} {counted}; written to {path}", soft_wrap=True)


def over_images(values: NDArray[np.float64], *, digits: int = 3) -> str:
    """The mean over images with its interval, as the tables show it; of a single image, its value alone."""
    if not len(values) or np.isnan(values).any():
        return "not defined"
    return interval(values).text(digits) if len(values) > 1 else f"{float(values[0]):.{digits}f}, of one image"


def main() -> None:
    """Run the command line; a wrong input ends it with one line that says what to do."""
    try:
        app()
    except (ValueError, OSError) as error:
        progress.print(Text.assemble(("error:", "bold red"), f" {error}"), soft_wrap=True)
        sys.exit(2)
