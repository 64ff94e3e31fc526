"use strict";
// The rows for a choice of metric, radius, cost and sigma, and the front of these.

/** The rows of a choice: those of one sigma, or the best row of each purifier. */
function chosenRows({ sigma, metric, hidden }) {
  const rows = record.rows.filter((row) => row.metrics[metric] && !hidden.has(row.family));
  if (sigma !== "best") return rows.filter((row) => row.sigma.words === sigma);
  const best = d3.rollups(rows, (group) => d3.greatest(group, (row) => row.metrics[metric].value), (row) => row.series);
  return best.map(([, row]) => row);
}

/** The cost of a row, or null. Without a purifier there is no cost of purification, and against NFE and time of
 * purification plain smoothing is a level; the costs of a vote, with the classifier, are its own. */
const purifies = (row) => row.family !== "none" && row.family !== "own-classifier";
const ofPurification = (cost) => cost === "nfe" || cost === "ms";
const costOf = (row, { cost, metric }) =>
  cost === "seconds" ? row.metrics[metric].seconds : ofPurification(cost) && !purifies(row) ? { value: 0 } : row[cost];
const isLevel = (row, { cost }) => row.family === "none" && ofPurification(cost);

/** The Pareto front, cheapest first. Rows of other images than most do not compete, and average radii only if all are
 * of one certifier. */
function front(rows, choice) {
  const rivals = rows.filter((row) => row.competes);
  if (choice.metric === "acr" && new Set(rivals.map((row) => row.certifier)).size > 1) return [];
  const priced = rivals.map((row) => ({ row, cost: costOf(row, choice).value }));
  const value = ({ row }) => row.metrics[choice.metric].value;
  const kept = [];
  for (const one of d3.sort(priced.filter(({ cost }) => cost !== null), (a, b) => a.cost - b.cost || value(b) - value(a)))
    if (!kept.length || value(one) > value(kept.at(-1))) kept.push(one);
  return kept.map(({ row }) => row);
}

/** The lines of a tooltip. */
function facts(row, { metric, cost, sigma }) {
  const figure = row.metrics[metric];
  const share = figure.front[sigma]?.[cost];
  const meaning = metric === "acr" ? `ACR by ${row.certifier}` : `certified at radius ${metric}`;
  return [
    `${row.name}, σ = ${row.sigma.words}`,
    ...(row.parameters ? [`${row.purifier}: ${row.parameters}`] : []),
    `${figure.words} ${meaning}`,
    ...(sigma === "best" && figure.fair ? [`${figure.fair} if σ is chosen on one half of the images and read on the other`] : []),
    `NFE ${row.nfe.words} · ${row.ms.words} ms per purification`,
    `${row.gflops.value === null ? "" : `${row.gflops.words} GFLOPs, `}${row.joint.words} ms per vote`,
    ...(cost === "seconds" ? [`${figure.seconds.words} device-seconds per certified image`] : []),
    ...(share ? [`on the front in ${share} of resamples of the images`] : []),
    `${row.images} images${row.imported ? " · imported, radii only" : ""}`,
  ];
}
