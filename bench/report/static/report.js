"use strict";
// The controls of the page.

const $ = (id) => document.getElementById(id);

// The decision: one of the prepared answers. The chart of the front follows it.
const asked = () => record.choices[$("decision-radius").value]?.[$("decision-budget").value];

function decide() {
  $("answer").replaceChildren($(`answer-${asked()}`).content.cloneNode(true));
  if (!record.rows.length) return;
  $("front-metric").value = "accuracy";
  $("front-radius").selectedIndex = $("decision-radius").selectedIndex;
  if ($("best-radius")) {
    $("best-radius").value = $("front-radius").value;
    filter($("best-radius"));
  }
  const use = record.rows[record.uses[asked()]];
  if (use) $("front-sigma").value = use.sigma.words;
  showFront();
}

// The front.
const hidden = new Set();

function choice() {
  const metric = $("front-metric").value === "acr" ? "acr" : $("front-radius").value;
  return { metric, cost: $("front-cost").value, sigma: $("front-sigma").value, hidden, use: record.uses[asked()] };
}

const ENVELOPE = "Envelope: each purifier at the σ that is best on these test images, which is slightly optimistic. The split-half figures, with σ chosen on one half of the images and read on the other, are not.";

function certifierText(rows) {
  const certifiers = [...new Set(rows.map((row) => row.certifier))];
  if (certifiers.length < 2) return `ACR by ${certifiers.join()}.`;
  return `ACRs of different certifiers (${certifiers.join("; ")}) do not compare: there is no front.`;
}

function showFront() {
  const chosen = choice();
  $("front-radius").disabled = chosen.metric === "acr";
  const { rows, best, unpriced } = drawFront($("front-chart"), chosen);
  const words = [
    rows.length ? "" : "No purifier can certify this radius with these draws.",
    best.length ? `On the front, cheapest first: ${best.length > 1 ? "" : "only "}${names(best, chosen)}.` : "",
    chosen.metric === "acr" ? certifierText(rows) : "",
    chosen.sigma === "best" ? ENVELOPE : "",
    unpriced ? `Not shown: ${unpriced}, because their cost was not measured, or they certify nothing.` : "",
    rows.some((row) => row.id === chosen.use) ? "Ring: the decision above." : "",
    chosen.cost === "nfe" || chosen.cost === "gflops" ? "" : record.shared,
    "Bars: 95 % intervals. Marks that would cover each other stand side by side.",
  ];
  $("front-words").textContent = words.filter(Boolean).join(" ");
  $("front-table").replaceChildren(pointsTable(rows, best, chosen));
}

const nameOf = (row, { sigma }) => (sigma === "best" ? `${row.name} (σ = ${row.sigma.words})` : row.name);
const names = (rows, chosen) => rows.map((row) => nameOf(row, chosen)).join(", ");

const scope = (tag, i) => (tag === "th" ? { scope: "col" } : i ? {} : { scope: "row" });

function pointsTable(rows, best, chosen) {
  const table = element("table");
  const metric = chosen.metric === "acr" ? "ACR" : `certified at ${chosen.metric}`;
  const half = chosen.sigma === "best" ? ["split-half"] : [];
  const head = ["purifier", "σ", metric, ...half, "NFE", "ms", "GFLOPs per vote", "ms per vote", "s per certified image", "images", "on the front", "in resamples"];
  const line = (cells, tag) => {
    const row = element("tr");
    row.append(...cells.map((text, i) => element(i ? tag : "th", text, scope(tag, i))));
    return row;
  };
  table.createTHead().append(line(head, "th"));
  const body = table.createTBody();
  for (const row of rows) {
    const found = row.metrics[chosen.metric];
    const costs = [row.nfe.words, row.ms.words, row.gflops.words, row.joint.words, found.seconds.words, row.images];
    const onFront = [best.includes(row) ? "yes" : "no", found.front[chosen.sigma]?.[chosen.cost] ?? "–"];
    const fair = half.map(() => found.fair ?? "–");
    body.append(line([row.name, row.sigma.words, found.words, ...fair, ...costs, ...onFront], "td"));
  }
  return table;
}

// The curves.
const pinned = new Set();

function showCurves() {
  const { rows, point } = drawCurves($("curves-chart"), $("curves-sigma").value, pinned);
  $("curves-key").replaceChildren(...rows.map((row, i) => keyOf(row, () => point(i), () => point(null))));
}

function keyOf(row, on, off) {
  const button = element("button", "", { type: "button", "aria-pressed": pinned.has(row.id) });
  const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.innerHTML = '<line x1="0" y1="5" x2="26" y2="5" stroke-width="2.2"/>';
  line.setAttribute("width", 26);
  line.setAttribute("height", 10);
  line.setAttribute("aria-hidden", "true");
  line.firstChild.style.stroke = colour(row);
  line.firstChild.style.strokeDasharray = dash(row) ?? "";
  button.append(line, row.name);
  for (const name of ["pointerenter", "focus"]) button.addEventListener(name, on);
  for (const name of ["pointerleave", "blur"]) button.addEventListener(name, off);
  button.addEventListener("click", () => {
    pinned.has(row.id) ? pinned.delete(row.id) : pinned.add(row.id);
    const at = [...$("curves-key").children].indexOf(button);
    showCurves();
    $("curves-key").children[at].focus();
  });
  return button;
}

/** Selects the intervals that the page opens with: of the best purifier and of plain smoothing, at every sigma. */
function pinFirst() {
  for (const [, rows] of d3.group(record.rows.filter((row) => !row.imported), (row) => row.sigma.value)) {
    pinned.add(d3.greatest(rows, (row) => row.metrics.acr.value).id);
    for (const row of rows.filter((row) => !purifies(row))) pinned.add(row.id);
  }
}

// Tables.
function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const now = header.getAttribute("aria-sort");
  const down = now === "ascending" || (now === "none" && column > 0); // numbers: the largest first; names: from a to z
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => (column ? a - b : a.localeCompare(b));
  const [known, unknown] = [[], []];
  for (const row of body.rows) (value(row) === "" ? unknown : known).push(row);
  known.sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
  body.append(...known, ...unknown); // unknown values stay at the end
}

/** Shows the parts of a section that have the value of a select: a sigma, or what `data-by` names. */
function filter(select) {
  const by = select.dataset.by ?? "sigma";
  for (const part of select.closest("section").querySelectorAll(`[data-${by}]`))
    part.hidden = select.value !== "" && part.dataset[by] !== select.value;
}

// Wiring.
for (const id of ["decision-radius", "decision-budget"]) $(id).addEventListener("change", decide);
for (const select of document.querySelectorAll("[data-filters]")) {
  select.addEventListener("change", () => filter(select));
  filter(select);
}
for (const button of document.querySelectorAll(".sortable thead button"))
  button.addEventListener("click", () => sortBy(button.closest("th")));
if (record.rows.length) {
  pinFirst();
  for (const id of ["front-metric", "front-radius", "front-cost", "front-sigma"]) $(id).addEventListener("change", showFront);
  $("curves-sigma").addEventListener("change", showCurves);
  for (const button of document.querySelectorAll("[data-family]"))
    button.addEventListener("click", () => {
      const shown = hidden.has(button.dataset.family);
      shown ? hidden.delete(button.dataset.family) : hidden.add(button.dataset.family);
      button.setAttribute("aria-pressed", shown);
      showFront();
    });
  const parts = [showFront, showCurves];
  if (record.quality.metrics.length) {
    parts.push(showQuality);
    for (const name of ["metric", "against", "sigma"]) $(`quality-${name}`).addEventListener("change", showQuality);
  }
  const draw = () => parts.forEach((show) => show());
  let width = null;
  new ResizeObserver(() => {
    const now = $("front-chart").clientWidth;
    if (now && now !== width) draw();
    width = now || width;
  }).observe($("front-chart"));
  const onPaper = (wide) => () => {
    for (const chart of document.querySelectorAll(".chart")) chart.style.width = wide;
    draw();
  };
  addEventListener("beforeprint", onPaper("640px"));
  addEventListener("afterprint", onPaper(""));
}
