"""Draw the picture of the idea, docs/images/idea.png."""

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "idea.png"
MARKS = {  # of models, by their name
    "an SVM": (0.64, 0.62, "o"),
    "a net": (0.82, 0.1, "s"),
    "a GPT": (0.2, 0.76, "^"),
}


def box(ax, place, size, text, colour):
    """Draw a box with a text in its middle."""
    ax.add_patch(
        mpl.patches.FancyBboxPatch(
            place,
            *size,
            boxstyle="round,pad=0.02,rounding_size=0.08",
            facecolor="white",
            edgecolor=colour,
            linewidth=2,
        )
    )
    middle = (place[0] + size[0] / 2, place[1] + size[1] / 2)
    ax.text(*middle, text, ha="center", va="center", fontsize=17)


def arrow(ax, start, end, colour):
    """Draw an arrow."""
    style = {"arrowstyle": "-|>", "linewidth": 2, "color": colour, "shrinkA": 4}
    ax.annotate("", xy=end, xytext=start, arrowprops=style)


def draw_space(ax):
    """Draw the space with models and the data set."""
    left, bottom, side = 7.0, 0.55, 2.9
    ax.add_patch(
        plt.Rectangle((left, bottom), side, side, facecolor="#F5F5F5", edgecolor=GREY)
    )
    ax.text(
        left + side / 2, bottom + side + 0.15, "one space", ha="center", fontsize=17
    )
    target = (left + 0.5 * side, bottom + 0.5 * side)
    ax.plot(*target, "*", color=ORANGE, markersize=22)
    ax.text(
        target[0],
        target[1] - 0.48,
        "the data set",
        ha="center",
        color=ORANGE,
        fontsize=16,
    )
    for name, (x, y, marker) in MARKS.items():
        x, y = left + x * side, bottom + y * side
        ax.plot(x, y, marker, color=BLUE, markersize=11)
        ax.text(x, y + 0.17, name, ha="center", color=BLUE, fontsize=16)


def main() -> None:
    figure, ax = plt.subplots(figsize=(12, 4.6), layout="constrained")
    ax.set(xlim=(-0.1, 12.6), ylim=(0.2, 4.2))
    ax.axis("off")
    box(ax, (0, 2.55), (2.7, 1.0), "models label\nunlabelled texts", BLUE)
    box(ax, (0, 0.6), (2.7, 1.0), "a data set has\nlabelled texts", ORANGE)
    box(ax, (3.9, 1.5), (2.0, 1.2), "one small\nsurrogate\nlearns both", GREEN)
    arrow(ax, (2.75, 3.05), (3.85, 2.3), BLUE)
    arrow(ax, (2.75, 1.1), (3.85, 1.9), ORANGE)
    arrow(ax, (5.95, 2.1), (6.95, 2.1), GREEN)
    draw_space(ax)
    arrow(ax, (9.95, 2.1), (10.55, 2.1), GREY)
    ranking = "ranking\n\n1  an SVM\n2  a GPT\n3  a net"
    box(ax, (10.6, 1.2), (1.9, 1.8), ranking, GREY)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
