"use strict";
// Which rows a choice of metric, radius, cost and sigma shows, and which of them are on the front.

/** The rows that a choice shows: those of one sigma, or of each purifier the one that is best. */
function chosenRows({ sigma, metric, hidden }) {
  const rows = record.rows.filter((row) => row.metrics[metric] && !hidden.has(row.family));
  if (sigma !== "best") return rows.filter((row) => row.sigma.words === sigma);
  const best = d3.rollups(rows, (kin) => d3.greatest(kin, (row) => row.metrics[metric].value), (row) => row.series);
  return best.map(([, row]) => row);
}

/** What a row costs, or null. Plain smoothing purifies nothing: beside network evaluations and time it is a level. */
const costOf = (row, { cost, metric }) => (cost === "seconds" ? row.metrics[metric].seconds : row[cost]);
const isLevel = (row, { cost }) => row.family === "none" && cost !== "seconds";

/** The front, cheapest first: nothing that costs as much or less is better. Only what was counted here competes, and
 * only average radii of one certifier. */
function front(rows, choice) {
  const counted = rows.filter((row) => !row.imported);
  const rivals = counted.length ? counted : rows;
  if (choice.metric === "acr" && new Set(rivals.map((row) => row.certifier)).size > 1) return [];
  const priced = rivals.map((row) => ({ row, cost: isLevel(row, choice) ? 0 : costOf(row, choice).value }));
  const value = ({ row }) => row.metrics[choice.metric].value;
  const kept = [];
  for (const one of d3.sort(priced.filter(({ cost }) => cost !== null), (a, b) => a.cost - b.cost || value(b) - value(a)))
    if (!kept.length || value(one) > value(kept.at(-1))) kept.push(one);
  return kept.map(({ row }) => row);
}

/** What is known of a row beside a metric, as lines. */
function facts(row, { metric, cost, sigma }) {
  const found = row.metrics[metric];
  const share = found.front[sigma]?.[cost];
  const what = metric === "acr" ? `ACR by ${row.certifier}` : `certified at radius ${metric}`;
  return [
    `${row.name}, σ = ${row.sigma.words}`,
    ...(row.parameters ? [`${row.purifier}: ${row.parameters}`] : []),
    `${found.words} ${what}`,
    ...(sigma === "best" && found.fair ? [`${found.fair} where half of the images choose σ and the others read it`] : []),
    `NFE ${row.nfe.words} · ${row.ms.words} ms per purification`,
    ...(cost === "seconds" ? [`${found.seconds.words} device-seconds per certified image`] : []),
    ...(share ? [`on the front in ${share} of resamples of the images`] : []),
    `${row.images} images${row.imported ? " · imported, radii only" : ""}`,
  ];
}
