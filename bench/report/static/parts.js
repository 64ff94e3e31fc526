"use strict";
// Common parts of the charts. Figures and their texts are in the record: the page computes only positions.

const record = JSON.parse(document.getElementById("record").textContent);
const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye"];
const DASHES = [null, "7 3", "2 2.5", "8 2.5 2 2.5", "12 3", "5 2 1.5 2 1.5 2"];
const COSTS = {
  nfe: "network evaluations per image (NFE)",
  ms: "milliseconds per purification",
  gflops: "GFLOPs per vote, purifier and classifier",
  joint: "milliseconds per vote, purifier and classifier",
  seconds: "device-seconds per certified image",
};
const colour = (row) => `var(--${row.family})`;
const ink = (row) => `var(--${row.family}-ink)`;
const NAME = { fontSize: 11.5, stroke: "var(--card)", strokeWidth: 3, ariaHidden: true };
const dash = (row) => DASHES[row.dash % DASHES.length];
const symbol = (row) => SYMBOLS[row.marker % SYMBOLS.length];

/** An element with text: nothing from the record is read as markup. */
function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text ?? "";
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A tooltip at a position of a chart; its first line is strong. */
class Tip {
  constructor(chart) {
    this.chart = chart;
    this.box = element("div", "", { class: "tip", hidden: "" });
  }
  show(lines, x, y) {
    this.box.replaceChildren(element("strong", lines[0]), ...lines.slice(1).map((line) => element("span", line)));
    this.chart.append(this.box);
    this.box.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const left = x + 14 + width < this.chart.clientWidth ? x + 14 : x - 14 - width;
    this.box.style.left = `${Math.max(0, Math.min(left, this.chart.clientWidth - width))}px`;
    this.box.style.top = `${Math.max(0, y - height / 2)}px`;
  }
  hide() {
    this.box.hidden = true;
  }
}

/** Makes marks reachable by keys: Tab stops at one of them, arrow keys move between them, Escape hides the tooltip. */
function reachable(marks, labels, show, hide) {
  marks.forEach((mark, i) => {
    mark.setAttribute("tabindex", i ? "-1" : "0");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", labels[i]);
    mark.addEventListener("focus", () => show(i));
    mark.addEventListener("blur", hide);
    mark.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      const next = marks[(i + step + marks.length) % marks.length];
      mark.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
}

/** Shows a tooltip at the mark of the pointer, of a touch or of the keyboard; `tell` gives the lines for a row. */
function follow(chart, svg, drawn, dots, tell) {
  const marks = d3.sort(drawn.map((mark, i) => ({ ...mark, dot: dots[i] })), (mark) => mark.x);
  const tip = new Tip(chart);
  const point = (near) => marks.forEach((mark, i) => mark.dot.classList.toggle("active", i === near));
  const show = (i) => {
    point(i);
    tip.show(tell(marks[i].row), marks[i].x, marks[i].y);
  };
  const hide = () => {
    point(null);
    tip.hide();
  };
  reachable(marks.map((mark) => mark.dot), marks.map((mark) => tell(mark.row).join(", ")), show, hide);
  const at = (event) => {
    const [px, py] = d3.pointer(event, svg);
    const distance = (mark) => Math.hypot(mark.x - px, mark.y - py);
    const near = d3.leastIndex(marks, (a, b) => distance(a) - distance(b));
    near >= 0 && distance(marks[near]) < 40 ? show(near) : hide();
  };
  for (const name of ["pointermove", "pointerdown"]) svg.addEventListener(name, at);
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
}

/** Hides a chart from screen readers, because tables repeat it, except the group of its marks (selector `kept`). */
function quieten(svg, kept) {
  for (const group of svg.querySelectorAll(":scope g:not(:scope g g)")) {
    group.removeAttribute("aria-label");
    group.removeAttribute("aria-description");
    if (!group.matches(kept)) group.setAttribute("aria-hidden", "true");
  }
}

const digits = d3.format(".3~g");
const FRAME = { marginLeft: 50, marginRight: 12, marginTop: 14, marginBottom: 46, style: { fontSize: "12px" } };
const AXIS_NAME = { labelAnchor: "center", labelArrow: "none", labelOffset: 40 };
