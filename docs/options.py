"""Print docs/options.md, the page of all options, from their table: `make docs`."""

from itertools import groupby

from v_diffusion.job.options import TABLE
from v_diffusion.job.script import SCRIPTS


def page() -> str:
    """Return the page."""
    lines = [
        "# Options",
        "",
        "All options of the scripts and their defaults. An empty field is a script without the",
        "option, a dash an option without a default. The options of the first two sections are",
        "also keys of a job file's lines and fields of a `Job`.",
        "",
        "This page is made from the table in `v_diffusion/job/options.py` by `make docs`.",
    ]
    for name, rows in groupby(TABLE, key=lambda row: row.group):
        lines += ["", f"## {name.capitalize()}", ""]
        lines += [f"| option | meaning | {' | '.join(SCRIPTS)} |", "|---|---|---|---|---|"]
        for row in rows:
            flags = ", ".join(f"`{flag}`" for flag in row.flags) or f"`{row.name}`"
            there = [script if script in row.scripts else None for script in SCRIPTS.values()]
            defaults = [(row.default_in(script) or "-") if script else "" for script in there]
            lines.append(f"| {flags} | {row.help} | {' | '.join(defaults)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
