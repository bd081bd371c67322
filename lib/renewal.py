"""Renewal: a measurement with smaller sampling errors, of which only the orders that lack them are measured again."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from lib import experiments, results, sampling
from lib.estimators import PILOT
from lib.experiments import OrderCurves


def renewed(
    asked: OrderCurves,
    earlier: xr.Dataset,
    *,
    device: torch.device,
    root: str | Path | None = None,
    batch_size: int | None = None,
) -> xr.Dataset:
    """What is asked, each order taken from the ``earlier`` measurement where that had the same wanted error.

    An order's draws do not depend on the other orders, so that on one machine this is what measuring them all gives, up
    to rounding. Another kind of device may lead an attack elsewhere in its window: utilities, steps and classes are
    those of the earlier measurement, and an image counts as reached where it was both times, and led to one class (and
    aimed at one, where that is the class of v). The attribute ``renewed`` says which orders were measured again, and
    how.
    Raises ValueError unless the two ask the same but for orders, errors and replicates, with wanted errors in both.
    """
    before = _question(asked, earlier, root)
    orders = sampling.orders(earlier.attrs["players"], asked.fractions)
    had, wanted = (dict(zip(each.fractions, each.errors or (), strict=True)) for each in (before, asked))
    counts = dict(zip(before.fractions, earlier.replicates.max("image").values.tolist(), strict=True))
    same_limit, limit = asked.replicates == before.replicates, min(asked.replicates, before.replicates)
    kept = [f for f, error in wanted.items() if had.get(f) == error and (same_limit or counts[f] < limit)]
    missing = [fraction for fraction in asked.fractions if fraction not in kept]
    if not kept:
        return experiments.order_curves(asked, device=device, root=root, batch_size=batch_size)
    whole = earlier.isel(order=[before.fractions.index(fraction) for fraction in kept])
    attrs = earlier.attrs | {"command": results.command(asked, root)}
    if missing:
        part = replace(asked, fractions=tuple(missing), errors=tuple(wanted[fraction] for fraction in missing))
        fresh = experiments.order_curves(part, device=device, root=root, batch_size=batch_size)
        if not np.array_equal(fresh.image, earlier.image):
            raise ValueError(f"{asked.model} classifies other images correctly than it did earlier: measure all orders")
        if earlier.attrs.get("of_images", fresh.of_images) != fresh.of_images:
            raise ValueError("the dataset has other images than it had for the earlier measurement: measure all orders")
        whole = xr.concat([whole, fresh], "order", data_vars="minimal", coords="minimal", compat="override")
        whole = whole.sel(order=orders)
        whole["reached"] = whole.reached & fresh.reached & (whole.class_after == fresh.class_after)
        if asked.category == "attacked":
            whole["reached"] = whole.reached & (whole.category == fresh.category)
        about = {name: fresh.attrs[name] for name in ("versions", "device", "date", "code_revision")}
        now = f"{', '.join(map(str, missing))}: {', '.join(about.values())}"
        attrs |= {
            "renewed": "; ".join(filter(None, [earlier.attrs.get("renewed"), now])),
            "date": fresh.attrs["date"],
            "seconds_of_last_run": fresh.attrs["seconds_of_last_run"],
        }
    contrasts = whole.replicates + PILOT
    whole["passes"] = (4 * whole.sizes["variant"] * contrasts).sum("order")
    return whole.assign_attrs(attrs | {"passes": int(whole.passes.sum())})


def _question(asked: OrderCurves, earlier: xr.Dataset, root: str | Path | None) -> OrderCurves:
    """What the earlier measurement asked; raises ValueError unless it is what is asked but for its own errors."""
    command = earlier.attrs.get("command", "(a command that the file does not tell)")
    errors, replicates = re.search(r"--errors (\S+)", command), re.search(r"--replicates (\d+)", command)
    if asked.errors is not None and len(asked.errors) != len(asked.fractions):
        raise ValueError(f"errors must be one for each of {len(asked.fractions)} orders; got {list(asked.errors)}")
    if asked.errors is None or errors is None or replicates is None:
        raise ValueError(
            f"a measurement is renewed to wanted errors: both need --errors; the earlier one is\n{command}"
        )
    before = replace(
        asked,
        errors=tuple(float(error) for error in errors[1].split(",")),
        replicates=int(replicates[1]),
        fractions=tuple(earlier.fraction.values.tolist()),
    )
    if results.command(before, root) != command:
        raise ValueError(
            "only --orders, --errors and --replicates may differ from the earlier measurement; "
            f"it was made by\n{command}\nand now is asked\n{results.command(asked, root)}"
        )
    return before
