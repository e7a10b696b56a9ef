"""What was measured and simulated, as tables and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from backends.collectives.mpi import SHORT
from benchmarks.epoch import ratio

from .machines import (
    CHAINERMN,
    H100,
    H100_PEAK,
    P100,
    P100_PEAK,
    RESNET_50,
    WIDTHS,
    Network,
    fully_connected,
    nodes_like_this,
    on_gpu,
)
from .model import FLOAT, Compute, Link, Machine, efficiencies, fitted

PROCESSES = [1 << power for power in range(11)]
#: Rows of all processes with strong scaling, in batches of one with weak scaling.
STRONG = 64
#: Of the sums along the tree CPUs make the first, GPUs the second up to 8 and the first beyond.
SUMS = {
    "tree": "along the tree, by halves",
    "by_slices": "along the tree, by slices",
    "plain": "allreduce in any order",
}


# ---- the model -------------------------------------------------------------------------------------------------------


def this_machine(of_processes: dict[str, Any], processes: int) -> Machine:
    """The model of the machine that was measured, made from messages and additions alone."""
    exchange = {int(size): median(seconds) for size, seconds in of_processes["messages"]["exchange"].items()}
    link = fitted([*exchange], [*exchange.values()])
    add = median(of_processes["messages"]["add"])
    return Machine("this machine", processes, link, link, add, "measured here")


def predictions(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """What the model of this machine says of the sums and steps that were measured, beside what these took."""
    found = []
    for name, of_processes in _by_processes(measured):
        size = int(name)
        machine, turns = this_machine(of_processes, size), max(size / measured["cores"], 1.0)
        for network in measured["asked"]["networks"]:
            taken = of_processes[network]
            n, steps = taken["n"], {key: median(seconds) for key, seconds in taken["steps"].items()}
            add_up = (machine.whole if n * FLOAT <= SHORT else machine.by_halves)(size, n)
            said = {
                "sum": (add_up, median(taken["sums"]["tree"])),
                "strong": (steps["one, a part"] * turns + add_up, steps["strong, tree"]),
                "weak": (steps["one"] * turns + add_up, steps["weak, tree"]),
            }
            for what, (model, seconds) in said.items():
                of = {"processes": size, "network": network, "what": what}
                found.append(of | {"model": model, "measured": seconds, "error": model / seconds - 1.0})
    return found


def simulated(measured: dict[str, Any]) -> dict[str, Any]:
    """Efficiencies of up to 1,024 processes, and how far the model is from what was measured."""
    wide = fully_connected(WIDTHS["wide"], 256)
    cases = [
        (H100, wide, on_gpu(wide, H100_PEAK)),
        (H100, RESNET_50, on_gpu(RESNET_50, H100_PEAK)),
        (P100, RESNET_50, on_gpu(RESNET_50, P100_PEAK)),
        *_on_cpus(measured),
    ]
    found = []
    for machine, network, compute in cases:
        for sums in SUMS:
            reached = efficiencies(machine, compute, network.parameters, network.rows, PROCESSES, sums)
            total = efficiencies(machine, compute, network.parameters, STRONG * network.rows, PROCESSES, sums)
            found.append(
                {
                    "machine": machine.name,
                    "source": machine.source,
                    "network": network.name,
                    "rows": network.rows,
                    "step": compute.seconds(network.rows),
                    "sums": sums,
                    "processes": PROCESSES,
                    "seconds": [getattr(machine, sums)(p, network.parameters) if p > 1 else 0.0 for p in PROCESSES],
                    "weak": reached["weak"],
                    "strong": total["strong"],
                }
            )
    return {"predictions": predictions(measured), "simulated": found}


def _on_cpus(measured: dict[str, Any]) -> Iterator[tuple[Machine, Network, Compute]]:
    """Many machines like this one, with the networks that were measured here."""
    for name, of_processes in _by_processes(measured):
        if int(name) > measured["cores"]:
            continue
        here = this_machine(of_processes, int(name))
        rows = measured["asked"]["batch"]
        for network in measured["asked"]["networks"]:
            whole, part = (median(of_processes[network]["steps"][key]) for key in ("one", "one, a part"))
            per_row = max(whole - part, 0.0) / (rows - rows // int(name))
            compute = Compute(max(whole - per_row * rows, 0.0), per_row)
            yield nodes_like_this(int(name), here.inside, here.add), fully_connected(WIDTHS[network], rows), compute


def _by_processes(measured: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, found) for name, found in measured.items() if name.isdigit()]


# ---- tables ----------------------------------------------------------------------------------------------------------


def text(made: dict[str, Any]) -> str:
    """All tables, in Markdown."""
    measured = made["measured"]
    return "\n".join(
        [
            *of_sums(measured),
            *of_steps(measured),
            *of_blocks(measured),
            *of_predictions(made["predictions"], measured),
            *of_simulated(made["simulated"]),
        ]
    )


def of_sums(measured: dict[str, Any]) -> list[str]:
    asked = measured["asked"]
    lines = [
        "# What many processes cost, and how far they go",
        "",
        "## Measured: the sum of the gradients",
        "",
        "Seconds of a sum over all processes of as many floats as the network has parameters. The step is that of the "
        f"processes on {asked['batch']} rows in all (strong) or each (weak), with either sum.",
        "",
        "| processes | network | floats | tree, us | allreduce, us | tree / allreduce | step, strong | step, weak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of_processes in _by_processes(measured):
        for network in asked["networks"]:
            taken = of_processes[network]
            sums, steps = taken["sums"], taken["steps"]
            cells = [
                name,
                "-".join(map(str, WIDTHS[network])),
                f"{taken['n']:,}",
                microseconds(sums["tree"]),
                microseconds(sums["allreduce"]),
                over(sums["tree"], sums["allreduce"]),
                *(over(steps[f"{kind}, tree"], steps[f"{kind}, allreduce"]) for kind in ("strong", "weak")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    engines = ", ".join(dict.fromkeys(of_processes["engine"] for _, of_processes in _by_processes(measured)))
    return [
        *lines,
        "",
        f"Ratios: medians (range) of {asked['rounds']} turns. {engines}; {measured['machine']}; load "
        f"{measured['load'][0]:.1f} before and {measured['load'][1]:.1f} after. More processes than cores take turns.",
        "",
    ]


def of_steps(measured: dict[str, Any]) -> list[str]:
    lines = [
        "## Measured: training steps",
        "",
        "How many times as many rows a second as one process: on its batch (strong) and on as many of them as there "
        "are processes (weak). The ideal is the number of processes, or of cores where these are fewer.",
        "",
        "| processes | network | one process, us a step | strong | weak |",
        "|---|---|---|---|---|",
    ]
    for name, of_processes in _by_processes(measured):
        for network in measured["asked"]["networks"]:
            steps = of_processes[network]["steps"]
            weak = [int(name) * seconds for seconds in steps["one"]]
            cells = [
                name,
                "-".join(map(str, WIDTHS[network])),
                microseconds(steps["one"]),
                over(steps["one"], steps["strong, tree"]),
                over(weak, steps["weak, tree"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def of_blocks(measured: dict[str, Any]) -> list[str]:
    lines = [
        "## Measured: blocks on one process",
        "",
        f"Steps of one process on {measured['asked']['batch']} rows, in blocks as so many processes would have them.",
        "",
        "| network | plain step, us | 2 blocks | 4 blocks |",
        "|---|---|---|---|",
    ]
    for network, taken in measured["blocks"].items():
        cells = [over(taken[count], taken["1"]) for count in ("2", "4")]
        lines.append(f"| {'-'.join(map(str, WIDTHS[network]))} | {microseconds(taken['1'])} | {' | '.join(cells)} |")
    return [*lines, ""]


def of_predictions(predicted: Sequence[dict[str, Any]], measured: dict[str, Any]) -> list[str]:
    lines = [
        "## The model of this machine beside what was measured",
        "",
        "Made from exchanges of messages and from additions alone, and from steps of one process.",
        "",
        "| processes | network | what | model, us | measured, us | error |",
        "|---|---|---|---|---|---|",
    ]
    for one in predicted:
        network = "-".join(map(str, WIDTHS[one["network"]]))
        lines.append(
            f"| {one['processes']} | {network} | {one['what']} | {1e6 * one['model']:,.0f} | "
            f"{1e6 * one['measured']:,.0f} | {one['error']:+.0%} |"
        )
    errors = [abs(one["error"]) for one in predicted]
    links = []
    for name, of_processes in _by_processes(measured):
        link = this_machine(of_processes, int(name)).inside
        links.append(f"{name} processes {1e6 * link.latency:.1f} us and {gigabytes(link)} GB/s")
    return [
        *lines,
        "",
        f"The error is {median(errors):.0%} in the median and {max(errors):.0%} at most. An exchange takes, among "
        f"{'; '.join(links)}.",
        "",
    ]


def of_simulated(cases: Sequence[dict[str, Any]]) -> list[str]:
    shown = [p for p in (2, 8, 16, 64, 128, 512, 1024) if p in PROCESSES]
    lines = [
        "## Simulated: up to 1,024 processes",
        "",
        "**No GPU has run this**, nor have more processes than above: these are figures of a model. Nothing is "
        "computed while gradients are added up. Parts of the ideal; weak scaling, with the rows of one process, and "
        f"strong scaling, with {STRONG} times as many in all.",
        "",
    ]
    heads = dict.fromkeys((case["machine"], case["network"]) for case in cases)
    for machine, network in heads:
        own = [case for case in cases if (case["machine"], case["network"]) == (machine, network)]
        lines += [
            f"{machine}: {network}, {own[0]['rows']} rows on each process, {1e3 * own[0]['step']:.3g} ms a step "
            "without any sum:",
            "",
            f"| | sum | {' | '.join(f'{p:,}' for p in shown)} |",
            f"|---|---|{'---|' * len(shown)}",
        ]
        for kind in ("weak", "strong"):
            for case in own:
                cells = [f"{case[kind][PROCESSES.index(p)]:.0%}" for p in shown]
                lines.append(f"| {kind} | {SUMS[case['sums']]} | {' | '.join(cells)} |")
        for case in own:
            cells = [f"{1e6 * case['seconds'][PROCESSES.index(p)]:,.0f}" for p in shown]
            lines.append(f"| us | {SUMS[case['sums']]} | {' | '.join(cells)} |")
        lines += ["", f"From: {own[0]['source']}.", ""]
    processes, reached = CHAINERMN
    return [
        *lines,
        f"Published: ChainerMN, ResNet-50 on {processes} GPUs, {reached:.0%} (T. Akiba, K. Fukuda, S. Suzuki, 2017, "
        "arXiv:1710.11351). ResNet-50 is simulated from its size alone; xpnet does not train it.",
        "",
    ]


def microseconds(seconds: Sequence[float]) -> str:
    return f"{1e6 * median(seconds):,.0f}"


def gigabytes(link: Link) -> str:
    return f"{1e-9 / link.per_byte:.1f}" if link.per_byte else "any number of"


def over(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of the ratios of turns, and their range without the largest and the least where there are many."""
    ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
    inner = ratios[1:-1] if len(ratios) >= 7 else ratios
    return f"{ratio(mine, theirs):.2f} ({inner[0]:.2f} to {inner[-1]:.2f})"


# ---- the picture -----------------------------------------------------------------------------------------------------


def write_picture(made: dict[str, Any], path: Path) -> None:
    """Efficiencies of weak and strong scaling: lines are simulated, marks measured or published."""
    from nn.report import plots

    figure = plots.new_figure(11.0, 5.2)
    styles = ["-", "--", ":"]
    colours = ["C0", "C1", "C2", "C3", "C4", "C5"]
    heads = [*dict.fromkeys((case["machine"], case["network"]) for case in made["simulated"])]
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("weak", "strong"), strict=True):
        for case in made["simulated"]:
            head = case["machine"], case["network"]
            axes.semilogx(
                case["processes"],
                [100 * part for part in case[kind]],
                styles[[*SUMS].index(case["sums"])],
                color=colours[heads.index(head) % len(colours)],
                base=2,
                linewidth=1.2,
                label=f"{head[1]}, {head[0].partition(',')[0]}" if case["sums"] == "tree" else None,
            )
        if kind == "weak":  # what is measured of strong scaling has a smaller batch: see the table
            for size, network, part in measured_efficiencies(made["measured"]):
                axes.plot(size, 100 * part, "ko", markersize=5)
                axes.annotate(network, (size, 100 * part), (5, -3), textcoords="offset points", fontsize=7)
            processes, reached = CHAINERMN
            axes.plot(processes, 100 * reached, "k*", markersize=11)
            axes.annotate("ChainerMN, ResNet-50, published 2017", (processes, 100 * reached), (-120, 62),
                          textcoords="offset points", fontsize=8, arrowprops={"arrowstyle": "-"})  # fmt: skip
        axes.set_xticks(PROCESSES, [f"{p:,}" for p in PROCESSES], fontsize=8)
        axes.set_title(f"{kind} scaling")
        axes.set_xlabel("processes (GPUs)")
        axes.set_ylim(0, 112)
        axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize=7, loc="lower left")
    figure.axes[0].set_ylabel("part of the ideal, %")
    figure.suptitle(
        "Lines: simulated, no GPU has run this (solid: tree by halves, dashed: tree by slices, dotted: allreduce in "
        "any order). Dots: measured here, on as many cores.",
        fontsize=9,
    )
    plots.write_picture(figure, path)


def measured_efficiencies(measured: dict[str, Any]) -> Iterator[tuple[int, str, float]]:
    """Weak scaling as measured on as many cores as processes: their number, the network, the part of the ideal."""
    for name, of_processes in _by_processes(measured):
        size = int(name)
        for network in measured["asked"]["networks"]:
            steps = of_processes[network]["steps"]
            if size <= measured["cores"]:
                yield size, network, ratio(steps["one"], steps["weak, tree"])
