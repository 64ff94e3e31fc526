"use strict";
// The chart of the front: a metric against a cost.

/** The positions for a choice: levels (plain smoothing), marks with their intervals, and the steps of the front. */
function layout(choice, width, height) {
  const rows = chosenRows(choice);
  const onFront = front(rows, choice), best = new Set(onFront);
  const found = (row) => row.metrics[choice.metric];
  const value = (row) => found(row).value;
  const low = (row) => found(row).low ?? value(row), high = (row) => found(row).high ?? value(row);

  // Plain smoothing far below all others is only named, and the axis shows the others.
  const others = rows.filter((row) => row.family !== "none" && costOf(row, choice).value !== null);
  const [lowest, highest] = [d3.min(others, low), d3.max(others, high)];
  const isFar = (row) => row.family === "none" && choice.cost !== "seconds" && lowest - high(row) > 0.45 * (highest - lowest);
  const levels = rows.filter((row) => isLevel(row, choice) || isFar(row));
  const points = rows.filter((row) => !levels.includes(row) && costOf(row, choice).value !== null);
  const costs = points.map((row) => costOf(row, choice).value);
  const { x, free, ticks } = costAxis(costs, choice.cost, [FRAME.marginLeft, width - FRAME.marginRight]);

  const far = levels.length > 0 && levels.every(isFar);
  const framed = far ? points : rows;
  const shown = padded(d3.min(framed, low) ?? 0, d3.max(framed, high) ?? 1);
  const y = d3.scaleLinear(shown, [height - FRAME.marginBottom, FRAME.marginTop]);
  const marks = points.map((row, i) => ({
    row, best: best.has(row), value: value(row), low: low(row), high: high(row),
    x: x(costs[i] || free), y: y(value(row)), top: y(high(row)), bottom: y(low(row)),
  }));
  sideBySide(marks);
  for (const mark of marks) mark.at = x.invert(mark.x);

  const [bottom] = y.domain();
  let last = Math.max(d3.max(levels.filter((row) => best.has(row)), value) ?? 0, bottom);
  const steps = [];
  for (const mark of d3.sort(marks.filter((m) => m.best), (m) => m.value)) {
    steps.push([mark.at, last], [mark.at, mark.value]);
    last = mark.value;
  }
  if (steps.length) steps.push([x.domain()[1], last]);
  return { rows, onFront, levels, far, marks, steps, x, y, free, ticks };
}

/** Draws the chart; returns its rows, those on the front, and the number of rows without a cost. */
function drawFront(chart, choice) {
  const width = chart.clientWidth, height = Math.max(300, Math.min(430, width * 0.62));
  const { rows, onFront, levels, far, marks, steps, x, y, free, ticks } = layout(choice, width, height);
  const percent = choice.metric !== "acr";
  const found = (row) => row.metrics[choice.metric];
  const boxes = [
    ...marks.map((m) => [m.x - 7, m.y - 7, m.x + 7, m.y + 7]),
    ...marks.map((m) => [m.x - 2, m.top, m.x + 2, m.bottom]),
    ...d3.pairs(steps, ([x1, y1], [x2, y2]) => [x(x1) - 1, y(Math.max(y1, y2)) - 1, x(x2) + 1, y(Math.min(y1, y2)) + 1]),
  ];
  const right = width - FRAME.marginRight;
  for (const at of far ? [] : levels.map((row) => y(found(row).value)))
    boxes.push([0, at - 1, right, at + 1], [right - 170, at - 15, right, at]);
  const names = placeNames(marks, right, boxes);
  const where = far ? { frameAnchor: "bottom-right" } : { y: (row) => found(row).value, frameAnchor: "right" };
  const svg = Plot.plot({
    ...FRAME, width, height,
    ariaLabel: `${percent ? `Certified accuracy at radius ${choice.metric}` : "Average certified radius"} against ${COSTS[choice.cost]}`,
    x: { type: "log", domain: x.domain(), label: null },
    y: { domain: y.domain(), label: null },
    color: { type: "identity" },
    symbol: { type: "identity" },
    marks: [
      Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1, ticks: 6 }),
      Plot.axisY({ ticks: 6, tickFormat: (v) => (percent ? `${digits(100 * v)} %` : digits(v)), tickSize: 0 }),
      Plot.axisX(ticks, { ticks: 99, tickFormat: (v) => (v === free ? "0" : digits(v)), tickSize: 4 }),
      Plot.axisX([], { ...AXIS_NAME, label: COSTS[choice.cost] }),
      Plot.rect(far ? [] : levels, {
        y1: (row) => found(row).low, y2: (row) => found(row).high, fill: colour, fillOpacity: 0.15,
      }),
      Plot.ruleY(far ? [] : levels, { y: (row) => found(row).value, stroke: colour, strokeWidth: 1.2 }),
      Plot.text(levels, {
        ...NAME, ...where, textAnchor: "end", dy: -8, dx: -4, fill: ink,
        text: (row) => `${row.name}: ${found(row).words}${far ? ", below this axis" : ""}`,
      }),
      Plot.line(steps, { stroke: "var(--ink)", strokeOpacity: 0.55, strokeWidth: 1.2 }),
      Plot.ruleX(marks, {
        x: "at", y1: "low", y2: "high", strokeWidth: 1.6, stroke: (m) => colour(m.row), strokeOpacity: (m) => (m.best ? 0.9 : 0.45),
      }),
      Plot.dot(marks, {
        x: "at", y: "value", symbol: (m) => symbol(m.row), r: 5.5, className: "points", strokeWidth: 1.2,
        fill: (m) => (m.row.imported ? "var(--card)" : colour(m.row)), fillOpacity: (m) => (m.best || m.row.imported ? 1 : 0.55),
        stroke: (m) => (m.row.imported ? colour(m.row) : "var(--card)"),
      }),
      Plot.dot(marks.filter((m) => m.row.id === choice.use), { x: "at", y: "value", r: 10, stroke: "var(--ink)", strokeWidth: 1.5 }),
      ...names.map((m) => Plot.text([m], {
        ...NAME, x: "at", y: "value", dx: m.dx, dy: m.dy, textAnchor: m.anchor, text: (d) => d.row.name, fill: ink(m.row),
        fillOpacity: m.best ? 1 : 0.85,
      })),
    ],
  });
  chart.replaceChildren(svg);
  svg.setAttribute("role", "group");
  quieten(svg, ".points");
  const dots = svg.querySelectorAll(".points path, .points circle");
  follow(chart, svg, marks, dots, (row) => facts(row, choice));
  return { rows, best: onFront, unpriced: rows.length - levels.length - marks.length };
}
