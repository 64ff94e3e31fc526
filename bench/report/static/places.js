"use strict";
// Positions in a chart, in pixels.

/** Moves marks sideways, as little as possible, if they or their intervals would cover each other. */
function sideBySide(marks) {
  const shifts = [0, ...d3.range(3, 60, 3).flatMap((shift) => [shift, -shift])];
  const placed = [];
  const free = (x, mark) => placed.every((other) => {
    const across = Math.abs(x - other.x), up = Math.abs(mark.y - other.y);
    const intervalsMeet = mark.top < other.bottom && other.top < mark.bottom;
    return across >= 13 || (up >= 13 && (across >= 6 || !intervalsMeet));
  });
  for (const mark of d3.sort(marks, (m) => m.x, (m) => m.y)) {
    mark.x += shifts.find((shift) => free(mark.x + shift, mark)) ?? 0;
    placed.push(mark);
  }
}

/** The ends of an axis, a little below the lowest and above the highest value. */
function padded(low, high) {
  const pad = Math.max(high - low, 0.02) * 0.08;
  return [Math.max(0, low - pad), high + pad];
}

/** A logarithmic axis of costs, its ticks, and the position (`free`) for a cost of 0. */
function costAxis(costs, cost, range) {
  const least = d3.min(costs.filter((c) => c > 0)) ?? 1, most = d3.max(costs) || 1;
  const free = costs.includes(0) ? least / 2.5 : null;
  const span = Math.max(Math.log10(most / (free ?? least)), 0.5);
  const domain = [(free ?? least) * 10 ** (-0.35 * span), most * 10 ** (0.35 * span)];
  const x = d3.scaleLog(domain, range);
  const round = cost === "nfe" && most <= 64 ? [1, 2, 4, 8, 16, 32, 64] : x.ticks(4);
  const from = free ? least * 0.99 : domain[0];
  return { x, free, ticks: [...(free ? [free] : []), ...round.filter((tick) => tick >= from && tick <= domain[1])] };
}

/** A logarithmic axis of distances, with room for names at both ends. */
function distanceAxis(values, range) {
  const least = d3.min(values.filter((v) => v > 0)) ?? 1, most = d3.max(values) || 1;
  const room = (most / least) ** 0.12 * 1.06;
  return d3.scaleLog([least / room, most * room], range);
}

/** Round numbers between two ends, at most `most`, as fine as possible: an axis may be shorter than a decade. */
function roundBetween([low, high], most) {
  const powers = d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1);
  const between = (steps) => powers.flatMap((k) => steps.map((step) => step * 10 ** k)).filter((v) => low <= v && v <= high);
  const finer = [[1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9], [1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]].map(between);
  return finer.find((ticks) => ticks.length <= most) ?? finer.at(-1);
}

/** Candidate places of a name: beside its mark, then above and below its interval. */
const placesOf = ({ y, top, bottom }) => [
  ...[0, -13, 13].flatMap((dy) => [[10, dy, "start"], [-10, dy, "end"]]),
  ...["middle", "start", "end"].flatMap((anchor) => [[0, top - y - 9, anchor], [0, bottom - y + 9, anchor]]),
];

/** Names for the marks that have room for one, those on the front first; `taken` are the boxes of other things. */
function placeNames(marks, width, taken) {
  const placed = [];
  for (const mark of d3.sort(marks, (mark) => !mark.best)) {
    const wide = mark.row.name.length * 6.3 + 4;
    for (const [dx, dy, anchor] of placesOf(mark)) {
      const left = mark.x + dx - { start: 0, middle: wide / 2, end: wide }[anchor];
      const box = [left, mark.y + dy - 7, left + wide, mark.y + dy + 7];
      if (left < 46 || box[2] > width || box[1] < 4) continue;
      if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      placed.push({ ...mark, dx, dy, anchor });
      break;
    }
  }
  return placed;
}
