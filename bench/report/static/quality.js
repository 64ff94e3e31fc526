"use strict";
// The chart of robustness against the distances of purified to clean images.

/** Draws a metric of robustness against a distance; returns the rows of the chart. */
function drawQuality(chart, { metric, against, sigma }) {
  const width = chart.clientWidth, height = Math.max(280, Math.min(400, width * 0.55));
  const kind = record.quality.metrics.find((one) => one.name === metric);
  const far = (row) => record.quality.points[row.id][metric], reached = (row) => row.metrics[against];
  const rows = record.rows.filter(
    (row) => row.sigma.words === sigma && purifies(row) && far(row) && reached(row),
  );
  const ends = ({ value, low, high }) => [low ?? value, high ?? value];
  const span = (values) => padded(d3.min(values, ([low]) => low) ?? 0, d3.max(values, ([, high]) => high) ?? 1);
  const right = width - FRAME.marginRight;
  const x = distanceAxis(rows.map((row) => ends(far(row))).flat(), [FRAME.marginLeft, right]);
  const y = d3.scaleLinear(span(rows.map((row) => ends(reached(row)))), [height - FRAME.marginBottom, FRAME.marginTop]);
  const inside = (distance) => Math.max(distance, x.domain()[0]); // a logarithmic axis cannot show 0
  const marks = rows.map((row) => {
    const [left, end] = ends(far(row)).map(inside), [low, high] = ends(reached(row)), at = inside(far(row).value);
    const place = { x: x(at), y: y(reached(row).value), top: y(high), bottom: y(low) };
    return { row, best: false, at, value: reached(row).value, left, end, low, high, ...place };
  });
  const boxes = marks.flatMap((m) => [
    [m.x - 7, m.y - 7, m.x + 7, m.y + 7], [m.x - 1, m.top, m.x + 1, m.bottom], [x(m.left), m.y - 1, x(m.end), m.y + 1],
  ]);
  const percent = against !== "acr";
  const svg = Plot.plot({
    ...FRAME, width, height,
    ariaLabel: `${percent ? `Certified accuracy at radius ${against}` : "Average certified radius"} against ${kind.title}`,
    x: { type: "log", domain: x.domain(), label: null },
    y: { domain: y.domain(), label: null },
    color: { type: "identity" },
    symbol: { type: "identity" },
    marks: [
      Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1, ticks: 6 }),
      Plot.axisY({ ticks: 6, tickFormat: (v) => (percent ? `${digits(100 * v)} %` : digits(v)), tickSize: 0 }),
      Plot.axisX(roundBetween(x.domain(), width < 500 ? 4 : 8), { ticks: 99, tickFormat: digits, tickSize: 4 }),
      Plot.axisX([], { ...AXIS_NAME, label: `${kind.title}${kind.unit ? ` (${kind.unit})` : ""}` }),
      Plot.ruleX(marks, { x: "at", y1: "low", y2: "high", strokeWidth: 1.4, stroke: (m) => colour(m.row), strokeOpacity: 0.5 }),
      Plot.ruleY(marks, { y: "value", x1: "left", x2: "end", strokeWidth: 1.4, stroke: (m) => colour(m.row), strokeOpacity: 0.5 }),
      Plot.dot(marks, {
        x: "at", y: "value", symbol: (m) => symbol(m.row), r: 5.5, className: "points", strokeWidth: (m) => (far(m.row).trained ? 1.6 : 1.2),
        fill: (m) => (far(m.row).trained ? "var(--card)" : colour(m.row)), stroke: (m) => (far(m.row).trained ? colour(m.row) : "var(--card)"),
      }),
      ...placeNames(marks, right, boxes).map((m) => Plot.text([m], {
        ...NAME, x: "at", y: "value", dx: m.dx, dy: m.dy, textAnchor: m.anchor, text: (d) => d.row.name, fill: ink(m.row),
      })),
    ],
  });
  chart.replaceChildren(svg);
  svg.setAttribute("role", "group");
  quieten(svg, ".points");
  follow(chart, svg, marks, svg.querySelectorAll(".points path, .points circle"), (row) => [
    `${row.name}, σ = ${row.sigma.words}`,
    `${far(row).words} ${kind.title}${far(row).trained ? ", which its network was trained to lower" : ""}`,
    `${reached(row).words} ${percent ? `certified at radius ${against}` : `ACR by ${row.certifier}`}`,
    `NFE ${row.nfe.words} · ${row.ms.words} ms per purification`,
  ]);
  return rows;
}

function showQuality() {
  const [metric, against, sigma] = ["metric", "against", "sigma"].map((name) => $(`quality-${name}`).value);
  const rows = drawQuality($("quality-chart"), { metric, against, sigma });
  const kind = record.quality.metrics.find((one) => one.name === metric);
  const rank = record.quality.ranks[metric][sigma]?.[against];
  const hollow = rows.some((row) => record.quality.points[row.id][metric].trained);
  const words = [
    `Model: ${kind.judge}.`,
    rank ? `Rank correlation (Spearman): ${rank}.` : "",
    kind.comparable ? "" : "The runs differ in model, images or draws: their marks do not compare.",
    hollow ? "Hollow: its network was trained to lower this distance." : "",
    "Lower distances are better; their axis is logarithmic. Plain smoothing purifies nothing and is left out. Bars: 95 % intervals.",
  ];
  $("quality-words").textContent = rows.length ? words.filter(Boolean).join(" ") : "Nothing to show at this radius.";
}
