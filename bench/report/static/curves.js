"use strict";
// Certified accuracy against radius.

/** Draws the curves of one sigma, with intervals for the `pinned` rows (ids). Returns the rows and a function that
 * highlights one of them. */
function drawCurves(chart, sigma, pinned) {
  const width = chart.clientWidth, height = Math.max(280, Math.min(420, width * 0.55));
  const rows = record.rows.filter((row) => row.sigma.words === sigma);
  const curves = rows.map((row) => {
    const { x, y, low, high } = record.curves[row.id];
    return x.map((radius, i) => ({ radius, y: y[i], low: low[i], high: high[i] }));
  });
  const largest = d3.max(rows.filter((row) => !row.imported), (row) => row.largest);
  const quoted = (record.published ?? []).filter((mark) => mark.sigma === sigma);
  const end = Math.max(d3.max(curves, (curve) => curve.at(-1).radius) || 1, d3.max(quoted, (mark) => mark.radius) ?? 0);
  const labels = [...new Set(quoted.map((mark) => mark.label))];
  const svg = Plot.plot({
    ...FRAME, width, height,
    ariaLabel: `Certified accuracy against radius at σ = ${sigma}`,
    x: { domain: [0, end * 1.02], label: null },
    y: { domain: [0, 100], label: null },
    color: { type: "identity" },
    symbol: { type: "identity" },
    marks: [
      Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1, ticks: 5 }),
      Plot.axisY({ ticks: 5, tickFormat: (v) => `${v} %`, tickSize: 0 }),
      Plot.axisX({ ...AXIS_NAME, ticks: 6, tickSize: 4, label: "radius (L2, pixels in [0, 1])" }),
      ...rows.map((row, i) => !pinned.has(row.id) ? null : Plot.areaY(curves[i], {
        x: "radius", y1: "low", y2: "high", curve: "step-before", fill: colour(row), fillOpacity: 0.17,
      })),
      ...rows.map((row, i) => Plot.line(curves[i], {
        x: "radius", y: "y", curve: "step-before", stroke: colour(row), strokeDasharray: dash(row), strokeWidth: 1.8,
        className: "curves",
      })),
      Plot.ruleX(quoted.filter((mark) => mark.low !== null), {
        x: "radius", y1: "low", y2: "high", stroke: "var(--imported)", strokeWidth: 1.3,
      }),
      Plot.dot(quoted, {
        x: "radius", y: "y", r: 4.5, symbol: (mark) => SYMBOLS[labels.indexOf(mark.label) % SYMBOLS.length],
        fill: "var(--card)", stroke: "var(--imported)", strokeWidth: 1.4, title: quotation, className: "quoted",
      }),
      Plot.ruleX(largest ? [largest] : [], { stroke: "var(--faint)", strokeDasharray: "1 3" }),
      Plot.text(largest ? [largest] : [], {
        ...NAME, x: (d) => d, frameAnchor: "top", textAnchor: "end", dx: -5, text: (d) => `largest: ${digits(d)}`, fill: "var(--soft)",
      }),
    ],
  });
  chart.replaceChildren(svg);
  svg.setAttribute("role", "img");
  quieten(svg);
  const tip = new Tip(chart);
  const lines = [...svg.querySelectorAll(".curves path")];
  const point = (near) => lines.forEach((line, i) => line.classList.toggle("dimmed", near !== null && i !== near));
  const hide = () => {
    point(null);
    tip.hide();
  };
  const at = (event) => {
    const [px, py] = d3.pointer(event, svg);
    const radius = svg.scale("x").invert(px), y = svg.scale("y");
    const steps = curves.map((curve) => curve[d3.bisector((step) => step.radius).left(curve, radius)]);
    const near = d3.least(d3.range(rows.length).filter((i) => steps[i]), (i) => Math.abs(y.apply(steps[i].y) - py));
    if (radius < 0 || near === undefined) return hide();
    point(near);
    tip.show(stepFacts(rows[near], steps[near], radius), px, y.apply(steps[near].y));
  };
  for (const name of ["pointermove", "pointerdown"]) svg.addEventListener(name, at);
  svg.addEventListener("pointerleave", hide);
  return { rows, point };
}

const quotation = ({ label, radius, y, low, high }) =>
  `${label}: ${y} % ${low === null ? "" : `[${low.toFixed(1)}, ${high.toFixed(1)}] `}at radius ${radius}`;

const stepFacts = (row, { y, low, high }, radius) => [
  `${row.name}, σ = ${row.sigma.words}`,
  `${y.toFixed(1)} % [${low.toFixed(1)}, ${high.toFixed(1)}] certified at radius ${radius.toFixed(2)}`,
  `NFE ${row.nfe.words} · ${row.ms.words} ms · ${row.images} images`,
];
