"""What a person sees of a projection."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from bench.doctor.cost import Load, Measured, Projection
from bench.doctor.requirements import megabytes, span


def cost_table(load: Load, measured: Measured, found: Projection) -> Table:
    """Inputs, then what they come to; what is assumed is called so."""
    verdict = "keeps up" if found.kept_up else "does NOT keep up: choose a larger `block`"
    table = Table(title=Text(f"{load.images:,} images on {load.devices} devices: {found.hours:,.1f} hours"))
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("from")
    for name, seconds in found.seconds.items():
        table.add_row(Text(name), f"{seconds / 3600:,.1f} h", f"{load.rates[name]:,.0f} draws/s of one device")
    table.add_section()
    each = f"{load.sigmas} sigmas, {load.n0} + {load.n:,.0f} draws an image"
    rows = (
        ("draws", f"{found.draws:.3g}", each),
        ("blocks, batches", f"{found.blocks:.3g}, {found.batches:.3g}", f"of {load.block} and {load.batch} draws"),
        ("start and end", span(found.startup + found.tail), f"assumed {measured.setup:g} s; the slowest batch"),
        ("overhead", f"{measured.overhead:.0%}", "assumed"),
        ("blocks/s, mean", f"{found.mean:,.0f}", "over the whole sweep"),
        ("blocks/s, peak", f"{found.peak:,.0f}", "the fastest purifier on all devices"),
        ("driver, blocks/s", f"{found.store:,.0f}", f"measured here, scheduler and store; it {verdict}"),
        ("to the driver", f"{found.incoming / 1e6:,.2f} MB/s", f"{measured.sent:,.0f} bytes a block, measured"),
        ("from the driver", f"{found.outgoing / 1e6:,.2f} MB/s", f"{measured.asked:,.0f} bytes a batch, measured"),
        ("database", megabytes(round(found.database)), f"{measured.stored:,.0f} bytes a block, measured"),
        (
            "shipped once",
            megabytes(round(found.shipped)),
            f"{megabytes(load.parameters)} of weights, {megabytes(load.pixels)} of images, {load.machines} machines",
        ),
    )
    for row in rows:
        table.add_row(*row)
    return table
